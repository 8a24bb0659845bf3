"""The dataset of the reward model: the newest standing labels, their segments and each member's bootstrap sample."""

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
from prefrl.feedback.terms import Label, Target, Undone
from prefrl.reward.batch import Batch
from prefrl.reward.input_normalisation import InputMoments
from prefrl.reward.loss import multiplicity
from prefrl.reward.segment_table import SegmentTable
from prefrl.seeding import stream
from prefrl.storage.files import Tree

ReadSegment = Callable[[int], tuple[Array, Floats]]
"""Segment id -> features as stored, and (L,) true rewards."""

_ANY_PLACE = np.zeros(1, dtype=np.int64)


class LabelType(NamedTuple):
    """The labels of one feedback kind."""

    kind: str = "comparison"
    arity: int = 2
    """A, the number of segments of a label."""
    loss: str | None = None
    """Name of their loss in `registry.LOSSES`; None for the configuration's."""
    by_step: bool = False
    """Whether a target has a number for each step."""


PAIRS = LabelType()
"""Comparisons, with the configuration's loss."""


class Row(NamedTuple):
    """A label for training."""

    id: int
    """Id of the label."""
    segments: tuple[int, ...]
    """Segment ids."""
    slots: tuple[int, ...]
    """The segments' slots in the table."""
    target: Target
    """The label's value."""
    multiplicity: tuple[int, ...]
    """Multiplicity in the bootstrap samples of the K members."""


def target_rows(labels: Iterable[Label | Row], length: int) -> Floats:
    """Return the targets of labels.

    Args:
        labels: B labels of one kind.
        length: L, the number of steps in a segment.

    Returns:
        (B,) numbers in double precision; for targets by step (B, L), of which missing steps are zero.
    """
    targets = [label.target for label in labels]
    padded = [each + (length - len(each)) * (0.0,) if isinstance(each, tuple) else each for each in targets]
    return np.array(padded, np.float64)


class Dataset:
    """Labels for training, which refer to a table of segments."""

    def __init__(
        self,
        config: RewardConfig,
        inputs: Inputs,
        length: int,
        seed: int,
        device: str,
        label_type: LabelType = PAIRS,
    ) -> None:
        """Create an empty dataset.

        Args:
            config: The capacity of the buffer, the batch size, and K.
            inputs: The inputs of a step.
            length: L, the number of steps in a segment.
            seed: Seed of batches and bootstrap samples.
            device: Device of the segments and batches.
            label_type: The kind of the labels.
        """
        self._config, self._seed, self._device, self._length = config, seed, device, length
        self.label_type = label_type
        self.segments = SegmentTable(inputs, length, label_type.arity * config.buffer, device)
        self.moments = InputMoments(inputs)
        self.last_id = 0
        """The newest row of the history that was added."""
        self._standing: list[Label] = []
        """All standing labels, sorted by id."""
        self._rows: deque[Row] = deque()
        """The newest standing labels, which are trained on."""
        self._rng = stream(seed, "batches")
        self._left_out: set[int] = set()
        self._reversed: set[int] = set()
        """Ids of labels that the trust filter leaves out, or reverses."""
        self._index()

    def __len__(self) -> int:
        """Return the number of labels that are trained on."""
        return len(self._rows)

    @property
    def used(self) -> int:
        """Number of labels that are trained on and not left out."""
        return len(self) - len(self.judged()["left_out"])

    @property
    def seen(self) -> int:
        """Number of standing labels, including those that are too old to be trained on."""
        return len(self._standing)

    @property
    def segments_seen(self) -> int:
        """Number of segments of the standing labels; a segment counts once for each of its labels."""
        return self.label_type.arity * self.seen

    def add(self, changes: Iterable[Label | Undone], read: ReadSegment) -> int:
        """Add labels, and remove undone ones, in the order of the history.

        The newest standing labels are trained on: newer labels displace the oldest, which return when newer labels are
        removed. The rows depend only on which labels stand, not on the other changes.

        Args:
            changes: Rows of the history.
            read: Reads a segment.

        Returns:
            The number of changes.
        """
        count = 0
        for change in changes:
            if isinstance(change, Undone):
                self._remove(change.answer, read)
            else:
                self._add(change, read)
            self.last_id = change.id
            count += 1
        if count:
            self._index()
        return count

    def _add(self, label: Label, read: ReadSegment) -> None:
        if len(self._rows) == self._config.buffer:
            self._release(self._rows.popleft())
        row = self._row(label, read)
        for segment in row.segments:
            self.moments.add(read(segment)[0])
        self._standing.append(label)
        self._rows.append(row)

    def _row(self, label: Label, read: ReadSegment) -> Row:
        """Create the row of a label, and hold its segments."""
        parts = [read(segment) for segment in label.segments]
        held = zip(label.segments, parts, strict=True)
        slots = tuple(self.segments.hold(segment, *part) for segment, part in held)
        return Row(label.id, label.segments, slots, label.target, self._multiplicity(label))

    def _multiplicity(self, label: Label) -> tuple[int, ...]:
        members = self._config.members
        if not self._config.bootstrap:
            return members * (1,)
        return tuple(multiplicity(self._seed, label.id, members).tolist())

    def _release(self, row: Row) -> None:
        for segment in row.segments:
            self.segments.release(segment)

    def _remove(self, answer: int, read: ReadSegment) -> None:
        """Remove an answer, if it is in the dataset: it may not be a label, or may have been damaged."""
        number = next((n for n in reversed(range(self.seen)) if self._standing[n].id == answer), None)
        if number is not None:
            self._forget(number, read)
            self._refill(read)

    def _forget(self, number: int, read: ReadSegment) -> None:
        """Remove the label with a number."""
        place = number - (self.seen - len(self._rows))
        label = self._standing.pop(number)
        self.moments.remove(label.segments, read, self.seen)
        if place >= 0:
            self._release(self._rows[place])
            del self._rows[place]

    def _refill(self, read: ReadSegment) -> None:
        """Fill free places with the newest of the older labels."""
        while (older := self.seen - len(self._rows)) and len(self._rows) < self._config.buffer:
            try:
                self._rows.appendleft(self._row(self._standing[older - 1], read))
            except PrefrlError:  # its clip has been damaged since
                self._forget(older - 1, read)

    def _index(self) -> None:
        """Index the rows for sampling; the n-th label has place n modulo the buffer's capacity."""
        placed, members = self._rows.copy(), self._config.members
        placed.rotate(self.seen - len(placed))
        self.slots = torch.tensor([row.slots for row in placed], dtype=torch.int64, device=self._device)
        """(B, A) slots of the segments of each place."""
        self.given = torch.from_numpy(target_rows(placed, self._length)).to(self._device, torch.float32)
        """(B,) targets as the labels say; (B, L) by step."""
        self._ids = [row.id for row in placed]
        """(B,) ids of the labels."""
        counts = np.array([row.multiplicity for row in placed], dtype=np.int64).reshape(-1, members).T
        places, kept = np.arange(len(placed)), np.array([number not in self._left_out for number in self._ids], bool)
        turned = torch.tensor([number in self._reversed for number in self._ids], dtype=torch.bool, device=self._device)
        self.target = self.given if self.label_type.by_step else torch.where(turned, 1 - self.given, self.given)
        """(B,) targets; those of reversed labels are turned round."""
        self.bags: list[Array] = [np.repeat(places, count * kept) for count in counts]
        """Each member's bootstrap sample as places; a label of multiplicity m occurs m times, if it is not left out."""
        self.held_out: list[Array] = [places[count == 0] for count in counts]
        """Places of each member's out-of-bag labels, its validation set."""

    def training_batch(self, size: int | None = None) -> Batch:
        """Draw a batch for each member from its own bootstrap sample; its size is by default `reward.batch_size`."""
        return self._batch(self.bags, size)

    def validation_batch(self, size: int | None = None) -> Batch:
        """Draw a batch for each member from the labels that it does not train on."""
        return self._batch(self.held_out, size)

    def epoch(self, size: int | None = None) -> list[Batch]:
        """Divide the labels into batches, the last of which may be smaller, in an order of each member's own.

        Bootstrap samples have about as many labels as there are. They are repeated or cut to exactly as many.
        """
        own, size = [bag if len(bag) else _ANY_PLACE for bag in self.bags], size or self._config.batch_size
        count = len(self) if self._config.bootstrap else len(own[0])
        orders = np.stack([np.resize(self._rng.permutation(bag), count) for bag in own])
        return [self._batch_of(orders[:, begin : begin + size], self.bags) for begin in range(0, count, size)]

    def judge(self, left_out: Tensor, turned: Tensor) -> None:
        """Leave some labels out, and reverse others; arguments are (B,), by place."""
        numbers = np.array(self._ids, dtype=np.int64)
        self.judge_labels(numbers[left_out.cpu().numpy()].tolist(), numbers[turned.cpu().numpy()].tolist())

    def judge_labels(self, left_out: Iterable[int], turned: Iterable[int]) -> None:
        """Leave some labels out, and reverse others, by their ids; all others are as they were given."""
        self._left_out, self._reversed = set(left_out), set(turned)
        self._index()

    def judged(self) -> dict[str, list[int]]:
        """Return the ids of the labels that are left out, and of those that are reversed."""
        present = set(self._ids)
        return {"left_out": sorted(self._left_out & present), "reversed": sorted(self._reversed & present)}

    def _batch(self, places: list[Array], size: int | None) -> Batch:
        size = size or self._config.batch_size
        chosen = [self._rng.choice(own if len(own) else _ANY_PLACE, size) for own in places]
        return self._batch_of(np.stack(chosen), places)

    def _batch_of(self, chosen: Array, places: list[Array]) -> Batch:
        """Create a batch of (K, B) places, which were drawn from each member's `places`."""
        rows = torch.from_numpy(chosen).to(self._device)
        drawn = torch.tensor([len(own) > 0 for own in places], device=self._device)
        loss, kind = self.label_type.loss, self.label_type.kind
        return Batch(self.segments, self.slots[rows], self.target[rows], drawn, loss=loss, kind=kind)

    def newest_steps(self, count: int) -> Tensor:
        """Return all steps of the newest labels' segments.

        Args:
            count: Number of labels; all are used if there are fewer.

        Returns:
            (N, *step)
        """
        newest = list(self._rows)[-count:]
        slots = torch.tensor([row.slots for row in newest], dtype=torch.int64, device=self._device)
        return self.segments.steps(slots).flatten(0, 2)

    def state_dict(self) -> Tree:
        """Return the state that cannot be read from the store again."""
        counters = {"last_id": self.last_id, "seen": self.seen}
        return {**self.moments.state_dict(), "rng": self._rng.bit_generator.state, "counters": counters}

    def load_state_dict(self, state: Tree, labels: Iterable[Label], read: ReadSegment) -> None:
        """Restore a saved state.

        Args:
            state: From `state_dict`.
            labels: All labels that stood as of the state's `last_id`, in order.
            read: Reads a segment.
        """
        for row in self._rows:
            self._release(row)
        self._standing = list(labels)
        self._rows = deque(self._row(label, read) for label in self._standing[-self._config.buffer :])
        self._index()
        was = state["counters"]["seen"]  # larger than the number of labels if clips have been damaged since
        self.moments.load_state_dict(state, self.seen / was if was else 1.0)
        self.last_id = state["counters"]["last_id"]
        self._rng.bit_generator.state = state["rng"]
