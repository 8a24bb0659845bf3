"""A segment: the unit of experience that labellers compare (paper, section 2.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from prefrl.arrays import Array
from prefrl.encoder import encode


@dataclass(frozen=True, eq=False)
class Segment:
    """L consecutive steps between two real resets of the simulator."""

    id: int
    """Serial number within the run."""
    frames: Array
    """(L, *observation): raw observations, before normalisation. If observations are stacks of frames, the
    (L + stack - 1, H, W) frames, each once."""
    actions: Array
    """(L, *action): actions as passed to the environment; discrete ones are one-hot."""
    true_rewards: Array
    """(L,): the task's own reward, for metrics and simulated teachers, never for the reward model."""
    terminated: Array
    """(L,) bool: whether the environment terminated the episode with the step, whatever the agent is told. Only the
    last step of a segment can end an episode, as a segment lies between two resets; Atari games hide their ends."""
    truncated: Array
    """(L,) bool: whether the episode ended with the step at a time limit."""
    stack: int = 1
    """Frames per observation."""
    scene: dict[str, Any] | None = None
    """What is needed to render it (`prefrl.experience.scenes`); None if no person labels."""
    episode: int = 0
    """Number of its episode in the run: an episode that began later has a higher one. A clip that was read has 0."""
    start: int = 0
    """Steps of its episode before its first step."""

    def __post_init__(self) -> None:
        """Reject arrays of different lengths."""
        length = len(self.frames) - self.stack + 1
        steps = (self.true_rewards.shape, self.terminated.shape, self.truncated.shape)
        if self.stack < 1 or len(self.actions) != length or steps != 3 * ((length,),):
            raise ValueError("a segment's observations, actions, rewards and ends must have the same length")

    def __len__(self) -> int:
        return len(self.true_rewards)

    @property
    def observations(self) -> Array:
        """(L, *observation); for stacked frames, a view of `frames`."""
        if self.stack == 1:
            return self.frames
        return np.moveaxis(np.lib.stride_tricks.sliding_window_view(self.frames, self.stack, axis=0), -1, 1)

    @property
    def features(self) -> Array:
        """Input of most reward models: the `frames` of images, or (L, F) flattened observations and actions.

        A model that reads the action beside images reads `Inputs.features`.
        """
        with np.errstate(over="ignore"):  # a file may hold numbers that float32 cannot: they become infinite
            return encode(self.frames, self.actions)

    @property
    def is_encoded(self) -> bool:
        """Whether `frames` are the features, and actions and ends are unknown: it was read from a clip of format 1."""
        return self.actions.shape[1:] == (0,)


def unstacked(observations: Array, stack: int) -> Array:
    """Return the frames of consecutive observations, each once: all of the first one, then the newest of each other.

    Args:
        observations: (L, *observation)
        stack: Frames per observation; 1 for none.
    """
    if stack == 1:
        return observations.copy()
    return np.concatenate([observations[0, :-1], observations[:, -1]])
