"""Labels that show plain text and never get wider than the window."""

from __future__ import annotations

import re

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import QFrame, QLabel, QScrollArea, QSizePolicy, QWidget

from clip_viewer.theme import enlarge

_INSTRUCTION_LINES = 5
_INSTRUCTION_SHARE = 0.2
"""Maximum share of the window's height for an instruction; longer ones scroll."""
_LETTERS = range(20, 9, -1)
"""Font sizes in pixels for messages, in order of preference."""


def breakable(text: str) -> str:
    """Allow line breaks after each slash and within very long words."""
    return re.sub(r"(/|[^\s/]{24})(?=\S)", "\\1\u200b", text)


class PlainLabel(QLabel):
    """Shows plain text. Without an accessible name, screen readers read the text itself."""

    def __init__(self, text: str = "", *, letters: float = 1.0, bold: bool = False) -> None:
        super().__init__()
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)
        enlarge(self, letters, bold=bold)
        self.say(text)

    def say(self, text: str) -> None:
        """Set the text."""
        if (shown := breakable(text)) != self.text():
            self.setText(shown)


class FittingLabel(PlainLabel):
    """Shows text in the largest font size that fits."""

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Ignored)

    def say(self, text: str) -> None:
        """Set the text."""
        super().say(text)
        self._fit()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Adapt the font size."""
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
    """The instruction. It is always visible, and scrolls if it is long, so that the clips keep their space."""

    def __init__(self, text: str) -> None:
        super().__init__(widgetResizable=True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.label = PlainLabel(text, letters=1.4, bold=True)
        self.label.setMargin(4)
        self.label.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft)
        self.setWidget(self.label)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # arrow keys are answers
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)

    def say(self, text: str) -> None:
        """Show another instruction, from its start."""
        self.label.say(text)
        self.verticalScrollBar().setValue(0)
        self.fit()

    def page(self, pages: int) -> None:
        """Scroll by a number of pages."""
        bar = self.verticalScrollBar()
        bar.setValue(bar.value() + pages * bar.pageStep())

    def fit(self) -> None:
        """Adapt the height to the text, up to a share of the window's height."""
        window: QWidget = self.window()
        line = self.label.fontMetrics().lineSpacing()
        lines = min(_INSTRUCTION_LINES, max(2, int(_INSTRUCTION_SHARE * window.height() / line)))  # whole lines
        needed = self.label.heightForWidth(self.width())
        self.setFixedHeight(min(needed, lines * line + self.label.margin()))

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Adapt the height to the new width."""
        super().resizeEvent(event)
        self.fit()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Adapt the height to the initial width."""
        super().showEvent(event)
        self.fit()
