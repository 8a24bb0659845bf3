"""Pseudo-labels: confident predictions about unlabelled pairs, fitted as if they were labels (SURF: Park et al., 2022).

SURF draws a fixed number of unlabelled pairs per label at each session, and draws batches from those. Here, the pairs
of each batch are drawn anew from the segments of the pool, so that nothing but the pool has to be kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from prefrl.arrays import Array
from prefrl.experience.inputs import Inputs
from prefrl.experience.segment import Segment
from prefrl.reward.batch import Batch
from prefrl.reward.segment_table import SegmentTable


def pseudo_labels(logit: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return the preferences that are predicted, and which of them are confident (section 4.1).

    Args:
        logit: (...) log-odds that left is preferred, P = sigmoid(logit).
        threshold: tau; a prediction is confident if max(P, 1 - P) > tau.

    Returns:
        (...) labels, 1 for left and 0 for right, and (...) whether they are confident.
    """
    return (logit > 0).to(logit.dtype), torch.sigmoid(logit.abs()) > threshold


class Unlabelled:
    """The segments of the pool, of which pairs are drawn. They are copied when they are new."""

    def __init__(self, inputs: Inputs, length: int, capacity: int, device: str) -> None:
        """Create an empty table.

        Args:
            inputs: The inputs of a step.
            length: L, the number of steps in a segment.
            capacity: Largest number of segments.
            device: Torch's device.
        """
        self._table = SegmentTable(inputs, length, capacity, device)
        self._shape, self._dtype, self._capacity = inputs.segment(length), inputs.dtype, capacity
        self._inputs = inputs
        self._unused = np.zeros(length, np.float32)
        self._device = device
        self._slots: dict[int, int] = {}

    def __len__(self) -> int:
        """Return the number of segments."""
        return len(self._slots)

    def accepts(self, ids: Sequence[int], features: Array) -> bool:
        """Return whether these can be the segments: (N,) different ids and (N, L, F) features, or frames."""
        fits = features.shape[1:] == self._shape and features.dtype == self._dtype
        return fits and len(set(ids)) == len(ids) == len(features) <= self._capacity

    def update(self, ids: Sequence[int], features: Mapping[int, Array]) -> None:
        """Replace the segments.

        Args:
            ids: Ids of all segments, in the order of the pool.
            features: Features, as stored, of the segments by id; needed only of new ones.
        """
        for gone in self._slots.keys() - set(ids):
            self._table.release(gone)
        self._slots = {
            each: self._slots[each] if each in self._slots else self._table.hold(each, features[each], self._unused)
            for each in ids
        }

    def update_from(self, pool: Sequence[Segment]) -> None:
        """Replace the segments by those of the pool."""
        new = {segment.id: self._inputs.features(segment) for segment in pool if segment.id not in self._slots}
        self.update([segment.id for segment in pool], new)

    def pairs(self, rng: np.random.Generator, members: int, count: int) -> Batch:
        """Draw pairs of two different segments uniformly; their targets are zero.

        Args:
            rng: Random generator.
            members: K, the number of members, each of which gets pairs of its own.
            count: B, pairs for each member.
        """
        left = rng.integers(len(self), size=(members, count))
        right = (left + rng.integers(1, len(self), size=(members, count))) % len(self)
        slots = torch.tensor(list(self._slots.values()), device=self._device)
        places = torch.from_numpy(np.stack([left, right], axis=-1)).to(self._device)
        target = torch.zeros(members, count, device=self._device)
        return Batch(self._table, slots[places], target, torch.ones(members, dtype=torch.bool, device=self._device))
