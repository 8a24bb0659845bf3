"""Show the clips of a query, or a message in their place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPaintEvent
from PySide6.QtWidgets import QGridLayout, QLabel, QSizePolicy, QStackedWidget, QWidget

from clip_viewer.texts import FittingLabel
from clip_viewer.timeline import Timeline

_BLACK = "background: black"
_MARGIN = 8
"""Width in pixels of the black margin around each clip."""
FRAME = 2
"""Width in pixels of the line around each clip, which makes the edges of dark clips visible."""
FRAME_COLOUR = (0x8C, 0x96, 0xA1)
_SMALLEST = 80
"""Minimum side length of a clip in pixels."""
_WORTH_SCALING = 1.25
"""Minimum enlargement; smaller ones only blur the image and take most of the playback time."""


def shown_scale(width: int, height: int, room_across: int, room_down: int) -> float:
    """The scale of an image: as large as fits, or 1 if that is only slightly smaller."""
    scale = min(room_across / width, room_down / height)
    return 1.0 if 1 <= scale < _WORTH_SCALING else scale


class ClipView(QWidget):
    """Shows the current frame of a clip on black, with a line around it."""

    def __init__(self) -> None:
        super().__init__()
        self.setMinimumSize(_SMALLEST, _SMALLEST)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)  # the background need not be painted
        self._image: QImage | None = None

    def show_image(self, image: QImage | None) -> None:
        """Show an image; None shows black."""
        if image is self._image:
            return
        same_place = image is not None and self._image is not None and image.size() == self._image.size()
        self._image = image
        self.update(self.picture()) if same_place else self.update()

    def picture(self) -> QRect:
        """The rectangle of the image in the view."""
        if self._image is None:
            return QRect()
        room_across, room_down = self.width() - 2 * FRAME, self.height() - 2 * FRAME
        scale = shown_scale(self._image.width(), self._image.height(), room_across, room_down)
        width, height = round(scale * self._image.width()), round(scale * self._image.height())
        return QRect((self.width() - width) // 2, (self.height() - height) // 2, width, height)

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint the frame, with smooth scaling."""
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
    """Shows clips next to each other, each below its title, or a message."""

    def __init__(self, titles: Sequence[str], *, timeline: bool = False) -> None:
        """Create the area.

        Args:
            titles: The title of each clip.
            timeline: Whether to show marks below the clips.
        """
        super().__init__()
        self.timeline = Timeline() if timeline else None
        self.views = [ClipView() for _ in titles]
        self._captions = [_caption() for _ in titles]
        side_by_side = QGridLayout()
        side_by_side.setHorizontalSpacing(2 * _MARGIN)
        side_by_side.setVerticalSpacing(2)
        side_by_side.setContentsMargins(_MARGIN, 4, _MARGIN, _MARGIN)
        for column, (caption, view) in enumerate(zip(self._captions, self.views, strict=True)):
            side_by_side.addWidget(caption, 0, column)
            side_by_side.addWidget(view, 1, column)
            side_by_side.setColumnStretch(column, 1)
        side_by_side.setRowStretch(1, 1)
        if self.timeline is not None:
            side_by_side.addWidget(self.timeline, 2, 0, 1, len(titles))
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
        self.name(titles)

    def name(self, titles: Sequence[str]) -> None:
        """Set the title of each clip; an empty one takes no room."""
        for title, caption, view in zip(titles, self._captions, self.views, strict=True):
            caption.setText(title)
            caption.setHidden(not title)
            view.setAccessibleName(f"{title} clip".strip())  # it has no text

    def show_frames(self, images: Iterable[QImage]) -> None:
        """Show one frame of each clip."""
        for view, image in zip(self.views, images, strict=True):
            view.show_image(image)
        self.setCurrentIndex(1)

    def show_message(self, reason: str) -> None:
        """Show a message in place of the clips."""
        self.message.say(reason)
        self.setCurrentIndex(0)

    def paint_now(self) -> None:
        """Repaint immediately."""
        if (current := self.currentWidget()) is not None:
            current.repaint()
        for view in self.views:
            view.repaint()


def _caption() -> QLabel:
    caption = QLabel(textFormat=Qt.TextFormat.PlainText)
    caption.setAlignment(Qt.AlignmentFlag.AlignCenter)
    caption.setStyleSheet(f"{_BLACK}; color: #ddd; font-size: 16px; font-weight: bold")
    return caption
