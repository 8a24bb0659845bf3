"""The window that shows the clips of a probe."""

from __future__ import annotations

import time

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QCloseEvent, QImage, QKeyEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from clip_viewer.buttons import ButtonRows
from clip_viewer.fetcher import images
from clip_viewer.keys import CLOSE, PLAYBACK, Action, KeyMap
from clip_viewer.player import Player
from clip_viewer.probe_clips import ProbeClips
from clip_viewer.texts import PlainLabel
from clip_viewer.views import ClipArea
from prefrl.errors import PrefrlError, explain
from prefrl.printable import printable

_KEY = Qt.Key
_PREVIOUS = Action(_KEY.Key_Left, "←", "Previous", "show the clip before", "show_next", (-1,))
_NEXT = Action(_KEY.Key_Right, "→", "Next", "show the next clip", "show_next", (1,))
_QUEUE = Action(_KEY.Key_Q, "Q", "Queue all", "put all clips into the queue of the run", "queue", says=True)
_CLOSE = Action(_KEY.Key_Escape, "Esc", "Close", "close the window", "close")
_ACTIONS = (_PREVIOUS, _NEXT, *PLAYBACK, _QUEUE, _CLOSE)
_SIZE = (1120, 760)


class ProbeWindow(QWidget):
    """Plays each clip of an agent next to clips of the reference."""

    def __init__(self, shown: ProbeClips, title: str) -> None:
        """Create the window.

        Args:
            shown: The clips.
            title: Title of the window.
        """
        super().__init__()
        self.setWindowTitle(printable(title, 200))
        self._shown, self.player = shown, Player(shown.fps)
        self._frames: list[list[QImage]] = []
        self._keys = KeyMap(_ACTIONS, {int(_KEY.Key_Q): CLOSE})
        self.clips, self._buttons = ClipArea(shown.titles), ButtonRows(_ACTIONS, self._perform, 1.0, 32)
        self.headline, self.excess = PlainLabel(letters=1.7, bold=True), PlainLabel(letters=1.2)
        self.playing, self.queued = PlainLabel(letters=1.3), PlainLabel()
        self._arrange()
        self._clock, self._ticked_at = QTimer(self), time.monotonic()
        self._clock.setTimerType(Qt.TimerType.PreciseTimer)
        self._clock.timeout.connect(self._tick)
        self._clock.start(max(8, int(1000 / (2 * shown.fps))))
        self._present()

    def _arrange(self) -> None:
        top, whole = QHBoxLayout(), QVBoxLayout(self)
        self.playing.setWordWrap(False)
        top.addWidget(self.headline, stretch=1)
        top.addWidget(self.playing)
        whole.addLayout(top)
        whole.addWidget(self.excess)
        whole.addWidget(self.clips, stretch=1)
        whole.addWidget(self.queued)
        whole.addWidget(self._buttons)
        screen = self.screen().availableSize()
        self.resize(min(_SIZE[0], screen.width()), min(_SIZE[1], screen.height()))

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Perform the action of a key. Held down, only keys that change nothing repeat."""
        action = self._keys.action_of(event)
        if action is None:
            super().keyPressEvent(event)
        elif not (action.says and event.isAutoRepeat()):
            self._perform(action)

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Stop playing."""
        self._clock.stop()
        super().closeEvent(event)

    def _perform(self, action: Action) -> None:
        getattr(self, action.method)(*action.arguments)
        self._tell()

    # -- actions ------------------------------------------------------------------------------------------------------

    def show_next(self, places: int) -> None:
        """Show the clip so many places later (negative: earlier), if there is one."""
        if self._shown.move(places):
            self._present()

    def pause(self) -> None:
        """Pause or resume playback."""
        self.player.paused = not self.player.paused

    def step(self, frames: int) -> None:
        """Pause and step by a number of frames."""
        self.player.step(frames)

    def speed(self, steps: int) -> None:
        """Change the playback speed."""
        self.player.faster(steps)

    def queue(self) -> None:
        """Put all clips into the queue of the run."""
        self._shown.queue()

    # -- what is shown ------------------------------------------------------------------------------------------------

    def _present(self) -> None:
        """Show the clip in view from its start."""
        self.clips.name(self._shown.titles)
        try:
            self._frames = [images(frames) for frames in self._shown.frames()]
            self.player.load(len(self._frames[0]))
            self._paint()
        except PrefrlError as error:
            self._frames = []
            self.clips.show_message(explain(error))
        self._tell()

    def _tell(self) -> None:
        """Show place, excess, playback and queue, and disable buttons that would have no effect."""
        shown, state = self._shown, "❚❚ paused" if self.player.paused else "▶ playing"
        self.headline.say(shown.headline)
        self.excess.say(shown.excess)
        self.playing.say(f"{state} ×{self.player.speed:g}" if self._frames else "")
        self.queued.say(shown.queue_said)
        self.queued.setHidden(not shown.queue_said)
        dead = {_PREVIOUS: shown.first, _NEXT: shown.last, _QUEUE: shown.queued}
        self._buttons.enable(action for action, useless in dead.items() if useless)

    def _tick(self) -> None:
        now = time.monotonic()
        self.player.advance(now - self._ticked_at)
        self._ticked_at = now
        self._paint()

    def _paint(self) -> None:
        if self._frames:
            self.clips.show_frames(frames[self.player.frame] for frames in self._frames)
