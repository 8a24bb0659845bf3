"""The window in which a person plays a task."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt, QTimer
from PySide6.QtGui import QCloseEvent, QImage, QKeyEvent, QPixmap
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from clip_viewer.demonstrating import Demonstrating

_KEY = Qt.Key
_PLAYED = {
    int(_KEY.Key_Up): "Up",
    int(_KEY.Key_Down): "Down",
    int(_KEY.Key_Left): "Left",
    int(_KEY.Key_Right): "Right",
    int(_KEY.Key_Space): "Space",
} | {int(_KEY.Key_0) + digit: str(digit) for digit in range(1, 10)}
"""Names of the keys that play, see `prefrl.experience.keyboard`."""
_SMALLEST = 480
"""Smallest width and height of the picture, in pixels."""


class DemonstrationWindow(QWidget):
    """Shows the task and steps it while keys are held down. An episode begins with the first key."""

    def __init__(self, shown: Demonstrating, speed: float = 1.0) -> None:
        """Create the window.

        Args:
            shown: The demonstration.
            speed: Speed relative to the task's playback rate.
        """
        super().__init__()
        self._shown, self._pressed, self.playing = shown, set[str](), False
        self.problem: Exception | None = None
        """An error of the environment, because of which the window was closed."""
        self.setWindowTitle(f"Demonstrate {shown.task}")
        self._picture, self._words = QLabel(alignment=Qt.AlignmentFlag.AlignCenter), QLabel(wordWrap=True)
        self._picture.setMinimumSize(_SMALLEST, _SMALLEST)
        layout = QVBoxLayout(self)
        layout.addWidget(self._picture, stretch=1)
        layout.addWidget(self._words)
        self._methods = {
            int(_KEY.Key_Return): self._end,
            int(_KEY.Key_Enter): self._end,
            int(_KEY.Key_Backspace): self._discard,
            int(_KEY.Key_P): self._pause,
            int(_KEY.Key_Escape): self.close,
        }
        self._timer = QTimer(self, interval=max(1, round(1000 / (shown.fps * speed))))
        self._timer.setTimerType(Qt.TimerType.PreciseTimer)
        self._timer.timeout.connect(self.tick)
        self._timer.start()
        self._paint()

    def tick(self) -> None:
        """Take a step, unless the episode has not begun or is paused."""
        if not self.playing:
            return
        try:
            ended = self._shown.step(frozenset(self._pressed))
        except Exception as error:
            self.problem, self.playing = error, False
            self.close()
            return
        if ended:
            self._wait()
        self._paint()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Hold a key down, or carry out a command."""
        if event.isAutoRepeat():
            return
        if name := _PLAYED.get(event.key()):
            self._pressed.add(name)
            self.playing = True
        elif method := self._methods.get(event.key()):
            method()

    def keyReleaseEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Let a key go."""
        if not event.isAutoRepeat():
            self._pressed.discard(_PLAYED.get(event.key(), ""))

    def event(self, event: QEvent) -> bool:
        """Let all keys go and pause when the window is left, because it would not see them go."""
        if event.type() == QEvent.Type.WindowDeactivate:
            self._wait()
            self._paint()
        return super().event(event)

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Stop playing."""
        self._timer.stop()
        super().closeEvent(event)

    def _wait(self) -> None:
        self.playing = False
        self._pressed.clear()

    def _pause(self) -> None:
        self.playing = not self.playing
        self._paint()

    def _end(self) -> None:
        self._shown.end_episode()
        self._wait()
        self._paint()

    def _discard(self) -> None:
        self._shown.discard_episode()
        self._wait()
        self._paint()

    def _paint(self) -> None:
        frame = self._shown.frame
        height, width, _ = frame.shape
        image = QImage(frame.tobytes(), width, height, 3 * width, QImage.Format.Format_RGB888)
        size, keep = self._picture.size(), Qt.AspectRatioMode.KeepAspectRatio
        self._picture.setPixmap(QPixmap.fromImage(image).scaled(size, keep))
        self._words.setText(self.words)

    @property
    def words(self) -> str:
        """The text below the picture."""
        shown = self._shown
        state = "" if self.playing else "Press one of the keys to play. "
        return (
            f"{state}{len(shown.episodes)} episodes kept; this one: {len(shown.tape)} steps, return {shown.total:.1f}\n"
            f"Keys: {shown.keys}. Enter: keep this episode; Backspace: start it again; P: pause; Esc: save and close\n"
            f"{shown.instruction}"
        )
