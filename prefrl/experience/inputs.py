"""What a reward model reads: of vectors, observation and action; of images, the frames alone (paper, appendix A)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from prefrl.config import RunConfig

if TYPE_CHECKING:
    from torch import Tensor


class Inputs(NamedTuple):
    """The shape of one step as a network sees it, and of a segment as it is kept."""

    step: tuple[int, ...]
    """(F,) float32, or (C, H, W) uint8."""
    stack: int = 1
    """How many of a film's frames a step shows; above 1, C is this and each frame of a segment is kept once."""

    @property
    def images(self) -> bool:
        """Whether steps are images."""
        return len(self.step) == 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is kept of a step."""
        return np.dtype(np.uint8 if self.images else np.float32)

    def segment(self, length: int) -> tuple[int, ...]:
        """The shape in which a segment of L steps is kept: (L, F), (L, C, H, W), or a film (L + stack - 1, H, W)."""
        return (length, *self.step) if self.stack == 1 else (length + self.stack - 1, *self.step[1:])

    def empty(self, count: int, length: int, device: str) -> Tensor:
        """Room for segments: (count, *segment)."""
        import torch  # noqa: PLC0415 - takes seconds, and files of labels are read without it

        dtype = torch.uint8 if self.images else torch.float32
        return torch.empty(count, *self.segment(length), dtype=dtype, device=device)

    def steps(self, kept: Tensor) -> Tensor:
        """Segments' steps from what is kept of them: (..., *segment) to (..., L, *step); a view, nothing is copied."""
        return kept if self.stack == 1 else kept.unfold(-3, self.stack, 1).movedim(-1, -3)


def inputs_of(config: RunConfig, observation: tuple[int, ...], action: int) -> Inputs:
    """What a run's reward model reads.

    Args:
        config: The run.
        observation: Shape of an observation as it is recorded.
        action: Numbers in an action, one-hot where discrete.
    """
    if config.images:
        return Inputs(observation, config.frame_stack)
    return Inputs((math.prod(observation) + action,))
