"""The segments that labels are about: each stored once, however many labels share it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor

from prefrl.arrays import Array, Floats
from prefrl.experience.inputs import Inputs

FIRST = 128
"""Segments that there is room for from the start."""


def with_room(rows: Tensor, count: int, capacity: int, make: Callable[[int], Tensor]) -> Tensor:
    """Rows with room for at least so many: the same where there is, else twice as many, the old ones copied.

    Args:
        rows: What there is.
        count: Rows that are needed.
        capacity: The most that there can be.
        make: Gives a tensor of so many rows.
    """
    if count <= len(rows):
        return rows
    grown = make(min(capacity, max(count, 2 * len(rows))))
    grown[: len(rows)] = rows
    return grown


class SegmentTable:
    """Features and true rewards of segments, by slot. A slot is free again once no label refers to its segment.

    Memory grows with the segments that are held, not with those that might be.
    """

    def __init__(self, inputs: Inputs, length: int, capacity: int, device: str) -> None:
        """Make an empty table.

        Args:
            inputs: What a step is.
            length: L, of a segment.
            capacity: The most segments that can be held at once.
            device: Where they are kept.
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
        """Segments held."""
        return len(self._slots)

    def hold(self, segment: int, features: Array, true_rewards: Floats) -> int:
        """Store a segment, unless it is there, until it is released as often as it was held.

        Args:
            segment: Its id.
            features: What is kept of it: (L, F), or frames.
            true_rewards: (L,)

        Returns:
            Its slot.
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
        """Let go of a segment once."""
        self._uses[segment] -= 1
        if not self._uses[segment]:
            del self._uses[segment]
            self._free.append(self._slots.pop(segment))

    def steps(self, slots: Tensor) -> Tensor:
        """What the reward model reads of segments: slots (...) to (..., L, *step)."""
        return self._inputs.steps(_taken(self._features, slots))

    def true_rewards(self, slots: Tensor) -> Tensor:
        """The task's own rewards: slots (...) to (..., L)."""
        return _taken(self._true, slots)


def _taken(rows: Tensor, slots: Tensor) -> Tensor:
    """Rows by slot; torch's own indexing copies number by number, which takes ten times as long."""
    return rows.index_select(0, slots.flatten()).view(*slots.shape, *rows.shape[1:])
