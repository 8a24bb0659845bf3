"""How a simulated teacher differs from the oracle (B-Pref: Lee et al., 2021, section 4.1), as data."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefrl.arrays import Floats


@dataclass(frozen=True)
class TeacherConfiguration:
    """A simulated teacher's imperfections; the defaults are the oracle's."""

    rationality: float = math.inf
    """beta: left is preferred with probability sigmoid(beta (S_left - S_right))."""
    discount: float = 1.0
    """gamma: S is the sum of gamma^(L - 1 - t) r_t, so that a myopic teacher judges by what came last."""
    mistake: float = 0.0
    """The probability that left and right are mixed up."""
    skip: float = 0.0
    """epsilon of the threshold under which neither clip is worth an answer."""
    equal: float = 0.0
    """epsilon of the threshold under which two clips are equal."""
    noticeable: float = 0.0
    """Weber's fraction: two clips are equal whose sums differ by less than this share of the larger one's size."""

    def __add__(self, other: TeacherConfiguration) -> TeacherConfiguration:
        """Both teachers' imperfections; where both have one, the other's."""
        fresh = TeacherConfiguration()
        return TeacherConfiguration(
            **{
                name: getattr(self if getattr(other, name) == default else other, name)
                for name, default in vars(fresh).items()
            }
        )


def undiscounted(rewards: Floats) -> float:
    """A segment's sum of rewards, in double precision."""
    return float(rewards.sum(dtype=np.float64))


def discounted(rewards: Floats, discount: float) -> float:
    """The sum of discount^(L - 1 - t) r_t: the last step counts whole."""
    return float(np.dot(discount ** np.arange(len(rewards))[::-1], rewards.astype(np.float64)))
