"""What a reward model reads of steps is made here, and nowhere else (paper, appendix A)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

DRAWN = 3.0
"""The largest number of an action that can be drawn: the tangent of larger ones is the same brightness."""


def is_image(shape: tuple[int, ...], dtype: Any) -> bool:
    """Whether arrays of this shape and type are images or frames, rather than feature vectors."""
    return len(shape) in {2, 3} and dtype == np.uint8


def encode(
    observations: NDArray[Any], actions: NDArray[Any], axes: int = 1, *, reads_actions: bool = False
) -> NDArray[Any]:
    """Encode steps: images without the action, unless it is asked for, vectors with it.

    Args:
        observations: (..., *observation), before any normalisation; or the frames of a segment, each once.
        actions: (..., *action) as numbers, one-hot where discrete.
        axes: How many axes come first in both: 1 for a segment or a batch of steps, 2 for a rollout.
        reads_actions: Whether (..., C, H, W) images get the action as one more channel; see `action_channel`.

    Returns:
        The images as they are, or (..., C + 1, H, W), or (..., F) float32: the observation, flattened, followed by the
        action.
    """
    if is_image(observations.shape[axes:], observations.dtype):
        if not reads_actions:
            return observations
        numbers = actions.reshape(*actions.shape[:axes], -1)
        return np.concatenate([observations, action_channel(numbers, observations.shape[-2:])], axis=-3)
    parts = [part.reshape(*part.shape[:axes], -1) for part in (observations, actions)]
    return np.concatenate(parts, axis=axes, dtype=np.float32, casting="same_kind")


def action_channel(actions: NDArray[Any], size: Sequence[int]) -> NDArray[np.uint8]:
    """Draw actions as images: each number is a vertical band, whose brightness is its hyperbolic tangent.

    A convolution thus meets the action beside what it sees, as in a layer of its own. Numbers beyond `DRAWN` can hardly
    be told apart.

    Args:
        actions: (..., A) numbers, with 1 <= A <= W.
        size: (H, W) of the images.

    Returns:
        (..., 1, H, W)
    """
    height, width = size
    brightness = np.rint(127.5 * (1 + np.tanh(actions))).astype(np.uint8)
    row = brightness[..., np.arange(width) * actions.shape[-1] // width]
    return np.broadcast_to(row[..., None, None, :], (*row.shape[:-1], 1, height, width))
