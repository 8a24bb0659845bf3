"""The labelling session of one person on one run: leased pairs, answers, undo and progress. Independent of Qt.

Every answer is stored before the next pair is shown.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
import uuid
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from clip_viewer.situation import Facts, Situation, State, describe, life_of
from prefrl.arrays import Array
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.kinds import FeedbackKind, kinds_of
from prefrl.feedback.leases import LabelQueue, Lease, TakenBack, Withdrawal
from prefrl.feedback.repeats import Repeats
from prefrl.feedback.run_store import run_store
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.printable import printable
from prefrl.rendering.clip_video import read_clip_video
from prefrl.runs.directory import RunDirectory

IN_HAND = 4
"""Number of pairs that a viewer leases: the current one and the next ones."""
_LONGEST_NAME = 64
_LONGEST_FILE_NAME = 100
_PROBLEMS = 20
"""Number of newest withdrawals that a viewer keeps track of."""
_OVER = "the run is finished and can no longer be changed"


@dataclass(frozen=True, eq=False)
class Clips:
    """The clips of a query, with all frames."""

    lease: Lease
    frames: tuple[Array, ...]
    """Frames of each clip, shape (F, H, W, 3), uint8."""


@dataclass(frozen=True)
class Progress:
    """The progress of labelling and the state of the run."""

    answered: int
    """Labels given by anyone (left, right or equal)."""
    budget: int
    situation: Situation
    seconds: float = 0.0
    """Seconds since this viewer first saw the current state."""
    incomparable: int = 0
    """Pairs answered with `can't tell`, which do not count as labels."""
    repeats: int = 0
    """Answers to repeated pairs, which do not count as labels."""
    has_store: bool = True
    """Whether the run has created its label store."""
    problems: tuple[Withdrawal, ...] = ()
    """The newest pairs withdrawn by others."""


class Session:
    """A viewer's connection to a run."""

    def __init__(self, root: Path, labeller: str) -> None:
        """Join a run.

        Args:
            root: The run directory.
            labeller: The person's name.

        Raises:
            UsageError: if the folder is not a run, the run does not ask people or is finished, or a labeller of that
                name is already connected.
            PrefrlError: if the run's files are damaged.
        """
        self.run = RunDirectory.open(root)
        config = self.run.config
        if not config.asks_people:
            hint = "start one that does with `prefrl train TASK --teacher human`"
            raise UsageError(f"{root} asks {config.teacher}, not people: {hint}")
        if self.run.finished:
            raise UsageError(f"{root} is finished; `prefrl resume {root} --labels N --steps N` extends it")
        self.labeller = _checked_name(labeller)
        self._lock = self._join(root)
        self._person = f"{self.labeller}@{socket.gethostname()}:"
        self.viewer = f"{self._person}{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.clips = ClipFolder(self.run.clips)
        self._opened = ExitStack()
        self._store: LabelStore | None = None
        self._queue: LabelQueue | None = None
        self._in_hand = 0
        self._config_written = self._written()
        self._state, self._state_since = State.STARTING, time.monotonic()

    @property
    def kinds(self) -> dict[str, FeedbackKind]:
        """The feedback kinds that the run asks for, by name."""
        return kinds_of(self.run.config)

    @property
    def _noun(self) -> str:
        """What people call the segments of the run's queries."""
        nouns = {kind.noun for kind in self.kinds.values()}
        return nouns.pop() if len(nouns) == 1 else "question"

    def _join(self, root: Path) -> FileLock:
        try:
            return self.run.lock(f"labeller-{_file_name(self.labeller)}")
        except UsageError:
            raise UsageError(f"{self.labeller} is labelling {root} in another window; use another --labeller") from None

    def _connect(self) -> LabelQueue | None:
        """The queue; None if the run has not created its label store yet."""
        if self._queue is None and self.run.labels.exists():
            self._store = self._opened.enter_context(run_store(self.run))
            self._queue = LabelQueue(self._store)
            self._queue.release_all(self._person)  # leases of a killed viewer of the same person
            self._repeats = Repeats(self._store, self._queue, self.run.config.queries.repeats, self.run.config.seed)
        return self._queue

    def leases(self, wanted: int = IN_HAND) -> list[Lease]:
        """Renew the leased pairs and lease more up to `wanted`."""
        queue = self._connect()
        if queue is None or self.run.finished:
            self._in_hand = 0
            return []
        queue.renew(self.viewer)
        self._repeats.ask(self.viewer, self.labeller)
        leases = queue.lease(self.viewer, wanted, self.labeller)
        self._in_hand = len(leases)
        return leases

    def load(self, lease: Lease) -> Clips | None:
        """Read the clips of a pair. If they cannot be read, the pair is withdrawn and None returned."""
        length = self.run.config.queries.segment_length
        try:
            frames = [read_clip_video(self.clips.video(segment), length) for segment in lease.segments]
            for segment in lease.segments:
                self.clips.load(segment)  # the learner must be able to read it as well
        except PrefrlError as error:
            queue = self._connect()
            assert queue is not None
            queue.withdraw(lease.query_id, str(error))
            return None
        return Clips(lease, tuple(frames))

    def answer(self, lease: Lease, value: Any, seconds: float) -> bool:
        """Store an answer durably.

        Args:
            lease: The pair.
            value: The answer, a value of the query's feedback kind.
            seconds: Response time.

        Returns:
            False if somebody else has already answered the pair.

        Raises:
            UsageError: if the run is finished or has no labels yet.
        """
        queue = self._asking()
        progress = self.run.read_progress()
        step = progress.step if progress else lease.agent_step
        answer = Answer(lease.query_id, value, "human", step, self.labeller, round(seconds, 3))
        return queue.answer(answer, self.viewer)

    def flag(self, lease: Lease) -> None:
        """Withdraw a pair because one of its clips is broken."""
        self._asking().withdraw(lease.query_id, "a clip is broken", self.labeller)

    def undo(self) -> TakenBack | None:
        """Undo this person's last answer or flag. Its query is leased next. None if there is nothing to undo.

        Raises:
            UsageError: if labelling or the run is finished.
        """
        return self._asking().take_back(self.viewer, self.labeller) if self._connect() else None

    def last(self) -> TakenBack | None:
        """The answer or flag that `undo` would take back."""
        queue = self._connect()
        return queue.last_undoable(self.labeller) if queue and not self.run.finished else None

    def is_repeat(self, lease: Lease) -> bool:
        """Whether a pair is a repeat, whose answer measures consistency and does not count."""
        return self._connect() is not None and self._repeats.is_repeat(lease.query_id)

    def finish(self) -> None:
        """End labelling for everyone; the run continues with the labels collected so far.

        Raises:
            UsageError: if there are no labels yet, or the run is finished.
        """
        queue = self._asking()
        assert self._store is not None
        self._store.closed = True
        queue.release(self.viewer)

    def _asking(self) -> LabelQueue:
        """The queue, if the run can still be changed."""
        if self.run.finished:
            raise UsageError(_OVER)
        if (queue := self._connect()) is None:
            raise UsageError("the run is starting and has no labels yet")
        return queue

    def _reread(self) -> None:
        """Reload the configuration if it has changed: `prefrl resume` can raise the budget while a viewer is open."""
        written = self._written()
        if written != self._config_written:
            self.run, self._config_written = RunDirectory.open(self.run.root), written

    def _written(self) -> int:
        return (self.run.root / "config.json").stat().st_mtime_ns

    def progress(self) -> Progress:
        """The progress of labelling and the state of the run."""
        self._reread()
        queue, facts = self._connect(), self._facts()
        situation = describe(facts)
        if situation.state is not self._state:
            self._state, self._state_since = situation.state, time.monotonic()
        seconds = time.monotonic() - self._state_since
        if queue is None or self._store is None:
            return Progress(0, facts.budget, situation, seconds, has_store=False)
        others = [said for said in queue.withdrawals(_PROBLEMS) if said.labeller != self.labeller]
        uncounted = (self._store.counts()["incomparable"], self._repeats.answered())
        return Progress(facts.answered, facts.budget, situation, seconds, *uncounted, problems=tuple(others))

    def _facts(self) -> Facts:
        said, run = self.run.read_progress(), self.run
        facts = Facts(
            root=str(run.root),
            life=life_of(running=run.running, finished=run.finished, said=said),
            said=said,
            budget=run.config.queries.labels,
            has_store=False,
            noun=self._noun,
        )
        if self._queue is None or self._store is None:
            return facts
        waiting = self._queue.waiting()
        answered, closed = self._store.counts()["answered"], self._store.closed
        in_hand = 0 if closed else self._in_hand
        return replace(
            facts,
            has_store=True,
            answered=answered,
            closed=closed,
            ready=waiting["ready"],
            unrendered=waiting["unrendered"],
            leased=waiting["leased"],
            in_hand=in_hand,
        )

    def close(self) -> None:
        """Release all leased pairs and disconnect."""
        if self._queue:
            self._queue.release(self.viewer)
        self._opened.close()
        self._lock.release()


def _checked_name(labeller: str) -> str:
    """Check a labeller's name and strip spaces around it.

    Raises:
        UsageError: if it cannot be used.
    """
    name = labeller.strip()
    if not name:
        raise UsageError("--labeller must not be empty")
    if len(name) > _LONGEST_NAME:
        raise UsageError(f"--labeller has {len(name)} characters; use at most {_LONGEST_NAME}")
    if not name.isprintable():
        raise UsageError(f"--labeller {printable(name)} has characters that cannot be shown; use another name")
    return name


def _file_name(labeller: str) -> str:
    """A short file name for a labeller."""
    name = "".join(letter if letter.isalnum() else f"%{ord(letter):x}" for letter in labeller)
    if len(name.encode()) <= _LONGEST_FILE_NAME:
        return name
    return hashlib.sha256(labeller.encode()).hexdigest()
