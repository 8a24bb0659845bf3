"""What a reward model reads of steps is made here, and nowhere else (paper, appendix A)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_image(shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether arrays of this shape and type are images or frames, rather than feature vectors."""
    return len(shape) in {2, 3} and dtype == np.uint8


def encode(observations: NDArray[Any], actions: NDArray[Any], axes: int = 1) -> NDArray[Any]:
    """Encode steps: images without the action, vectors with it.

    Args:
        observations: (..., *observation), before any normalisation; or the frames of a segment, each once.
        actions: (..., *action) as numbers, one-hot where discrete.
        axes: How many axes come first in both: 1 for a segment or a batch of steps, 2 for a rollout.

    Returns:
        The images as they are, or (..., F) float32: the observation, flattened, followed by the action.
    """
    if is_image(observations.shape[axes:], observations.dtype):
        return observations
    parts = [part.reshape(*part.shape[:axes], -1) for part in (observations, actions)]
    return np.concatenate(parts, axis=axes, dtype=np.float32, casting="same_kind")
