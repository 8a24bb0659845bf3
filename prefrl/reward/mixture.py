"""The datasets of a run that asks for several feedback kinds, as one: the loss is the sum over the labels of all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import zip_longest

import torch
from torch import Tensor

from prefrl.feedback.terms import Label, Undone
from prefrl.reward.batch import Batch
from prefrl.reward.dataset import Dataset, ReadSegment
from prefrl.reward.input_normalisation import InputMoments
from prefrl.storage.files import Tree

_OTHERS = "other_kinds"


class Mixture:
    """A dataset for each feedback kind."""

    def __init__(self, parts: Sequence[Dataset], batch_size: int) -> None:
        """Join datasets.

        Args:
            parts: The datasets, of one kind each; the first is the run's first kind.
            batch_size: Labels in a batch, divided among the kinds by their numbers of labels.
        """
        self.parts, self._batch_size = list(parts), batch_size
        self.last_id = 0
        """The newest row of the history that was added."""

    @property
    def first(self) -> Dataset:
        """The dataset of the run's first kind."""
        return self.parts[0]

    def __len__(self) -> int:
        """Return the number of labels that are trained on."""
        return sum(map(len, self.parts))

    @property
    def seen(self) -> int:
        """Number of standing labels, including those that are too old to be trained on."""
        return sum(part.seen for part in self.parts)

    @property
    def segments_seen(self) -> int:
        """Number of segments of the standing labels; a segment counts once for each of its labels."""
        return sum(part.segments_seen for part in self.parts)

    @property
    def moments(self) -> InputMoments:
        """The moments of the segments of all labels."""
        return self.first.moments if len(self.parts) == 1 else InputMoments.total([part.moments for part in self.parts])

    def add(self, changes: Iterable[Label | Undone], read: ReadSegment) -> int:
        """Add labels to the datasets of their kinds, and remove undone ones; see `Dataset.add`."""
        listed = list(changes) if len(self.parts) > 1 else changes
        count = max(part.add(self._of(part, listed), read) for part in self.parts)
        self.last_id = max(part.last_id for part in self.parts)
        return count

    def _of(self, part: Dataset, changes: Iterable[Label | Undone]) -> Iterable[Label | Undone]:
        """Return the changes of a dataset's kind. A dataset ignores an undone answer that it does not know."""
        if len(self.parts) == 1:
            return changes
        return [change for change in changes if isinstance(change, Undone) or change.kind == part.label_type.kind]

    def training_batch(self) -> Batch:
        """Draw a batch for each member from its own bootstrap sample; see `Batch.others`."""
        return self._joined([part.training_batch(size) for part, size in self._sizes()])

    def validation_batch(self) -> Batch:
        """Draw a batch for each member from the labels that it does not train on."""
        return self._joined([part.validation_batch(size) for part, size in self._sizes()])

    def epoch(self) -> list[Batch]:
        """Divide all labels into batches; see `Dataset.epoch`."""
        epochs = [part.epoch(size) for part, size in self._sizes()]
        return [self._joined([batch for batch in batches if batch is not None]) for batches in zip_longest(*epochs)]

    def _sizes(self) -> list[tuple[Dataset, int]]:
        """Return the datasets with labels, and how many of a batch each gives: its proportion, but at least one."""
        if len(self.parts) == 1:
            return [(self.first, self._batch_size)]
        total = max(1, len(self))
        return [(part, max(1, round(self._batch_size * len(part) / total))) for part in self.parts if len(part)]

    def _joined(self, batches: Sequence[Batch]) -> Batch:
        if len(batches) == 1:
            return batches[0]
        total = len(self)
        lengths = {part.label_type.kind: len(part) for part in self.parts}
        first, *others = (replace(batch, weight=lengths[batch.kind] / total) for batch in batches)
        return replace(first, others=tuple(others))

    def newest_steps(self, count: int) -> Tensor:
        """Return all steps, (N, *step), of the newest labels' segments, of each kind in proportion to its labels."""
        if len(self.parts) == 1:
            return self.first.newest_steps(count)
        shares = [(part, max(1, round(count * len(part) / len(self)))) for part in self.parts if len(part)]
        return torch.cat([part.newest_steps(share) for part, share in shares])

    def state_dict(self) -> Tree:
        """Return the state that cannot be read from the store again."""
        state = self.first.state_dict()
        if len(self.parts) > 1:
            state[_OTHERS] = {part.label_type.kind: part.state_dict() for part in self.parts[1:]}
            state["counters"] = state["counters"] | {"last_id": self.last_id}
        return state

    def load_state_dict(self, state: Tree, labels: Iterable[Label], read: ReadSegment) -> None:
        """Restore a saved state; arguments as for `Dataset.load_state_dict`."""
        listed = list(labels)
        for part in self.parts:
            own = state if part is self.first else state[_OTHERS][part.label_type.kind]
            standing = [label for label in self._of(part, listed) if isinstance(label, Label)]
            part.load_state_dict(own, standing, read)
        self.last_id = state["counters"]["last_id"]
