"""A table of the segments of all labels. Each segment is stored once, even if several labels share it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from prefrl.arrays import Array, Floats
from prefrl.experience.inputs import Inputs

FIRST = 128
"""Initial capacity in segments."""


def with_room(rows: Tensor, count: int, capacity: int, make: Callable[[int], Tensor]) -> Tensor:
    """Grow a tensor to at least a number of rows, by doubling. It is returned unchanged if it is large enough.

    Args:
        rows: The tensor.
        count: Number of rows that are needed.
        capacity: Largest number of rows.
        make: Creates a tensor with a number of rows.
    """
    if count <= len(rows):
        return rows
    grown = make(min(capacity, max(count, 2 * len(rows))))
    grown[: len(rows)] = rows
    return grown


class SegmentTable:
    """Features and true rewards of segments, by slot. A slot becomes free when no label uses its segment any more.

    Memory grows with the number of stored segments, up to the capacity.
    """

    def __init__(self, inputs: Inputs, length: int, capacity: int, device: str) -> None:
        """Create an empty table.

        Args:
            inputs: The inputs of a step.
            length: L, the number of steps in a segment.
            capacity: Largest number of segments.
            device: Device of the tensors.
        """
        self._inputs, self._capacity = inputs, capacity
        self._make_features: Callable[[int], Tensor] = lambda count: inputs.empty(count, length, device)
        self._make_true: Callable[[int], Tensor] = lambda count: torch.empty(count, length, device=device)
        self._features = self._make_features(min(FIRST, capacity))
        self._true = self._make_true(min(FIRST, capacity))
        self._slots: dict[int, int] = {}
        self._free: list[int] = []
        self._uses: Counter[int] = Counter()

    def __len__(self) -> int:
        """Return the number of stored segments."""
        return len(self._slots)

    def hold(self, segment: int, features: Array, true_rewards: Floats) -> int:
        """Store a segment, or count another use of it. It must be released once for each use.

        Args:
            segment: Id of the segment.
            features: Features as stored: (L, F), or frames.
            true_rewards: (L,)

        Returns:
            The segment's slot.
        """
        self._uses[segment] += 1
        if segment not in self._slots:
            self._slots[segment] = slot = self._free.pop() if self._free else len(self._slots)
            self._features = with_room(self._features, slot + 1, self._capacity, self._make_features)
            self._true = with_room(self._true, slot + 1, self._capacity, self._make_true)
            self._features[slot] = torch.from_numpy(features)
            self._true[slot] = torch.from_numpy(true_rewards)
        return self._slots[segment]

    def release(self, segment: int) -> None:
        """Release one use of a segment."""
        self._uses[segment] -= 1
        if not self._uses[segment]:
            del self._uses[segment]
            self._free.append(self._slots.pop(segment))

    def steps(self, slots: Tensor) -> Tensor:
        """Return the reward model's inputs, (..., L, *step), of the segments in slots, (...)."""
        return self._inputs.steps(_taken(self._features, slots))

    def true_rewards(self, slots: Tensor) -> Tensor:
        """Return the true rewards, (..., L), of the segments in slots, (...)."""
        return _taken(self._true, slots)


def _taken(rows: Tensor, slots: Tensor) -> Tensor:
    """Select rows by slot. Torch's own indexing copies element by element, which takes ten times as long."""
    return rows.index_select(0, slots.flatten()).view(*slots.shape, *rows.shape[1:])
