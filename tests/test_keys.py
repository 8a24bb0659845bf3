"""The meaning of keys on different keyboards."""

import os

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PySide6")

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QKeyEvent

from clip_viewer import keys
from clip_viewer.keys import CLOSE, OTHERS, SCROLLS, UNDO, Keys
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.kinds.comparison import COMPARISON

NONE, CTRL, ALT = Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ControlModifier, Qt.KeyboardModifier.AltModifier
SHIFT, META, KEYPAD = (
    Qt.KeyboardModifier.ShiftModifier,
    Qt.KeyboardModifier.MetaModifier,
    Qt.KeyboardModifier.KeypadModifier,
)
KEYS = Keys(KINDS[COMPARISON])
ALL = (*KEYS.answers, *OTHERS, *SCROLLS)

CYRILLIC = {"x": "Ч", "d": "В", "f": "А", "h": "Р", "z": "Я", "q": "Й", "[": "Х", "]": "Ъ", ",": "Б", ".": "Ю"}
GREEK = {"x": "Χ", "d": "Δ", "f": "Φ", "h": "Η", "z": "Ζ", "q": ";"}
HEBREW = {"x": "ס", "d": "ג", "f": "כ", "h": "י", "z": "ז", ",": "ת", "q": "/"}
GERMAN = {"[": "Ü"}
X11 = {"x": 53, "d": 40, "f": 41, "h": 43, "z": 52, "q": 24, "[": 34, "]": 35, ",": 59, ".": 60}
"""Where a US keyboard has these, as X11 counts."""
MEANS = {"x": "flag", "d": "theme", "f": "finish", "h": "help", "[": "speed", "]": "speed", ",": "step", ".": "step"}


def pressed(key, modifiers=NONE, place=0, text=""):
    return KEYS.action_of(QKeyEvent(QEvent.Type.KeyPress, int(key), modifiers, place, 0, 0, text))


@pytest.mark.parametrize("action", ALL)
def test_a_key_does_what_its_button_says(action):
    assert pressed(action.key) == action
    assert pressed(action.key, KEYPAD) == action  # the arrows of the keypad


@pytest.mark.parametrize("modifiers", [CTRL, ALT, SHIFT, META, CTRL | SHIFT, ALT | KEYPAD, CTRL | KEYPAD])
@pytest.mark.parametrize("action", ALL)
def test_a_key_with_another_is_a_shortcut_of_the_desktop_and_no_answer(action, modifiers):
    assert pressed(action.key, modifiers) is None


def test_control_z_is_undo_and_control_q_closes():
    assert pressed(Qt.Key.Key_Z, CTRL) == UNDO
    assert pressed(Qt.Key.Key_Q, CTRL) == CLOSE
    assert pressed(Qt.Key.Key_Z) is None
    assert pressed(Qt.Key.Key_Z, CTRL | SHIFT) is None


@pytest.mark.parametrize("platform", ["xcb", "wayland", "windows"])
@pytest.mark.parametrize("layout", [CYRILLIC, GREEK, HEBREW, GERMAN])
def test_letters_and_brackets_work_by_their_place_on_layouts_of_other_scripts(layout, platform, monkeypatch):
    monkeypatch.setattr(keys.QGuiApplication, "platformName", lambda: platform)
    for latin, letter in layout.items():
        place = X11[latin] - (8 if platform == "windows" else 0)
        expected = KEYS.by_key.get(ord(latin.upper()))
        assert pressed(ord(letter), place=place, text=letter.lower()) == expected
        assert (expected.method if expected else None) == MEANS.get(latin)
    if "z" in layout:
        offset = 8 if platform == "windows" else 0
        assert pressed(ord(layout["z"]), CTRL, place=X11["z"] - offset) == UNDO
        assert pressed(ord(layout["q"]), CTRL, place=X11["q"] - offset) == CLOSE


def test_a_latin_letter_is_what_it_says_wherever_it_is():
    assert pressed(Qt.Key.Key_Q, place=X11["x"]) is None  # Dvorak has Q where X is
    assert pressed(Qt.Key.Key_X, place=X11["h"]).method == "flag"


def test_keys_that_mean_nothing_mean_nothing():
    for key in (Qt.Key.Key_A, Qt.Key.Key_F1, Qt.Key.Key_Return, Qt.Key.Key_Escape, 0x0424, 0x01FFFFFF):
        assert pressed(key, place=99) is None
