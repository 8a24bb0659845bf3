"""Buttons for the same actions as the keys, in rows that fit the window."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import Qt
from PySide6.QtGui import QMouseEvent, QResizeEvent
from PySide6.QtWidgets import QGridLayout, QPushButton, QSizePolicy, QWidget

from clip_viewer.keys import OTHERS, Action, Keys, Perform
from clip_viewer.theme import enlarge

_FEW = 4
"""Largest number of answers whose buttons are large."""


class ActionButton(QPushButton):
    """A button for an action. Screen readers read its text."""

    def __init__(self, action: Action, perform: Perform, letters: float, height: int) -> None:
        parts = (action.name, action.sign) if action.key == Qt.Key.Key_Right else (action.sign, action.name)
        super().__init__("  ".join(filter(None, parts)))
        self.setToolTip(action.does)
        self.action = action
        enlarge(self, letters)
        self.setMinimumHeight(height)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # keys must keep working after a click
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.clicked.connect(lambda: perform(action))

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Ignore the second press of a double click for answers; other actions are repeated."""
        if self.action.says:
            event.accept()
        else:
            super().mouseDoubleClickEvent(event)


class ButtonRows(QWidget):
    """Buttons in as few rows as fit the width."""

    def __init__(self, actions: Iterable[Action], perform: Perform, letters: float, height: int) -> None:
        super().__init__()
        self._buttons = [ActionButton(action, perform, letters, height) for action in actions]
        self._grid = QGridLayout(self)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(6)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._columns = 0
        self._arrange(len(self._buttons))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Adapt the number of buttons per row."""
        super().resizeEvent(event)
        widest = max(button.sizeHint().width() for button in self._buttons) + self._grid.horizontalSpacing()
        rows = -(-len(self._buttons) // max(1, self.width() // widest))
        self._arrange(-(-len(self._buttons) // rows))

    def _arrange(self, columns: int) -> None:
        if columns == self._columns:
            return
        for column in range(max(columns, self._columns)):
            self._grid.setColumnStretch(column, int(column < columns))
        self._columns = columns
        for place, button in enumerate(self._buttons):
            self._grid.addWidget(button, *divmod(place, columns))

    def enable(self, disabled: Iterable[Action]) -> None:
        """Enable all buttons except the given ones."""
        dead = set(disabled)
        for button in self._buttons:
            button.setEnabled(button.action not in dead)


def answer_buttons(keys: Keys, perform: Perform) -> ButtonRows:
    """Large buttons for the answers, each below the clip that it prefers; smaller ones if there are many."""
    size = (1.4, 44) if len(keys.answers) <= _FEW else (1.1, 32)
    return ButtonRows(keys.answers, perform, *size)


def other_buttons(perform: Perform) -> ButtonRows:
    """Small buttons for all other actions."""
    return ButtonRows(OTHERS, perform, 1.0, 26)
