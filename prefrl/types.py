"""The terms of the field as types. Everything else in the package speaks in these.

Shapes, here and in every docstring: K members of the ensemble, B comparisons (pairs), L steps of a segment, N rows,
T steps of a rollout, E environments, F features of one step (observation and action together).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from prefrl.encoder import encode

Array = NDArray[Any]
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Segment:
    """L consecutive steps between two real resets of the simulator."""

    id: int
    """Serial number within the run."""
    frames: Array
    """(L, *observation), as the environment gave them, before any normalisation. Where observations are stacks of the
    newest frames, the film that they are windows of, (L + stack - 1, H, W): each frame once."""
    actions: Array
    """(L, *action), as the environment got them; one-hot where discrete."""
    true_rewards: Array
    """(L,) the task's own reward: for metrics and synthetic teachers, never for the reward model."""
    stack: int = 1
    """How many frames an observation shows."""
    scene: dict[str, Any] | None = None
    """What it takes to show it to a person (`prefrl.experience.scenes`); None where nobody will look."""

    def __post_init__(self) -> None:
        """Reject arrays of different lengths."""
        if not len(self.frames) - self.stack + 1 == len(self.actions) == len(self.true_rewards):
            raise ValueError("a segment's observations, actions and rewards must have the same length")

    def __len__(self) -> int:
        return len(self.true_rewards)

    @property
    def observations(self) -> Array:
        """(L, *observation); of stacks, a view of the film."""
        if self.stack == 1:
            return self.frames
        return np.moveaxis(np.lib.stride_tricks.sliding_window_view(self.frames, self.stack, axis=0), -1, 1)

    @property
    def features(self) -> Array:
        """What a reward model reads: images as they are kept, or (L, F) observations, flattened, with actions."""
        return encode(self.frames, self.actions)


class Comparison(NamedTuple):
    """A query with its judgement, read back from the store: one label."""

    id: int
    """The answer's id: keys the bootstrap."""
    left: int
    """Segment id."""
    right: int
    """Segment id."""
    mu: float
    """1 left, 0 right, one half a tie."""


class Undone(NamedTuple):
    """An answer that was taken back."""

    id: int
    """The row of the history that says so."""
    comparison: int
    """The answer's id."""
