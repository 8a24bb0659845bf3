"""One person's labelling of one run: pairs in hand, answers, undo, progress. Knows nothing of windows.

Everything a person says is in the store before the next pair is shown.
"""

from __future__ import annotations

import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from prefrl.clips import ClipFolder
from prefrl.errors import PrefrlError, UsageError
from prefrl.film import read_film
from prefrl.queue import LabelQueue, Lease
from prefrl.repeats import Repeats
from prefrl.run import RunDirectory
from prefrl.store import LabelStore
from prefrl.types import Answer, Array, Judgement

IN_HAND = 4
"""Pairs that a viewer has ready: the one shown, and the next."""


@dataclass(frozen=True, eq=False)
class Pair:
    """Two clips to be compared, with all their frames."""

    lease: Lease
    left: Array
    """(F, H, W, 3) uint8"""
    right: Array
    """(F, H, W, 3) uint8"""


@dataclass(frozen=True)
class Progress:
    """How far the labelling has come."""

    answered: int
    """Left, right or equal, by whomever."""
    budget: int
    waiting: str | None
    """Why there is no pair to show; None where there is one."""
    problems: tuple[str, ...]
    """Clips that could not be shown."""
    closed: bool = False
    """Whether somebody said that the run is to finish with the labels there are."""
    agent_waits: bool = False
    """Whether the agent can do nothing before there are more labels."""


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
        if not labeller.strip():
            raise UsageError("--labeller must not be empty")
        self.labeller = labeller.strip()
        self._lock = self._join(root)
        self._person = f"{self.labeller}@{socket.gethostname()}:"
        self.viewer = f"{self._person}{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self.clips = ClipFolder(self.run.clips)
        self._store: LabelStore | None = None
        self._queue: LabelQueue | None = None
        self._in_hand = 0

    def _join(self, root: Path) -> FileLock:
        name = "".join(letter if letter.isalnum() else f"%{ord(letter):x}" for letter in self.labeller)
        try:
            return self.run.lock(f"labeller-{name}")
        except UsageError:
            raise UsageError(f"{self.labeller} is labelling {root} in another window; use another --labeller") from None

    def _connect(self) -> LabelQueue | None:
        """The queue; None where the run has not come so far as to have one."""
        if self._queue is None and self.run.labels.exists():
            self._store = LabelStore(self.run.labels)
            self._queue = LabelQueue(self._store)
            self._queue.release_all(self._person)  # what a viewer of theirs had that was killed
            self._repeats = Repeats(self._store, self._queue, self.run.config.queries.repeats)
        return self._queue

    def leases(self, wanted: int = IN_HAND) -> list[Lease]:
        """The pairs in hand, topped up."""
        queue = self._connect()
        if queue is None:
            return []
        queue.renew(self.viewer)
        self._repeats.ask(self.viewer, self.labeller)
        leases = queue.lease(self.viewer, wanted)
        self._in_hand = len(leases)
        return leases

    def load(self, lease: Lease) -> Pair | None:
        """Read a pair's clips; one that cannot be read is withdrawn, and None."""
        length = self.run.config.queries.segment_length
        try:
            films = [read_film(self.clips.video(segment), length) for segment in (lease.left, lease.right)]
            for segment in (lease.left, lease.right):
                self.clips.load(segment)  # an answer to what the learner cannot read would be lost on it
        except PrefrlError as error:
            self.flag(lease, str(error))
            return None
        return Pair(lease, *films)

    def answer(self, lease: Lease, judgement: Judgement, seconds: float) -> bool:
        """Store an answer, durably.

        Args:
            lease: The pair.
            judgement: What the person says of it.
            seconds: How long they took.

        Returns:
            False where somebody else has answered the pair meanwhile.
        """
        queue = self._connect()
        assert queue is not None
        step = int(self.run.read_progress().get("step", lease.agent_step))
        return queue.answer(Answer(lease.query_id, judgement, "human", step, self.labeller, round(seconds, 3)))

    def undo(self) -> int | None:
        """Take back this person's newest answer; its query is the next in hand. None where there is none."""
        queue = self._connect()
        taken = queue.take_back(self.viewer, self.labeller) if queue else None
        return taken.query_id if taken else None

    def flag(self, lease: Lease, reason: str) -> None:
        """Take a pair out of the queue that cannot be judged because something is wrong with its clips."""
        queue = self._connect()
        assert queue is not None
        queue.withdraw(lease.query_id, reason)

    def progress(self) -> Progress:
        """How far the labelling has come, and what is waited for."""
        queue, budget = self._connect(), self.run.config.queries.labels
        if queue is None or self._store is None:
            return Progress(0, budget, self._agent("the run is starting"), ())
        counts, waiting = self._store.counts(), queue.waiting()
        reason = None
        if waiting["ready"] == 0:
            reason = self._agent("clips are being rendered" if waiting["unrendered"] else "waiting for the agent")
        elif not self._in_hand and waiting["leased"] >= waiting["ready"]:
            reason = "other people have the pairs that are left"
        if closed := self._store.closed:
            budget, reason = counts["answered"], "the run finishes with the labels there are"
        elif counts["answered"] >= budget:
            reason = "all labels are given: the agent trains on to its end"
        if self.run.finished:
            reason = "the run is finished: this window can be closed"
        waits = str(self.run.read_progress().get("state", "")).startswith("waiting for")
        return Progress(counts["answered"], budget, reason, tuple(queue.problems()[:5]), closed, waits)

    def finish(self) -> None:
        """Ask no more: the run goes on to its end with the labels there are."""
        queue = self._connect()
        if queue and self._store:
            self._store.closed = True
            queue.release(self.viewer)

    def _agent(self, otherwise: str) -> str:
        """What the run says of itself, where that explains that there is nothing to label."""
        if not self.run.running:
            return f"no process is at work on the run: `prefrl resume {self.run.root}`"
        state = str(self.run.read_progress().get("state", ""))
        return otherwise if state.startswith("waiting for") or not state else f"{otherwise}: it is {state}"

    def close(self) -> None:
        """Give back what is in hand."""
        if self._queue:
            self._queue.release(self.viewer)
        if self._store:
            self._store.close()
        self._lock.release()
