"""What a person can do, as data: from it come the keys, the buttons and the help."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QHBoxLayout, QPushButton

from clip_viewer.theme import enlarge
from prefrl.types import Judgement

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


_KEY = Qt.Key
ANSWERS = (
    Action(_KEY.Key_Left, "←", "Left", "the left clip is better", "answer", (Judgement.LEFT,)),
    Action(_KEY.Key_Up, "↑", "Equal", "they are equally good", "answer", (Judgement.EQUAL,)),
    Action(
        _KEY.Key_Down,
        "↓",
        "Can't tell",
        "can't tell (is asked no more, and is no label)",
        "answer",
        (Judgement.INCOMPARABLE,),
    ),
    Action(_KEY.Key_Right, "→", "Right", "the right clip is better", "answer", (Judgement.RIGHT,)),
)
OTHERS = (
    Action(_KEY.Key_Backspace, "⌫", "Undo", "take the last answer back", "undo"),
    Action(_KEY.Key_Space, "Space", "Pause", "pause, or play on", "pause"),
    Action(_KEY.Key_Comma, ",", "Step back", "pause, and one frame back", "step", (-1,)),
    Action(_KEY.Key_Period, ".", "Step on", "pause, and one frame on", "step", (1,)),
    Action(_KEY.Key_BracketLeft, "[", "Slower", "play slower", "speed", (-1,)),
    Action(_KEY.Key_BracketRight, "]", "Faster", "play faster", "speed", (1,)),
    Action(_KEY.Key_X, "X", "Broken clip", "a clip is broken: the pair is asked no more", "flag"),
    Action(_KEY.Key_D, "D", "Dark", "dark, or light", "theme"),
    Action(_KEY.Key_F, "F", "Finish", "ask no more: the run ends with the labels there are", "finish"),
    Action(_KEY.Key_H, "H", "Help", "this help", "help"),
)
BY_KEY = {action.key: action for action in (*ANSWERS, *OTHERS)}
HELP = "".join(
    f"<tr><td align=center><b>&nbsp;{sign}&nbsp;</b></td><td>{does}</td></tr>"
    for sign, does in [(action.sign, action.does) for action in BY_KEY.values()] + [("Ctrl+Q", "close the window")]
)


def answer_buttons(perform: Perform) -> QHBoxLayout:
    """The four answers, large, each below the clip that it is about."""
    return _row(ANSWERS, perform, 1.4, 44)


def other_buttons(perform: Perform) -> QHBoxLayout:
    """All else, small."""
    return _row(OTHERS, perform, 1.0, 26)


def _row(actions: tuple[Action, ...], perform: Perform, letters: float, height: int) -> QHBoxLayout:
    row = QHBoxLayout()
    for action in actions:
        text = f"{action.name}  {action.sign}" if action.name == "Right" else f"{action.sign}  {action.name}"
        button = QPushButton(text, accessibleName=action.name, toolTip=action.does)
        button.setMinimumHeight(height)
        enlarge(button, letters)
        button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # keys are answers, whatever was clicked last
        button.clicked.connect(lambda _=False, action=action: perform(action))
        row.addWidget(button)
    return row
