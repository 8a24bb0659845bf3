"""What a person can do, as data: from it come the keys, the buttons and the help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QKeyEvent

from prefrl.feedback.kinds import Choice, FeedbackKind

Perform = Callable[["Action"], None]


class Action(NamedTuple):
    """Something that a key and a button do."""

    key: Qt.Key
    sign: str
    """The key, as it is written."""
    name: str
    """The button's."""
    does: str
    method: str
    """Of the window."""
    arguments: tuple[Any, ...] = ()
    says: bool = False
    """Whether it changes what is stored of a pair, so that a second press must not count by mistake."""


_KEY = Qt.Key
UNDO = Action(_KEY.Key_Backspace, "⌫", "Undo", "take back what you said last (also Ctrl+Z)", "undo", says=True)
CLOSE = Action(_KEY.Key_Q, "Ctrl+Q", "Close", "close the window; the run goes on", "close")
FLAG = Action(_KEY.Key_X, "X", "Broken clip", "a clip is broken: the pair is not asked again", "flag", says=True)
FINISH = Action(_KEY.Key_F, "F", "Finish", "end labelling for everyone, with the labels so far", "finish")
PLAYBACK = (
    Action(_KEY.Key_Space, "Space", "Pause", "pause, or play on", "pause"),
    Action(_KEY.Key_Comma, ",", "Step back", "pause, and one frame back", "step", (-1,)),
    Action(_KEY.Key_Period, ".", "Step on", "pause, and one frame on", "step", (1,)),
    Action(_KEY.Key_BracketLeft, "[", "Slower", "play slower", "speed", (-1,)),
    Action(_KEY.Key_BracketRight, "]", "Faster", "play faster", "speed", (1,)),
)
OTHERS = (
    UNDO,
    *PLAYBACK,
    FLAG,
    Action(_KEY.Key_D, "D", "Dark", "dark, or light", "theme"),
    FINISH,
    Action(_KEY.Key_H, "H", "Help", "this help", "help"),
)
SCROLLS = (
    Action(_KEY.Key_PageDown, "Page ↓", "Scroll on", "scroll a long instruction", "page", (1,)),
    Action(_KEY.Key_PageUp, "Page ↑", "Scroll back", "scroll it back", "page", (-1,)),
)
_WITH_CONTROL = {int(_KEY.Key_Z): UNDO, int(_KEY.Key_Q): CLOSE}

_PLACES = {16: "Q", 26: "[", 27: "]", 32: "D", 33: "F", 35: "H", 44: "Z", 45: "X", 51: ",", 52: "."}
"""Where keys are on the keyboard, as Linux and Windows number them, and what a Latin layout has there."""
_X_OFFSET = 8
"""X11 and Wayland count them from here."""
_SPECIAL = 0x01000000
"""Key codes from here on are keys without a letter, arrows for example."""
_IGNORED = Qt.KeyboardModifier.KeypadModifier | Qt.KeyboardModifier.GroupSwitchModifier
"""Arrows of the keypad are arrows; brackets that need AltGr are brackets."""


class Keys:
    """The keys, for queries of one kind."""

    def __init__(self, kind: FeedbackKind) -> None:
        self.answers = tuple(_answer(choice) for choice in kind.choices)
        self.of_a_query = (*self.answers, *PLAYBACK, FLAG)
        """What does nothing where nothing is asked."""
        self.by_key = {int(action.key): action for action in (*self.answers, *OTHERS, *SCROLLS)}
        self.help = "".join(
            f"<tr><td align=center><b>&nbsp;{action.sign}&nbsp;</b></td><td>{action.does}</td></tr>"
            for action in (*self.by_key.values(), CLOSE)
        )

    def action_of(self, event: QKeyEvent) -> Action | None:
        """What a key means; with Ctrl, Alt, Shift or Super it is none of ours, but for Ctrl+Z and Ctrl+Q."""
        modifiers = event.modifiers() & ~_IGNORED
        if modifiers == Qt.KeyboardModifier.ControlModifier:
            return _WITH_CONTROL.get(self._letter(event))
        return None if modifiers else self.by_key.get(self._letter(event))

    def _letter(self, event: QKeyEvent) -> int:
        """The key's code; where the layout has no Latin letter there, that of the key at its place on a Latin one."""
        key = event.key()
        if key in self.by_key or key >= _SPECIAL or ord("A") <= key <= ord("Z"):
            return key
        place = event.nativeScanCode() - (0 if QGuiApplication.platformName() == "windows" else _X_OFFSET)
        return ord(_PLACES[place]) if place in _PLACES else key


def _answer(choice: Choice) -> Action:
    key = getattr(_KEY, f"Key_{choice.key}")
    return Action(key, choice.sign, choice.name, choice.does, "answer", (choice.value,), says=True)
