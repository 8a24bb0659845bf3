"""Rules of which rated segments are imitated.

Each maps (N,) ratings from 1 to C, oldest first, to (N,) booleans.
"""

from __future__ import annotations

import math

import numpy as np

from prefrl.arrays import Array
from prefrl.config import ImitationConfig


def bucket(ratings: Array, steps: int, settings: ImitationConfig, rng: np.random.Generator) -> Array:
    """Choose all from a fixed rating up, as in fine-tuning on what people rate seven of seven.

    Args:
        ratings: (N,) ratings.
        steps: C, the number of steps on the scale.
        settings: The parameters of the rules.
        rng: Draws where a rule is random.
    """
    return np.asarray(ratings >= (steps if settings.bucket is None else settings.bucket))


def share(ratings: Array, steps: int, settings: ImitationConfig, rng: np.random.Generator) -> Array:
    """Choose a share of the segments, those with the highest ratings; of equal ones, those drawn; as for `bucket`."""
    count = math.ceil(settings.share * len(ratings))
    order = np.lexsort((rng.random(len(ratings)), -ratings))
    chosen = np.zeros(len(ratings), bool)
    chosen[order[:count]] = True
    return chosen


def chance(ratings: Array, steps: int, settings: ImitationConfig, rng: np.random.Generator) -> Array:
    """Choose each with a probability that rises with its rating, from 0 for the lowest to 1; as for `bucket`."""
    return np.asarray(rng.random(len(ratings)) < ((ratings - 1) / (steps - 1)) ** settings.power)
