"""One person's labelling of one run: pairs in hand, answers, undo, progress. Knows nothing of windows.

Everything a person says is in the store before the next pair is shown.
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
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.leases import LabelQueue, Lease, TakenBack, Withdrawal
from prefrl.feedback.repeats import Repeats
from prefrl.feedback.run_store import run_store
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.printable import printable
from prefrl.rendering.film import read_film
from prefrl.runs.directory import RunDirectory
from prefrl.types import Array

IN_HAND = 4
"""Pairs that a viewer has ready: the one shown, and the next."""
_LONGEST_NAME = 64
_LONGEST_FILE_NAME = 100
_PROBLEMS = 20
"""Newest withdrawals of which a viewer knows."""
_OVER = "the run is finished: nothing can be changed in it any more"


@dataclass(frozen=True, eq=False)
class Clips:
    """What a query is about: its clips, with all their frames."""

    lease: Lease
    films: tuple[Array, ...]
    """(F, H, W, 3) uint8, each"""


@dataclass(frozen=True)
class Progress:
    """How far the labelling has come, and what is going on."""

    answered: int
    """Left, right or equal, by whomever."""
    budget: int
    situation: Situation
    seconds: float = 0.0
    """How long the situation's state has lasted, as far as this viewer has seen it."""
    incomparable: int = 0
    """Pairs of which somebody could not tell: no labels."""
    repeats: int = 0
    """Answers to pairs that were asked before: no labels."""
    has_store: bool = True
    """Whether the run has come so far as to have labels."""
    problems: tuple[Withdrawal, ...] = ()
    """The newest pairs that were withdrawn, but for what this labeller said of them."""


class Session:
    """A viewer's connection to a run."""

    def __init__(self, root: Path, labeller: str) -> None:
        """Join a run.

        Args:
            root: The run.
            labeller: The person's name.

        Raises:
            UsageError: for a folder that is no run, a run that asks nobody or is finished, or a name that labels there
                already.
            PrefrlError: if the run's files are damaged.
        """
        self.run = RunDirectory.open(root)
        config = self.run.config
        if not config.asks_people:
            hint = "start one that does with `prefrl train TASK --teacher human`"
            raise UsageError(f"{root} asks {config.teacher}, not people: {hint}")
        if self.run.finished:
            raise UsageError(f"{root} is finished; `prefrl resume {root} --labels N --steps N` gives it more of either")
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

    def _join(self, root: Path) -> FileLock:
        try:
            return self.run.lock(f"labeller-{_file_name(self.labeller)}")
        except UsageError:
            raise UsageError(f"{self.labeller} is labelling {root} in another window; use another --labeller") from None

    def _connect(self) -> LabelQueue | None:
        """The queue; None where the run has not come so far as to have one."""
        if self._queue is None and self.run.labels.exists():
            self._store = self._opened.enter_context(run_store(self.run))
            self._queue = LabelQueue(self._store)
            self._queue.release_all(self._person)  # what a viewer of theirs had that was killed
            self._repeats = Repeats(self._store, self._queue, self.run.config.queries.repeats, self.run.config.seed)
        return self._queue

    def leases(self, wanted: int = IN_HAND) -> list[Lease]:
        """The pairs in hand, topped up."""
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
        """Read a pair's clips; one that cannot be read is withdrawn, and None."""
        length = self.run.config.queries.segment_length
        try:
            films = [read_film(self.clips.video(segment), length) for segment in lease.segments]
            for segment in lease.segments:
                self.clips.load(segment)  # an answer to what the learner cannot read would be lost on it
        except PrefrlError as error:
            queue = self._connect()
            assert queue is not None
            queue.withdraw(lease.query_id, str(error))
            return None
        return Clips(lease, tuple(films))

    def answer(self, lease: Lease, value: Any, seconds: float) -> bool:
        """Store an answer, durably.

        Args:
            lease: The pair.
            value: What the person says of it: a value of its kind.
            seconds: How long they took.

        Returns:
            False where somebody else has answered the pair meanwhile.
        """
        queue = self._asking()
        progress = self.run.read_progress()
        step = progress.step if progress else lease.agent_step
        answer = Answer(lease.query_id, value, "human", step, self.labeller, round(seconds, 3))
        return queue.answer(answer, self.viewer)

    def flag(self, lease: Lease) -> None:
        """Take a pair out of the queue, a clip of which this person finds broken."""
        self._asking().withdraw(lease.query_id, "a clip is broken", self.labeller)

    def undo(self) -> TakenBack | None:
        """Take back what this person said last; its query is the next in hand. None where there is nothing.

        Raises:
            UsageError: if labelling or the run is finished: nothing is changed then.
        """
        return self._asking().take_back(self.viewer, self.labeller) if self._connect() else None

    def last(self) -> TakenBack | None:
        """What `undo` would take back."""
        queue = self._connect()
        return queue.last_said(self.labeller) if queue and not self.run.finished else None

    def is_repeat(self, lease: Lease) -> bool:
        """Whether a pair was asked before, so that its answer measures people and is no label."""
        return self._connect() is not None and self._repeats.is_repeat(lease.query_id)

    def finish(self) -> None:
        """Ask nobody any more: the run goes on to its end with the labels there are.

        Raises:
            UsageError: if there are no labels yet, or the run is finished.
        """
        queue = self._asking()
        assert self._store is not None
        self._store.closed = True
        queue.release(self.viewer)

    def _asking(self) -> LabelQueue:
        """The queue of a run that can still be changed."""
        if self.run.finished:
            raise UsageError(_OVER)
        if (queue := self._connect()) is None:
            raise UsageError("the run is starting and has no labels yet")
        return queue

    def _reread(self) -> None:
        """Meet a configuration that was changed: `prefrl resume` can raise the budget under an open viewer."""
        written = self._written()
        if written != self._config_written:
            self.run, self._config_written = RunDirectory.open(self.run.root), written

    def _written(self) -> int:
        return (self.run.root / "config.json").stat().st_mtime_ns

    def progress(self) -> Progress:
        """How far the labelling has come, and what is going on."""
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
        """Give back what is in hand."""
        if self._queue:
            self._queue.release(self.viewer)
        self._opened.close()
        self._lock.release()


def _checked_name(labeller: str) -> str:
    """A person's name as it is stored.

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
    """The name as a part of a file's, which must not be long."""
    name = "".join(letter if letter.isalnum() else f"%{ord(letter):x}" for letter in labeller)
    if len(name.encode()) <= _LONGEST_FILE_NAME:
        return name
    return hashlib.sha256(labeller.encode()).hexdigest()
