"""Texts that were written by others, as labels show them: as they were typed, and never wider than the window."""

from __future__ import annotations

import re

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QFrame, QLabel, QScrollArea, QSizePolicy, QWidget

from clip_viewer.theme import enlarge

_INSTRUCTION_LINES = 5
_INSTRUCTION_SHARE = 0.2
"""The most of the window's height that an instruction takes; what is longer is scrolled."""
_LETTERS = range(20, 9, -1)
"""Pixels of the letters that say why there is no pair, the best first."""


def breakable(text: str) -> str:
    """The text with a place for a line to end after each slash, and within what would be wider than a window."""
    return re.sub(r"(/|[^\s/]{24})(?=\S)", "\\1\u200b", text)


class PlainLabel(QLabel):
    """Shows text as it was typed. Has no accessible name of its own: a screen reader reads what is shown."""

    def __init__(self, text: str = "", *, letters: float = 1.0, bold: bool = False) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)
        enlarge(self, letters, bold=bold)
        self.say(text)

    def say(self, text: str) -> None:
        """Show a text."""
        if (shown := breakable(text)) != self.text():
            self.setText(shown)


class FittingLabel(PlainLabel):
    """Takes the room that it gets, in the largest letters with which its text fits there."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)

    def say(self, text: str) -> None:
        """Show a text."""
        super().say(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Fit the new room."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        font = self.font()
        for pixels in _LETTERS:
            font.setPixelSize(pixels)
            self.setFont(font)
            if self.heightForWidth(self.width()) <= self.height():
                return


class Instruction(QScrollArea):
    """What is to be preferred; always in view, and scrolled where it is long, so that the clips keep their room."""

    def __init__(self, text: str) -> None:
        super().__init__(widgetResizable=True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.label = PlainLabel(text, letters=1.4, bold=True)
        self.label.setMargin(4)
        self.label.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.setWidget(self.label)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # arrows are answers
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def page(self, pages: int) -> None:
        """Go on by pages, or back."""
        bar = self.verticalScrollBar()
        bar.setValue(bar.value() + pages * bar.pageStep())

    def fit(self) -> None:
        """Take the height that the text needs, up to a share of the window's."""
        window: QWidget = self.window()
        line = self.label.fontMetrics().lineSpacing()
        lines = min(_INSTRUCTION_LINES, max(2, int(_INSTRUCTION_SHARE * window.height() / line)))  # whole ones
        needed = self.label.heightForWidth(self.width())
        self.setFixedHeight(min(needed, lines * line + self.label.margin()))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Take the height for the new width."""
        super().resizeEvent(event)
        self.fit()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Take the height for the first width."""
        super().showEvent(event)
        self.fit()
