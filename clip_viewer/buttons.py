"""The buttons, which do what keys do: rows that fit the window, and no second press by a double click."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import Qt
from PySide6.QtGui import QMouseEvent, QResizeEvent
from PySide6.QtWidgets import QGridLayout, QPushButton, QSizePolicy, QWidget

from clip_viewer.keys import OTHERS, Action, Keys, Perform
from clip_viewer.theme import enlarge


class ActionButton(QPushButton):
    """Does an action. What is written on it is what a screen reader reads."""

    def __init__(self, action: Action, perform: Perform, letters: float, height: int) -> None:
        parts = (action.name, action.sign) if action.key == Qt.Key.Key_Right else (action.sign, action.name)
        super().__init__("  ".join(parts))
        self.setToolTip(action.does)
        self.action = action
        enlarge(self, letters)
        self.setMinimumHeight(height)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # keys are answers, whatever was clicked last
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.clicked.connect(lambda: perform(action))

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """The second press of a double click: no second answer, but another step or speed."""
        if self.action.says:
            event.accept()
        else:
            super().mouseDoubleClickEvent(event)


class ButtonRows(QWidget):
    """Buttons in one row where there is room, else in as few rows as fit."""

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
        """Choose how many go into a row."""
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
        """Have all buttons alive but these."""
        dead = set(disabled)
        for button in self._buttons:
            button.setEnabled(button.action not in dead)


def answer_buttons(keys: Keys, perform: Perform) -> ButtonRows:
    """The answers, large; those that prefer a clip below it."""
    return ButtonRows(keys.answers, perform, 1.4, 44)


def other_buttons(perform: Perform) -> ButtonRows:
    """All else, small."""
    return ButtonRows(OTHERS, perform, 1.0, 26)
