"""Encode steps as the reward model's input (paper, appendix A). This is the only place that does so."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def is_image(shape: tuple[int, ...], dtype: Any) -> bool:
    """Return whether arrays of this shape and type are images or frames rather than feature vectors."""
    return len(shape) in {2, 3} and dtype == np.uint8


def encode(observations: NDArray[Any], actions: NDArray[Any], axes: int = 1) -> NDArray[Any]:
    """Encode steps: images without the action, vectors with it.

    Args:
        observations: (..., *observation), before normalisation; or the frames of a segment, each once.
        actions: (..., *action) as numbers; discrete actions are one-hot.
        axes: Number of leading axes of both arrays: 1 for a segment or a batch of steps, 2 for a rollout.

    Returns:
        The unchanged images, or (..., F) float32: the flattened observation followed by the action.
    """
    if is_image(observations.shape[axes:], observations.dtype):
        return observations
    parts = [part.reshape(*part.shape[:axes], -1) for part in (observations, actions)]
    return np.concatenate(parts, axis=axes, dtype=np.float32, casting="same_kind")
