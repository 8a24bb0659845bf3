"""What is painted of a query: its clips in frames on black, or in their place the reason why there are none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import QGridLayout, QLabel, QSizePolicy, QStackedWidget, QWidget

from clip_viewer.texts import FittingLabel

_BLACK = "background: black"
_MARGIN = 8
"""Pixels of black around each clip."""
FRAME = 2
"""Pixels of the line around each clip, without which dark ones end nowhere."""
FRAME_COLOUR = (0x8C, 0x96, 0xA1)
_SMALLEST = 80
"""Pixels of a clip's side, on the smallest of windows."""
_WORTH_SCALING = 1.25
"""Enlarging by less only blurs, and costs most of what playing costs."""


def shown_scale(width: int, height: int, room_across: int, room_down: int) -> float:
    """How many times its size a picture is shown: as large as fits, or pixel for pixel where that is little smaller."""
    scale = min(room_across / width, room_down / height)
    return 1.0 if 1 <= scale < _WORTH_SCALING else scale


class ClipView(QWidget):
    """One clip's present frame, with a line around it, on black."""

    def __init__(self, name: str) -> None:
        super().__init__(accessibleName=name)  # it has no text that this could hide
        self.setMinimumSize(_SMALLEST, _SMALLEST)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)  # everything is painted here: nothing before it
        self._image: QImage | None = None

    def show_image(self, image: QImage | None) -> None:
        """Paint an image from now on; None for black."""
        if image is self._image:
            return
        same_place = image is not None and self._image is not None and image.size() == self._image.size()
        self._image = image
        self.update(self.picture()) if same_place else self.update()

    def picture(self) -> QRect:
        """Where the image lies in the view."""
        if self._image is None:
            return QRect()
        room_across, room_down = self.width() - 2 * FRAME, self.height() - 2 * FRAME
        scale = shown_scale(self._image.width(), self._image.height(), room_across, room_down)
        width, height = round(scale * self._image.width()), round(scale * self._image.height())
        return QRect((self.width() - width) // 2, (self.height() - height) // 2, width, height)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint the frame, smoothly where it is scaled."""
        painter, picture = QPainter(self), self.picture()
        if not picture.contains(event.rect()):
            painter.fillRect(event.rect(), Qt.GlobalColor.black)
            if self._image is not None:
                painter.fillRect(picture.adjusted(-FRAME, -FRAME, FRAME, FRAME), QColor(*FRAME_COLOUR))
        if self._image is not None:
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawImage(picture, self._image)
        painter.end()


class ClipArea(QStackedWidget):
    """Clips side by side, each below its title, or a message."""

    def __init__(self, titles: Sequence[str]) -> None:
        super().__init__()
        self.views = [ClipView(f"{title} clip".strip()) for title in titles]
        side_by_side = QGridLayout()
        side_by_side.setHorizontalSpacing(2 * _MARGIN)
        side_by_side.setVerticalSpacing(2)
        side_by_side.setContentsMargins(_MARGIN, 4, _MARGIN, _MARGIN)
        for column, (name, view) in enumerate(zip(titles, self.views, strict=True)):
            side_by_side.addWidget(_caption(name), 0, column)
            side_by_side.addWidget(view, 1, column)
            side_by_side.setColumnStretch(column, 1)
        side_by_side.setRowStretch(1, 1)
        clips = QWidget()
        clips.setObjectName("clips")
        clips.setStyleSheet(f"#clips {{ {_BLACK} }}")
        clips.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        clips.setLayout(side_by_side)
        self.message = FittingLabel()
        self.message.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.message.setStyleSheet(f"{_BLACK}; color: #ddd; padding: 12px")
        self.addWidget(self.message)
        self.addWidget(clips)

    def show_frames(self, images: Iterable[QImage]) -> None:
        """Show a frame of each clip from now on."""
        for view, image in zip(self.views, images, strict=True):
            view.show_image(image)
        self.setCurrentIndex(1)

    def show_message(self, reason: str) -> None:
        """Say why there is nothing to answer, where the clips would be."""
        self.message.say(reason)
        self.setCurrentIndex(0)

    def paint_now(self) -> None:
        """Have on the screen what was shown last before anything else happens."""
        if (current := self.currentWidget()) is not None:
            current.repaint()
        for view in self.views:
            view.repaint()


def _caption(name: str) -> QLabel:
    caption = QLabel(name)
    caption.setAlignment(Qt.AlignmentFlag.AlignCenter)
    caption.setStyleSheet(f"{_BLACK}; color: #ddd; font-size: 16px; font-weight: bold")
    return caption
