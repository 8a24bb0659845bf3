"""The window: what a person does, and what happens meanwhile. All state that matters lies in the session."""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable
from typing import Any, ParamSpec

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QCloseEvent, QKeyEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import QMainWindow, QMessageBox, QVBoxLayout, QWidget

from clip_viewer.fetcher import Fetcher, Shown
from clip_viewer.keys import BY_KEY, HELP, Action, answer_buttons, other_buttons
from clip_viewer.pace import Pace
from clip_viewer.panel import FINISH, QUESTION, WAITS, Instruction, StatusPanel
from clip_viewer.player import Player
from clip_viewer.session import Progress, Session
from clip_viewer.theme import toggle_theme
from clip_viewer.views import ClipArea
from prefrl.errors import PrefrlError, explain
from prefrl.types import Judgement

_RETURN_SECONDS = 5.0
"""Within this, a pair whose answer was taken back is in view again, or somebody else has it."""

_P = ParamSpec("_P")


def _storing(act: Callable[_P, None]) -> Callable[_P, None]:
    """What cannot be stored, on a full disk, say, was not said: the pair stays, with one line about it."""

    @functools.wraps(act)
    def safely(*args: _P.args, **kwargs: _P.kwargs) -> None:
        try:
            act(*args, **kwargs)
        except PrefrlError as error:
            window: Any = args[0]
            window.panel.news(f"not stored: {explain(error)}")

    return safely


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
        self._problems: set[str] | None = None  # what there was before is no news
        self._returning: int | None = None
        self._returns_until = 0.0
        self._shown_at = self._ticked_at = time.monotonic()
        self._build(config.instruction)
        self.setWindowTitle(f"{config.task} - {session.run.root}")
        self._clock = QTimer(self)
        self._clock.setTimerType(Qt.TimerType.PreciseTimer)
        self._clock.timeout.connect(self._tick)
        self._clock.start(max(8, int(1000 / (2 * config.playback_fps))))
        fetcher.ready.connect(self._on_pair)
        fetcher.progressed.connect(self._on_progress)
        fetcher.failed.connect(self.panel.news)
        fetcher.start()

    def _build(self, instruction: str) -> None:
        self.instruction, self.clips, self.panel = Instruction(instruction), ClipArea(), StatusPanel()
        whole = QVBoxLayout(spacing=10)
        whole.addWidget(self.instruction)
        whole.addWidget(self.clips, stretch=1)
        whole.addLayout(answer_buttons(self._perform))
        whole.addLayout(self.panel)
        whole.addLayout(other_buttons(self._perform))
        middle = QWidget()
        middle.setLayout(whole)
        self.setCentralWidget(middle)
        self.resize(1120, 820)
        self.panel.show_playing(self.player.paused, self.player.speed)
        QShortcut(QKeySequence("Ctrl+Q"), self, self.close)

    # -- what a person does -------------------------------------------------------------------------------------------

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Keys are answers."""
        action = BY_KEY.get(Qt.Key(event.key()))
        if action is None or event.isAutoRepeat():  # a key held down is one answer
            super().keyPressEvent(event)
        else:
            self._perform(action)

    def _perform(self, action: Action) -> None:
        getattr(self, action.method)(*action.arguments)

    @_storing
    def answer(self, judgement: Judgement) -> None:
        """Store an answer to the pair that is shown, and show the next."""
        if (shown := self._in_view) is None:
            return
        now = time.monotonic()
        if not self._session.answer(shown.lease, judgement, now - self._shown_at):
            self.panel.news("somebody else had answered that pair; theirs stands")
        self.pace.answered(now)
        self._next()

    @_storing
    def flag(self) -> None:
        """Take a pair with a broken clip out of the queue."""
        if (shown := self._in_view) is not None:
            self._session.flag(shown.lease, f"{self._session.labeller} says that a clip is broken")
            self._next()

    @_storing
    def undo(self) -> None:
        """Take the last answer back and show its pair again."""
        query_id = self._session.undo()
        if query_id is None:
            self.panel.news("there is no answer of yours to take back")
            return
        self.panel.news("taken back: answer again")
        self._done.discard(query_id)
        # Until it is in view, keys answer nothing: they would be meant for it.
        self._returning, self._returns_until = query_id, time.monotonic() + _RETURN_SECONDS
        self.clips.show_message("the last pair comes back")
        self._fetcher.wake(forget=query_id)

    def pause(self) -> None:
        """Pause, or play on."""
        self.player.paused = not self.player.paused
        self.panel.show_playing(self.player.paused, self.player.speed)

    def step(self, frames: int) -> None:
        """Pause, and go a frame on or back."""
        self.player.step(frames)
        self.panel.show_playing(self.player.paused, self.player.speed)

    def speed(self, steps: int) -> None:
        """Play faster, or slower."""
        self.player.faster(steps)
        self.panel.show_playing(self.player.paused, self.player.speed)

    def theme(self) -> None:
        """Dark, or light."""
        toggle_theme()

    @_storing
    def finish(self) -> None:
        """Ask whether the run is to end with the labels there are, and let it."""
        box = QMessageBox(QMessageBox.Icon.Question, "Finish", FINISH, parent=self)
        yes = box.addButton("Ask no more", QMessageBox.ButtonRole.AcceptRole)
        box.setDefaultButton(box.addButton("Go on labelling", QMessageBox.ButtonRole.RejectRole))
        box.exec()
        if box.clickedButton() is yes:
            self._session.finish()
            self._drop_pairs()

    def help(self) -> None:
        """Show the keys."""
        box = QMessageBox(
            QMessageBox.Icon.NoIcon, "Keys", f"<table>{HELP}</table>", QMessageBox.StandardButton.Ok, self
        )
        box.setModal(False)
        box.show()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Closing the window never hurts the run."""
        self._clock.stop()
        self._fetcher.close()
        self._session.close()
        super().closeEvent(event)

    # -- what happens meanwhile ---------------------------------------------------------------------------------------

    @property
    def _in_view(self) -> Shown | None:
        """The pair that can be answered."""
        return self.pairs[0] if self.pairs and self._returning is None else None

    def _next(self) -> None:
        """The first pair is dealt with."""
        self._done.add(self.pairs.popleft().lease.query_id)
        self._present()
        self._fetcher.wake()

    def _drop_pairs(self) -> None:
        """Nothing is asked any more; should the run be made to ask again, the pairs come back."""
        for pair in self.pairs:
            self._fetcher.wake(forget=pair.lease.query_id)
        self.pairs.clear()
        self._present()

    def _on_pair(self, shown: Shown) -> None:
        number = shown.lease.query_id
        if number in self._done or any(pair.lease.query_id == number for pair in self.pairs):
            return  # it was on its way while it was answered, or comes twice
        before = self._in_view
        if number == self._returning:
            self.pairs.appendleft(shown)
            self._returning = None
        else:
            self.pairs.append(shown)
        if self._in_view is not before:
            self._present()

    def _present(self) -> None:
        """Show the first pair from its beginning, at once."""
        self._shown_at = time.monotonic()
        if self._in_view is not None:
            self.player.load(len(self._in_view.left))
            self.panel.tell(QUESTION)
        else:
            self.clips.show_message("the next clips are being read")
        self._paint()
        self.clips.paint_now()

    def _tick(self) -> None:
        now = time.monotonic()
        self.player.advance(now - self._ticked_at)
        self._ticked_at = now
        self._paint()

    def _paint(self) -> None:
        if (pair := self._in_view) is not None:
            self.clips.show_frames(pair.left[self.player.frame], pair.right[self.player.frame])

    def _on_progress(self, progress: Progress) -> None:
        self.panel.show_progress(progress, self.pace)
        if self._problems is not None and (happened := set(progress.problems) - self._problems):
            self.panel.news(happened.pop())
        self._problems = set(progress.problems)
        if progress.closed and self.pairs:
            self._drop_pairs()
        if self._returning is not None and time.monotonic() > self._returns_until:
            self._returning = None  # its clip is damaged, or another viewer has it
            self._present()
        if self._in_view is not None:
            self.panel.tell(f"{QUESTION} {WAITS}" if progress.agent_waits else QUESTION)
        elif self._returning is None:
            self.clips.show_message(progress.waiting or "the next clips are being read")
            self.panel.tell("nothing to compare now")
