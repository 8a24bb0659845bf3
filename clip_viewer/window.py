"""The window: what a person does, and what happens meanwhile. All state that matters lies in the session."""

from __future__ import annotations

import functools
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QCloseEvent, QKeyEvent, QResizeEvent
from PySide6.QtWidgets import QMainWindow, QVBoxLayout, QWidget

from clip_viewer.buttons import answer_buttons, other_buttons
from clip_viewer.dialogs import confirm_finish, show_help
from clip_viewer.fetcher import Fetcher, Shown
from clip_viewer.guard import Guard
from clip_viewer.keys import FINISH, UNDO, Action, Keys
from clip_viewer.marking import Marking, marked_step
from clip_viewer.pace import Pace
from clip_viewer.panel import StatusPanel, said_in
from clip_viewer.player import Player
from clip_viewer.session import Progress, Session
from clip_viewer.situation import ENDED, PASSING, State
from clip_viewer.texts import Instruction
from clip_viewer.theme import toggle_theme
from clip_viewer.views import ClipArea
from prefrl.commands.display import clock
from prefrl.errors import PrefrlError, explain
from prefrl.feedback.kinds import KINDS, FeedbackKind
from prefrl.feedback.leases import Withdrawal
from prefrl.printable import printable

_SIZE = (1120, 820)
_TITLE_BAR = 40
"""Height in pixels reserved for the desktop's title bar."""
_RETURN_SECONDS = 5.0
"""Time within which a pair reappears after undo; afterwards it is assumed to be lost to someone else."""

_P = ParamSpec("_P")


def _storing(act: Callable[_P, None]) -> Callable[_P, None]:
    """If an answer cannot be stored, for example because the disk is full, keep the pair and show the reason."""

    @functools.wraps(act)
    def safely(*args: _P.args, **kwargs: _P.kwargs) -> None:
        window: Any = args[0]
        window.panel.forget_news()
        try:
            act(*args, **kwargs)
        except (PrefrlError, OSError) as error:
            window.panel.news(f"Not stored: {explain(error)}", seconds=math.inf)

    return safely


class LabelWindow(QMainWindow):
    """The main window, which shows pairs and accepts answers."""

    def __init__(self, session: Session, fetcher: Fetcher) -> None:
        """Create the window.

        Args:
            session: The labelling session.
            fetcher: Fetches the session's pairs; it is started here.
        """
        super().__init__()
        self._session, self._fetcher = session, fetcher
        config = session.run.config
        self.player, self.pace, self._guard = Player(config.playback_fps), Pace(), Guard()
        self.marking, self._reaction = Marking(), config.queries.reaction_seconds
        self.pairs: deque[Shown] = deque()
        self._done: set[int] = set()
        self._problems: set[Withdrawal] | None = None  # earlier problems are not reported
        self._returning: int | None = None
        self._returns_until = 0.0
        self._state, self._last, self._can_finish = State.STARTING, self._session.last(), False
        self._shown_at = self._ticked_at = time.monotonic()
        self._kinds = session.kinds
        self._kind: FeedbackKind = next(iter(self._kinds.values()))
        self._build()
        self.setWindowTitle(printable(f"{config.task} - {session.run.root}", 200))
        self._clock = QTimer(self)
        self._clock.setTimerType(Qt.TimerType.PreciseTimer)
        self._clock.timeout.connect(self._tick)
        self._clock.start(max(8, int(1000 / (2 * config.playback_fps))))
        fetcher.ready.connect(self._on_pair)
        fetcher.progressed.connect(self._on_progress)
        fetcher.failed.connect(self.panel.news)
        fetcher.start()

    def _build(self) -> None:
        self.instruction, self.panel = Instruction(self._instruction()), StatusPanel()
        self.keys, self.clips = Keys(self._kind), _clip_area(self._kind)
        self._answers, self._others = answer_buttons(self.keys, self._perform), other_buttons(self._perform)
        whole = self._whole = QVBoxLayout()
        whole.setSpacing(8)
        whole.addWidget(self.instruction)
        whole.addWidget(self.clips, stretch=1)
        whole.addWidget(self._answers)
        whole.addLayout(self.panel)
        whole.addWidget(self._others)
        middle = QWidget()
        middle.setLayout(whole)
        self.setCentralWidget(middle)
        screen = self.screen().availableSize()
        self.resize(min(_SIZE[0], screen.width()), min(_SIZE[1], screen.height() - _TITLE_BAR))
        self._show_what_can_be_done()

    def _instruction(self) -> str:
        config = self._session.run.config
        return printable(self._kind.instruct(config.instruction, config.aim), 10_000)

    def _ask_for(self, kind: FeedbackKind) -> None:
        """Switch instruction, clips, keys and buttons to another feedback kind."""
        self._kind, self.keys = kind, Keys(kind)
        self.instruction.say(self._instruction())
        clips, answers = _clip_area(kind), answer_buttons(self.keys, self._perform)
        for old, new in ((self.clips, clips), (self._answers, answers)):
            self._whole.replaceWidget(old, new)
            old.deleteLater()
        self._whole.setStretchFactor(clips, 1)
        self.clips, self._answers = clips, answers

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Keep the relative height of the instruction."""
        super().resizeEvent(event)
        self.instruction.fit()

    # -- actions ------------------------------------------------------------------------------------------------------

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Perform the action of a key."""
        action = self.keys.action_of(event)
        if action is None:
            super().keyPressEvent(event)
        elif event.isAutoRepeat():  # holding a key down counts as one press
            self._guard.touched(action, time.monotonic())
        else:
            self._perform(action)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Register releases: some systems send repeated releases while a key is held."""
        if (action := self.keys.action_of(event)) is not None:
            self._guard.touched(action, time.monotonic())
        super().keyReleaseEvent(event)

    def _perform(self, action: Action) -> None:
        if action.says and self._guard.repeats(action, time.monotonic()):
            return
        if action in self.keys.of_a_query and self._in_view is None:
            return
        getattr(self, action.method)(*action.arguments)
        self._guard.touched(action, time.monotonic())  # presses while the answer was stored are repeats

    def _answerable(self) -> Shown | None:
        """The current pair, if it has been visible long enough to be answered."""
        if self._in_view is not None and self._guard.too_soon(time.monotonic()):
            self.panel.news(f"Too fast: that {self._kind.noun} has only just appeared")
            return None
        return self._in_view

    @_storing
    def answer(self, value: Any) -> None:
        """Store an answer to the current pair and show the next one."""
        if (shown := self._answerable()) is None:
            return
        now, repeat, asked = time.monotonic(), self._session.is_repeat(shown.lease), self._kind
        value = self.marking.value if asked.marks else value
        stored = self._session.answer(shown.lease, value, now - self._shown_at)
        self.pace.answered(now)
        self._next()
        if not stored:
            self.panel.news(f"Somebody else had answered that {asked.noun} first; their answer stands")
        elif repeat:
            self.panel.news(f"Stored. That {asked.noun} was asked before: it measures consistency and does not count")
        elif note := next((choice.note for choice in asked.choices if choice.value == value), ""):
            self.panel.news(note)
        self._look_at_last()

    def mark(self, sign: int) -> None:
        """Mark the step that was visible a reaction time ago; while paused, the visible one."""
        player = self.player
        reaction = 0.0 if player.paused else self._reaction * player.fps * player.speed
        self.marking.add(marked_step(player.frame, player.frames, reaction, looped=player.looped), sign)
        self._show_what_can_be_done()

    @_storing
    def flag(self) -> None:
        """Withdraw the current pair because a clip is broken."""
        if (shown := self._answerable()) is not None:
            noun = self._kind.noun
            self._session.flag(shown.lease)
            self._next()
            self.panel.news(f"Marked as broken: that {noun} will not be asked again. Undo reverts this")
            self._look_at_last()

    def undo(self) -> None:
        """Undo the last mark or, without marks, the last answer, and show its pair again."""
        self.panel.forget_news()
        if self.marking.undo():
            self._show_what_can_be_done()
            return
        try:
            taken = self._session.undo()
        except (PrefrlError, OSError) as error:
            self.panel.news(f"Not taken back: {explain(error)}")
            return
        if taken is None:
            self.panel.news("You have no answer to undo")
            return
        self.panel.news(f"Taken back: {said_in(taken)}. Answer again")
        self._look_at_last()
        self._done.discard(taken.query_id)
        # Ignore keys until the pair is visible again: they are meant for it.
        self._returning, self._returns_until = taken.query_id, time.monotonic() + _RETURN_SECONDS
        self.clips.show_message(f"Returning to the last {self._kind.noun}.")
        self._show_what_can_be_done()
        self._fetcher.wake(forget=taken.query_id)

    def pause(self) -> None:
        """Pause or resume playback."""
        self.player.paused = not self.player.paused
        self._show_what_can_be_done()

    def step(self, frames: int) -> None:
        """Pause and step by a number of frames."""
        self.player.step(frames)
        self._show_what_can_be_done()

    def speed(self, steps: int) -> None:
        """Change the playback speed."""
        self.player.faster(steps)
        self._show_what_can_be_done()

    def page(self, pages: int) -> None:
        """Scroll the instruction."""
        self.instruction.page(pages)

    def theme(self) -> None:
        """Toggle between the dark and the light theme."""
        toggle_theme()

    @_storing
    def finish(self) -> None:
        """Ask for confirmation, then end labelling for everyone."""
        if not self._can_finish:
            over = self._state in ENDED
            self.panel.news("Labelling is already finished" if over else "The run has no labels yet")
            return
        run, answered = self._session.run, self.panel.done.value()
        if confirm_finish(self, run.root, answered, run.config.queries.labels):
            self._session.finish()
            self._drop_pairs()
            self._fetcher.wake()

    def help(self) -> None:
        """Show the keys."""
        show_help(self, self.keys)

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Release the pairs and close. The run is not affected."""
        self._clock.stop()
        self._fetcher.close()
        self._session.close()
        super().closeEvent(event)

    # -- updates ------------------------------------------------------------------------------------------------------

    @property
    def _in_view(self) -> Shown | None:
        """The current pair, if it can be answered."""
        return self.pairs[0] if self.pairs and self._returning is None else None

    def _next(self) -> None:
        """Go to the next pair."""
        self._done.add(self.pairs.popleft().lease.query_id)
        self._present()
        self._fetcher.wake()

    def _look_at_last(self) -> None:
        """Show which answer undo would take back."""
        with suppress(PrefrlError, OSError):  # the answer is stored even if it cannot be read back now
            self._last = self._session.last()
        self.panel.show_last(self._last)
        self._show_what_can_be_done()

    def _drop_pairs(self) -> None:
        """Drop all pairs; they are fetched again if labelling is reopened."""
        for pair in self.pairs:
            self._fetcher.wake(forget=pair.lease.query_id)
        self.pairs.clear()
        self._present()

    def _show_what_can_be_done(self) -> None:
        """Disable buttons that would have no effect, and show the playback state."""
        dead = {
            *(() if self._last or self.marking else (UNDO,)),
            *(() if self._can_finish else (FINISH,)),
            *(() if self._in_view else self.keys.of_a_query),
        }
        self._answers.enable(dead)
        self._others.enable(dead)
        if self._in_view is None:
            self.panel.show_nothing_playing()
        else:
            self.panel.show_playing(self.player.paused, self.player.speed)

    def _on_pair(self, shown: Shown) -> None:
        number = shown.lease.query_id
        if number in self._done or any(pair.lease.query_id == number for pair in self.pairs):
            return  # already answered, or fetched twice
        before = self._in_view
        if number == self._returning:
            self.pairs.appendleft(shown)
            self._returning = None
        else:
            self.pairs.append(shown)
        if self._in_view is not before:
            self._present()

    def _present(self) -> None:
        """Show the first pair from its start, without marks."""
        self.marking.clear()
        if self._in_view is not None:
            if self._in_view.lease.kind != self._kind.name:
                self._ask_for(self._kinds.get(self._in_view.lease.kind, KINDS[self._in_view.lease.kind]))
            self.player.load(len(self._in_view.clips[0]))
            self.panel.tell(self._kind.question)
        else:
            self.clips.show_message("The next clips are being read.")
        self._paint()
        self.clips.paint_now()
        self._shown_at = time.monotonic()
        self._guard.shown(self._shown_at)
        self._show_what_can_be_done()

    def _tick(self) -> None:
        now = time.monotonic()
        self.player.advance(now - self._ticked_at)
        self._ticked_at = now
        self._paint()

    def _paint(self) -> None:
        if (pair := self._in_view) is not None:
            self.clips.show_frames(frames[self.player.frame] for frames in pair.clips)
            if self.clips.timeline is not None:
                self.clips.timeline.show_marks(self.marking.value, self.player.frame, self.player.frames)

    def _on_progress(self, progress: Progress) -> None:
        self._state = progress.situation.state
        self._can_finish = progress.has_store and self._state not in ENDED
        self.panel.show_progress(progress, self.pace)
        if self._state in ENDED or self._problems is None:
            self._look_at_last()
        if self._problems is not None and (happened := set(progress.problems) - self._problems):
            self.panel.news(f"A {self._kind.noun} was dropped: {happened.pop().description}")
        self._problems = set(progress.problems)
        if self._state in ENDED and self.pairs:
            self._drop_pairs()
        if self._returning is not None and time.monotonic() > self._returns_until:
            self._returning = None  # a clip is damaged, or another viewer has leased the pair
            self._present()
        self.panel.show_notice(progress.situation.notice)
        if self._in_view is not None:
            self.panel.tell(self._kind.question)
        elif self._returning is None:
            self._say_why(progress)
        self._show_what_can_be_done()

    def _say_why(self, progress: Progress) -> None:
        """Show the state of the run in place of the clips."""
        situation = progress.situation
        waited = f"\n\nWaiting for {clock(progress.seconds)}" if situation.state in PASSING else ""
        self.clips.show_message(situation.explanation + waited)
        self.panel.tell(situation.headline)


def _clip_area(kind: FeedbackKind) -> ClipArea:
    return ClipArea(kind.titles, timeline=bool(kind.marks))
