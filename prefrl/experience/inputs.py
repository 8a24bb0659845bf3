"""The shapes of what a run records, and of the reward model's input.

The input is observation and action for vectors, only the frames for images (appendix A), unless a run's reward model
is to read the action of images too, or to ignore that of vectors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prefrl.arrays import Array
from prefrl.config import RunConfig
from prefrl.encoder import encode
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.segment import Segment

if TYPE_CHECKING:
    from torch import Tensor


class Inputs(NamedTuple):
    """The shape of one step as the network's input, and of a stored segment."""

    step: tuple[int, ...]
    """(F,) float32, or (C, H, W) uint8."""
    stack: int = 1
    """Frames per step. If above 1, C equals this number, and each frame of a segment is stored once."""
    reads_actions: bool = False
    """Whether the last channel of images is the action; see `prefrl.encoder.action_channel`."""
    unread: int = 0
    """Numbers at the end of a vector that no network is given: the action, if it is not to be read."""

    @property
    def images(self) -> bool:
        """Whether steps are images."""
        return len(self.step) == 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of stored steps: uint8 for images, float32 for vectors."""
        return np.dtype(np.uint8 if self.images else np.float32)

    @property
    def read(self) -> Inputs:
        """What the networks are given."""
        return self._replace(step=(self.step[0] - self.unread,), unread=0) if self.unread else self

    def segment(self, length: int) -> tuple[int, ...]:
        """Return the shape of a stored segment of L steps.

        Returns:
            (L, F), (L, C, H, W), or (L + stack - 1, H, W) for stacked frames.
        """
        return (length, *self.step) if self.stack == 1 else (length + self.stack - 1, *self.step[1:])

    def features(self, segment: Segment) -> Array:
        """Return the steps of a segment, as they are stored: (*segment).

        Raises:
            PrefrlError: if the action is read, and the segment's actions are unknown.
        """
        if not self.reads_actions:
            return segment.features
        if segment.is_encoded:
            raise PrefrlError(f"the clip of segment {segment.id} is of an older version, which kept no actions")
        return encode(segment.observations, segment.actions, reads_actions=True)

    def empty(self, count: int, length: int, device: str) -> Tensor:
        """Return an uninitialised tensor for stored segments, (count, *segment)."""
        import torch  # noqa: PLC0415 - takes seconds, and label files are read without it

        dtype = torch.uint8 if self.images else torch.float32
        return torch.empty(count, *self.segment(length), dtype=dtype, device=device)

    def steps(self, kept: Tensor) -> Tensor:
        """Return the steps of stored segments: (..., *segment) to (..., L, *step), as a view."""
        return kept if self.stack == 1 else kept.unfold(-3, self.stack, 1).movedim(-1, -3)


@dataclass(frozen=True)
class Recorded:
    """The shapes of one recorded step."""

    observation: tuple[int, ...]
    action: tuple[int, ...]
    """As numbers; discrete actions are one-hot."""
    itemsize: int = field(default=8, compare=False)
    """Bytes of a number of an observation, at most."""

    def __str__(self) -> str:
        shapes = ("x".join(map(str, shape)) for shape in (self.observation, self.action))
        return "observations of {} and actions of {}".format(*shapes)

    def holds(self, segment: Segment) -> bool:
        """Return whether a segment's steps have these shapes."""
        return (segment.observations.shape[1:], segment.actions.shape[1:]) == (self.observation, self.action)

    def nbytes(self, length: int, stack: int = 1) -> int:
        """Return the maximum bytes of the frames and actions of a segment of L steps."""
        frames = (length + stack - 1) * math.prod(self.observation) // stack
        return frames * self.itemsize + 8 * length * math.prod(self.action)


def inputs_of(config: RunConfig, observation: tuple[int, ...], action: int) -> Inputs:
    """Return the input shape of a run's reward model.

    Args:
        config: The run.
        observation: Shape of a recorded observation.
        action: Size of an action; discrete actions are one-hot.

    Raises:
        UsageError: if the action is too large for the images that are to show it.
    """
    if not config.draws_actions:
        ignored = action if config.reward.reads_actions is False and not config.images else 0
        return feature_inputs(config, observation, action)._replace(unread=ignored)
    channels, height, width = observation
    if action > width:
        raise UsageError(f"reward.reads_actions can show {width} numbers, and an action has {action}")
    return Inputs((channels + 1, height, width), reads_actions=True)  # frames are not shared between steps


def feature_inputs(config: RunConfig, observation: tuple[int, ...], action: int) -> Inputs:
    """Return the shape of the features of a run's segments, whatever its reward model reads; see `inputs_of`."""
    return Inputs(observation, config.frame_stack) if config.images else Inputs((math.prod(observation) + action,))
