"""The actions of the window as data, from which keys, buttons and help are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QKeyEvent

from prefrl.feedback.kinds import Choice, FeedbackKind

Perform = Callable[["Action"], None]


class Action(NamedTuple):
    """An action that a key and a button trigger."""

    key: Qt.Key
    sign: str
    """Label of the key."""
    name: str
    """Label of the button."""
    does: str
    method: str
    """Name of the window's method."""
    arguments: tuple[Any, ...] = ()
    says: bool = False
    """Whether it changes stored data, so that accidental repeats must be ignored."""


_KEY = Qt.Key
UNDO = Action(_KEY.Key_Backspace, "⌫", "Undo", "undo your last answer (also Ctrl+Z)", "undo", says=True)
CLOSE = Action(_KEY.Key_Q, "Ctrl+Q", "Close", "close the window; the run continues", "close")
FLAG = Action(_KEY.Key_X, "X", "Broken clip", "a clip is broken: it will not be asked again", "flag", says=True)
FINISH = Action(_KEY.Key_F, "F", "Finish", "end labelling for everyone, with the labels so far", "finish")
PLAYBACK = (
    Action(_KEY.Key_Space, "Space", "Pause", "pause or resume", "pause"),
    Action(_KEY.Key_Comma, ",", "Step back", "pause and go one frame back", "step", (-1,)),
    Action(_KEY.Key_Period, ".", "Step forward", "pause and go one frame forward", "step", (1,)),
    Action(_KEY.Key_BracketLeft, "[", "Slower", "play slower", "speed", (-1,)),
    Action(_KEY.Key_BracketRight, "]", "Faster", "play faster", "speed", (1,)),
)
OTHERS = (
    UNDO,
    *PLAYBACK,
    FLAG,
    Action(_KEY.Key_D, "D", "Dark", "dark or light theme", "theme"),
    FINISH,
    Action(_KEY.Key_H, "H", "Help", "show this help", "help"),
)
SCROLLS = (
    Action(_KEY.Key_PageDown, "Page ↓", "Scroll on", "scroll a long instruction", "page", (1,)),
    Action(_KEY.Key_PageUp, "Page ↑", "Scroll back", "scroll it back", "page", (-1,)),
)
_WITH_CONTROL = {int(_KEY.Key_Z): UNDO, int(_KEY.Key_Q): CLOSE}

_PLACES = {
    **{n + 1: str(n) for n in range(1, 10)},
    16: "Q",
    26: "[",
    27: "]",
    32: "D",
    33: "F",
    35: "H",
    44: "Z",
    45: "X",
    51: ",",
    52: ".",
}
"""Scan codes of keys on Linux and Windows, with their letters and digits on a Latin layout."""
_X_OFFSET = 8
"""Offset of scan codes under X11 and Wayland."""
_SPECIAL = 0x01000000
"""Key codes from here on are special keys such as arrows."""
_IGNORED = Qt.KeyboardModifier.KeypadModifier | Qt.KeyboardModifier.GroupSwitchModifier
"""Modifiers to ignore: arrows on the keypad, and brackets that need AltGr."""


class KeyMap:
    """Actions by key."""

    def __init__(self, actions: Iterable[Action], with_control: Mapping[int, Action]) -> None:
        """Create the map.

        Args:
            actions: Actions whose keys are pressed alone.
            with_control: Actions of letters that are pressed together with Ctrl.
        """
        self.by_key = {int(action.key): action for action in actions}
        self._with_control = with_control
        self._aliases = {int(_KEY.Key_Enter): int(_KEY.Key_Return)}

    def action_of(self, event: QKeyEvent) -> Action | None:
        """The action of a key, if any."""
        modifiers = event.modifiers() & ~_IGNORED
        if modifiers == Qt.KeyboardModifier.ControlModifier:
            return self._with_control.get(self._letter(event))
        return None if modifiers else self.by_key.get(self._letter(event))

    def _letter(self, event: QKeyEvent) -> int:
        """The key code. On layouts without Latin letters, that of the key at the same position on a Latin layout."""
        key = self._aliases.get(event.key(), event.key())
        if key in self.by_key or key >= _SPECIAL or ord("A") <= key <= ord("Z"):
            return key
        place = event.nativeScanCode() - (0 if QGuiApplication.platformName() == "windows" else _X_OFFSET)
        return ord(_PLACES[place]) if place in _PLACES else key


class Keys(KeyMap):
    """The keys for one feedback kind."""

    def __init__(self, kind: FeedbackKind) -> None:
        marks = (_action(choice, "mark") for choice in kind.marks)
        self.answers = (*marks, *(_action(choice, "answer", says=True) for choice in kind.choices))
        self.of_a_query = (*self.answers, *PLAYBACK, FLAG)
        """Actions that need a current query."""
        super().__init__((*self.answers, *OTHERS, *SCROLLS), _WITH_CONTROL)
        self.help = "".join(
            f"<tr><td align=center><b>&nbsp;{action.sign}&nbsp;</b></td><td>{action.does}</td></tr>"
            for action in (*self.by_key.values(), CLOSE)
        )


def _action(choice: Choice, method: str, *, says: bool = False) -> Action:
    key = getattr(_KEY, f"Key_{choice.key}")
    return Action(key, choice.sign, choice.name, choice.does, method, (choice.value,), says=says)
