"""A bar below a clip that shows the marks on its steps, and what is visible now."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

_HEIGHT = 30
_COLOURS = {1: QColor("#3fae5a"), -1: QColor("#e0554d")}
_LINE, _HEAD = QColor("#5b6168"), QColor("#ffffff")
_THINNEST = 3.0


class Timeline(QWidget):
    """Good marks stand above the line, bad ones hang below it, so that colour is not needed to tell them apart."""

    def __init__(self) -> None:
        super().__init__(accessibleName="no marks")
        self.setFixedHeight(_HEIGHT)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self._shown: tuple[Sequence[Sequence[int]], int, int] = ((), 0, 1)

    def show_marks(self, marks: Sequence[Sequence[int]], frame: int, frames: int) -> None:
        """Show [step, sign] of each mark, and the visible one of so many frames."""
        if (shown := (marks, frame, frames)) != self._shown:
            self._shown = shown
            good = sum(sign > 0 for _, sign in marks)
            self.setAccessibleName(f"{good} good and {len(marks) - good} bad marks" if marks else "no marks")
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint the line, the marks and the visible frame."""
        marks, frame, frames = self._shown
        painter, middle, wide = QPainter(self), self.height() / 2, self.width() / frames
        painter.fillRect(self.rect(), Qt.GlobalColor.black)
        painter.fillRect(QRectF(0, middle - 1, self.width(), 2), _LINE)
        for step, sign in marks:
            top = 2.0 if sign > 0 else middle
            painter.fillRect(QRectF(step * wide, top, max(_THINNEST, wide), middle - 2), _COLOURS[sign])
        painter.fillRect(QRectF((frame + 0.5) * wide - 1, 0, 2, self.height()), _HEAD)
        painter.end()
