"""The window: two clips, the instruction, the answers. All state that matters lies in the session."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QCloseEvent, QImage, QKeyEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from clip_viewer.fetcher import Fetcher, Shown
from clip_viewer.pace import Pace
from clip_viewer.player import Player
from clip_viewer.session import Progress, Session
from prefrl.errors import PrefrlError, explain
from prefrl.types import Judgement

HELP = """\
←  the left clip is better
→  the right clip is better
↑  they are equally good
↓  can't tell (is asked no more, and is no label)
Backspace  take the last answer back
Space  pause · , and .  step · [ and ]  slower, faster
X  a clip is broken
H  this help"""

Action = Callable[[], None]


class ClipView(QWidget):
    """One clip's present frame, as large as fits."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.setAccessibleName(name)
        self.setMinimumSize(240, 240)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self._image: QImage | None = None

    def show_image(self, image: QImage | None) -> None:
        """Paint an image from now on; None for nothing."""
        if image is not self._image:
            self._image = image
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint the frame in the middle, its shape kept."""
        if self._image is None:
            return
        painter = QPainter(self)
        size = self._image.size().scaled(self.size(), Qt.AspectRatioMode.KeepAspectRatio)
        left, top = (self.width() - size.width()) // 2, (self.height() - size.height()) // 2
        painter.drawImage(self.rect().adjusted(left, top, -left, -top), self._image)
        painter.end()


class LabelWindow(QMainWindow):
    """Shows a session's pairs and takes a person's answers."""

    def __init__(self, session: Session, fetcher: Fetcher) -> None:
        """Make the window.

        Args:
            session: The labelling.
            fetcher: Its pairs; is started here.
        """
        super().__init__()
        self._session, self._fetcher = session, fetcher
        config = session.run.config
        self.player, self.pace = Player(config.playback_fps), Pace()
        self.pairs: deque[Shown] = deque()
        self._done: set[int] = set()
        self._shown_at = self._ticked_at = time.monotonic()
        self._build(config.instruction)
        self.setWindowTitle(f"{config.task} - {session.run.root}")
        self._clock = QTimer(self)
        self._clock.timeout.connect(self._tick)
        self._clock.start(max(8, int(1000 / (2 * config.playback_fps))))
        fetcher.ready.connect(self._on_pair)
        fetcher.progressed.connect(self._on_progress)
        fetcher.failed.connect(self._say)
        fetcher.start()

    # -- what is seen -------------------------------------------------------------------------------------------------

    def _build(self, instruction: str) -> None:
        self.instruction = QLabel(instruction, accessibleName="Instruction")
        self.instruction.setWordWrap(True)
        self.instruction.setStyleSheet("font-size: 16px; font-weight: bold; padding: 6px")
        self.left, self.right = ClipView("Left clip"), ClipView("Right clip")
        clips = QHBoxLayout()
        clips.addWidget(self.left)
        clips.addWidget(self.right)
        self.status = QLabel("starting", accessibleName="Status")
        self.status.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.done = QProgressBar(accessibleName="Labels done")
        self.done.setFormat("%v of %m labels")
        whole = QVBoxLayout()
        whole.addWidget(self.instruction)
        whole.addLayout(clips, stretch=1)
        whole.addWidget(self.status)
        for row in self._buttons():
            whole.addLayout(row)
        whole.addWidget(self.done)
        middle = QWidget()
        middle.setLayout(whole)
        self.setCentralWidget(middle)
        self.resize(1040, 720)

    def _buttons(self) -> list[QHBoxLayout]:
        answers: list[tuple[str, Action]] = [
            ("← Left", lambda: self.answer(Judgement.LEFT)),
            ("↑ Equal", lambda: self.answer(Judgement.EQUAL)),
            ("↓ Can't tell", lambda: self.answer(Judgement.INCOMPARABLE)),
            ("Right →", lambda: self.answer(Judgement.RIGHT)),
        ]
        others: list[tuple[str, Action]] = [
            ("Undo", self.undo),
            ("Pause", self.pause),
            ("Step back", lambda: self.step(-1)),
            ("Step on", lambda: self.step(1)),
            ("Slower", lambda: self.speed(-1)),
            ("Faster", lambda: self.speed(1)),
            ("Broken clip", self.flag),
            ("Help", self.help),
        ]
        rows = []
        for buttons in (answers, others):
            row = QHBoxLayout()
            for text, action in buttons:
                button = QPushButton(text, accessibleName=text.strip("←↑↓→ "))
                button.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # keys are answers, whatever was clicked last
                button.clicked.connect(lambda _=False, action=action: action())
                row.addWidget(button)
            rows.append(row)
        return rows

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Keys are answers."""
        keys: dict[int, Action] = {
            Qt.Key.Key_Left: lambda: self.answer(Judgement.LEFT),
            Qt.Key.Key_Right: lambda: self.answer(Judgement.RIGHT),
            Qt.Key.Key_Up: lambda: self.answer(Judgement.EQUAL),
            Qt.Key.Key_Down: lambda: self.answer(Judgement.INCOMPARABLE),
            Qt.Key.Key_Backspace: self.undo,
            Qt.Key.Key_Space: self.pause,
            Qt.Key.Key_Comma: lambda: self.step(-1),
            Qt.Key.Key_Period: lambda: self.step(1),
            Qt.Key.Key_BracketLeft: lambda: self.speed(-1),
            Qt.Key.Key_BracketRight: lambda: self.speed(1),
            Qt.Key.Key_X: self.flag,
            Qt.Key.Key_H: self.help,
        }
        action = keys.get(event.key())
        if action is None or event.isAutoRepeat():  # a key held down is one answer
            super().keyPressEvent(event)
        else:
            action()

    # -- what a person does -------------------------------------------------------------------------------------------

    def answer(self, judgement: Judgement) -> None:
        """Store an answer to the pair that is shown, and show the next."""
        if not self.pairs:
            return
        now = time.monotonic()
        try:
            taken = self._session.answer(self.pairs[0].lease, judgement, now - self._shown_at)
        except PrefrlError as error:  # a full disk, say: the pair stays, and nothing was said of it
            self._say(f"not stored: {explain(error)}")
            return
        if not taken:
            self._say("somebody else had answered that pair; theirs stands")
        self.pace.answered(now)
        self._next()

    def flag(self) -> None:
        """Take a pair with a broken clip out of the queue."""
        if self.pairs:
            self._session.flag(self.pairs[0].lease, f"{self._session.labeller} says that a clip is broken")
            self._next()

    def undo(self) -> None:
        """Take the last answer back and show its pair again."""
        query_id = self._session.undo()
        if query_id is None:
            self._say("there is no answer of yours to take back")
            return
        self._say("taken back: answer again")
        self._done.discard(query_id)
        self._fetcher.wake(forget=query_id)

    def pause(self) -> None:
        """Pause, or play on."""
        self.player.paused = not self.player.paused

    def step(self, frames: int) -> None:
        """Pause, and go a frame on or back."""
        self.player.step(frames)

    def speed(self, steps: int) -> None:
        """Play faster, or slower."""
        self._say(f"speed {self.player.faster(steps):g}")

    def help(self) -> None:
        """Show the keys."""
        box = QMessageBox(QMessageBox.Icon.NoIcon, "Keys", HELP, QMessageBox.StandardButton.Ok, self)
        box.setModal(False)
        box.show()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Closing the window never hurts the run."""
        self._clock.stop()
        self._fetcher.close()
        self._session.close()
        super().closeEvent(event)

    # -- what happens meanwhile ---------------------------------------------------------------------------------------

    def _next(self) -> None:
        """The first pair is dealt with."""
        self._done.add(self.pairs.popleft().lease.query_id)
        self._present()
        self._fetcher.wake()

    def _on_pair(self, shown: Shown) -> None:
        if shown.lease.query_id in self._done:
            return  # it was on its way while it was answered
        held = [pair for pair in self.pairs if pair.lease.query_id != shown.lease.query_id]
        first = held[0] if held else None
        self.pairs = deque(sorted([*held, shown], key=lambda pair: pair.lease.query_id))
        if not held or self.pairs[0] is not first:
            self._present()

    def _present(self) -> None:
        """Show the first pair from its beginning, at once."""
        self._shown_at = time.monotonic()
        if self.pairs:
            self.player.load(len(self.pairs[0].left))
        self._paint()
        self.left.repaint()
        self.right.repaint()

    def _tick(self) -> None:
        now = time.monotonic()
        self.player.advance(now - self._ticked_at)
        self._ticked_at = now
        self._paint()

    def _paint(self) -> None:
        pair = self.pairs[0] if self.pairs else None
        self.left.show_image(pair.left[self.player.frame] if pair else None)
        self.right.show_image(pair.right[self.player.frame] if pair else None)

    def _on_progress(self, progress: Progress) -> None:
        self.done.setMaximum(max(progress.budget, progress.answered))
        self.done.setValue(progress.answered)
        if not self.pairs:
            self._say(progress.waiting or "clips are being read")
        elif (rate := self.pace.per_minute) is not None:
            minutes = (self.pace.seconds_left(progress.budget - progress.answered) or 0) / 60
            self._say(f"{rate:.0f} labels a minute, {minutes:.0f} min left")
        elif progress.problems:
            self._say(progress.problems[0])
        else:
            self._say("which clip is better? H shows the keys")

    def _say(self, text: str) -> None:
        self.status.setText(text)
