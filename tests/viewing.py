"""Helpers to press keys in the viewer and read the results."""

import os

import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
pytest.importorskip("PySide6")

from PySide6.QtCore import Qt

from clip_viewer import guard
from clip_viewer.buttons import ActionButton


def press(qtbot, window, key, modifiers=Qt.KeyboardModifier.NoModifier):
    """Press a key as a person would who has looked at the pair."""
    qtbot.wait(int(1000 * guard.SECONDS) + 20)
    qtbot.keyClick(window, key, modifiers)


def button(window, name):
    return next(one for one in window.findChildren(ActionButton) if one.action.name == name)


def answered(run):
    counts = run[1].counts()
    return counts["answered"] + counts["incomparable"]
