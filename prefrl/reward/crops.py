"""Random crops of segments as data augmentation (SURF: Park et al., 2022, section 4.2; QPA: Hu et al., 2024).

The reward of a step does not depend on the other steps of its segment. So the rewards of whole segments are predicted
once, and a crop is a mask on them: any number of crops costs one prediction.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from prefrl.arrays import Array
from prefrl.reward.batch import Batch


def draw_crops(rng: np.random.Generator, count: tuple[int, ...], arity: int, length: int, low: int, high: int) -> Array:
    """Draw crops: a number of steps for each label, and for each of its segments a place, all uniformly.

    Both segments of a comparison keep the same number of steps, as in SURF, since their sums are compared.

    Args:
        rng: Random generator.
        count: Numbers of labels, e.g. (K, B).
        arity: A, the segments of a label.
        length: L, the steps of a segment.
        low: Smallest number of steps.
        high: Largest number of steps, at most L.

    Returns:
        (*count, A, L) whether a step is kept.
    """
    sizes = rng.integers(low, high + 1, count)[..., None, None]
    starts = np.floor(rng.random((*count, arity))[..., None] * (length - sizes + 1))
    steps = np.arange(length)
    return np.asarray((steps >= starts) & (steps < starts + sizes))


def cropped(rewards: Tensor, batch: Batch, crops: Array) -> tuple[Tensor, Batch]:
    """Crop the labels of a batch.

    Args:
        rewards: (K, B, A, L) predicted rewards.
        batch: B labels for each member.
        crops: (K, B, C, A, L) C crops of each label.

    Returns:
        (K, B * C, A, L) rewards, which are zero outside of the crops, and the batch of B * C labels.
    """
    kept = torch.from_numpy(crops).to(rewards.device)
    return (rewards.unsqueeze(2) * kept).flatten(1, 2), batch.cropped(kept)
