"""What the reward model is fitted to: the newest labels that stand, their segments, and each member's bootstrap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from prefrl.arrays import Array, Floats
from prefrl.config import RewardConfig
from prefrl.errors import PrefrlError
from prefrl.experience.inputs import Inputs
from prefrl.feedback.terms import Label, Undone
from prefrl.reward.batch import Batch
from prefrl.reward.input_normalisation import InputMoments
from prefrl.reward.loss import multiplicity
from prefrl.reward.segment_table import SegmentTable
from prefrl.seeding import stream
from prefrl.storage.files import Tree

ReadSegment = Callable[[int], tuple[Array, Floats]]
"""segment id -> its features as they are kept, true rewards (L,)"""

_ANY_PLACE = np.zeros(1, dtype=np.int64)


class Row(NamedTuple):
    """A label that is trained on."""

    segments: tuple[int, ...]
    """Segment ids."""
    slots: tuple[int, ...]
    """Their places in the table."""
    target: float
    """What the label says."""
    multiplicity: tuple[int, ...]
    """How often each of the K members' bootstraps holds it."""


class Dataset:
    """Rows of labels that refer to a table of segments."""

    def __init__(
        self, config: RewardConfig, inputs: Inputs, length: int, seed: int, device: str, arity: int = 2
    ) -> None:
        """Make an empty dataset.

        Args:
            config: The buffer's capacity, batches, and K.
            inputs: What a step is.
            length: L, of a segment.
            seed: Of batches and bootstraps.
            device: Where segments are kept and batches are made.
            arity: A, the segments of a label.
        """
        self._config, self._seed, self._device, self._arity = config, seed, device, arity
        self.segments = SegmentTable(inputs, length, arity * config.buffer, device)
        self.moments = InputMoments(inputs)
        self.last_id = 0
        """The newest row of the history that was taken in."""
        self._standing: list[Label] = []
        """All that stand, by their ids."""
        self._rows: deque[Row] = deque()
        """The newest of them: those that are trained on."""
        self._rng = stream(seed, "batches")
        self._index()

    def __len__(self) -> int:
        """Labels that are trained on."""
        return len(self._rows)

    @property
    def seen(self) -> int:
        """Labels that stand, those that are too old to be trained on included."""
        return len(self._standing)

    @property
    def segments_seen(self) -> int:
        """Segments of the labels that stand; one that is in several labels counts in each."""
        return self._arity * self.seen

    def add(self, changes: Iterable[Label | Undone], read: ReadSegment) -> int:
        """Take in labels, and give up those that were taken back, in the order of the history.

        The newest that stand are trained on: the oldest make room, and come back where newer ones are given up. What
        is learned from depends on which stand, and not on what else was said meanwhile.

        Args:
            changes: Rows of the history.
            read: Reads a segment.

        Returns:
            How many changes there were.
        """
        count = 0
        for change in changes:
            if isinstance(change, Undone):
                self._give_up(change.answer, read)
            else:
                self._take_in(change, read)
            self.last_id = change.id
            count += 1
        if count:
            self._index()
        return count

    def _take_in(self, label: Label, read: ReadSegment) -> None:
        if len(self._rows) == self._config.buffer:
            self._release(self._rows.popleft())
        row = self._row(label, read)
        for segment in row.segments:
            self.moments.add(read(segment)[0])
        self._standing.append(label)
        self._rows.append(row)

    def _row(self, label: Label, read: ReadSegment) -> Row:
        """A label's row, its segments held."""
        parts = [read(segment) for segment in label.segments]
        held = zip(label.segments, parts, strict=True)
        slots = tuple(self.segments.hold(segment, *part) for segment, part in held)
        counts = multiplicity(self._seed, label.id, self._config.members)
        return Row(label.segments, slots, label.target, tuple(counts.tolist()))

    def _release(self, row: Row) -> None:
        for segment in row.segments:
            self.segments.release(segment)

    def _give_up(self, answer: int, read: ReadSegment) -> None:
        """Forget an answer; nothing where it was no label, or left out as damaged."""
        number = next((n for n in reversed(range(self.seen)) if self._standing[n].id == answer), None)
        if number is not None:
            self._forget(number, read)
            self._refill(read)

    def _forget(self, number: int, read: ReadSegment) -> None:
        """Forget the label of this number."""
        place = number - (self.seen - len(self._rows))
        label = self._standing.pop(number)
        self.moments.remove(label.segments, read, self.seen)
        if place >= 0:
            self._release(self._rows[place])
            del self._rows[place]

    def _refill(self, read: ReadSegment) -> None:
        """Take the newest of the older labels back where there is room for them."""
        while (older := self.seen - len(self._rows)) and len(self._rows) < self._config.buffer:
            try:
                self._rows.appendleft(self._row(self._standing[older - 1], read))
            except PrefrlError:  # its clip was damaged since
                self._forget(older - 1, read)

    def _index(self) -> None:
        """Lay the rows out to be drawn from; the n-th label has the place n modulo the buffer's capacity."""
        placed, members = self._rows.copy(), self._config.members
        placed.rotate(self.seen - len(placed))
        self.slots = torch.tensor([row.slots for row in placed], dtype=torch.int64, device=self._device)
        """(B, A) where each place's segments are in the table."""
        self.target = torch.tensor([row.target for row in placed], dtype=torch.float32, device=self._device)
        """(B,) what its label says."""
        counts = np.array([row.multiplicity for row in placed], dtype=np.int64).reshape(-1, members).T
        places = np.arange(len(placed))
        self.bags: list[Array] = [np.repeat(places, count) for count in counts]
        """Each member's bootstrap, as places: a label of multiplicity m is there m times."""
        self.held_out: list[Array] = [places[count == 0] for count in counts]
        """Each member's out-of-bag labels: its validation set."""

    def training_batch(self) -> Batch:
        """Labels drawn for each member from its own bootstrap."""
        return self._batch(self.bags)

    def validation_batch(self) -> Batch:
        """Labels drawn for each member from those that it does not train on."""
        return self._batch(self.held_out)

    def _batch(self, places: list[Array]) -> Batch:
        size = self._config.batch_size
        chosen = [self._rng.choice(own if len(own) else _ANY_PLACE, size) for own in places]
        rows = torch.from_numpy(np.stack(chosen)).to(self._device)
        drawn = torch.tensor([len(own) > 0 for own in places], device=self._device)
        return Batch(self.segments, self.slots[rows], self.target[rows], drawn)

    def newest_steps(self, count: int) -> Tensor:
        """(N, *step) all steps of the newest labels' segments, of so many labels or of all that are trained on."""
        newest = list(self._rows)[-count:]
        slots = torch.tensor([row.slots for row in newest], dtype=torch.int64, device=self._device)
        return self.segments.steps(slots).flatten(0, 2)

    def state_dict(self) -> Tree:
        """What cannot be read from the store again."""
        counters = {"last_id": self.last_id, "seen": self.seen}
        return {**self.moments.state_dict(), "rng": self._rng.bit_generator.state, "counters": counters}

    def load_state_dict(self, state: Tree, labels: Iterable[Label], read: ReadSegment) -> None:
        """Go back to a saved state.

        Args:
            state: From `state_dict`.
            labels: All that stood as of the state's `last_id`, in order.
            read: Reads a segment.
        """
        for row in self._rows:
            self._release(row)
        self._standing = list(labels)
        self._rows = deque(self._row(label, read) for label in self._standing[-self._config.buffer :])
        self._index()
        was = state["counters"]["seen"]  # more than are left, where clips were damaged since
        self.moments.load_state_dict(state, self.seen / was if was else 1.0)
        self.last_id = state["counters"]["last_id"]
        self._rng.bit_generator.state = state["rng"]
