"""Imperfections of simulated teachers (B-Pref: Lee et al., 2021, section 4.1)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from prefrl.arrays import Floats

Watched = Callable[[], Floats]
"""Returns the true rewards, (N, L), of the segments that a teacher has seen."""


@dataclass(frozen=True)
class TeacherConfiguration:
    """Parameters of a simulated teacher. The defaults are those of the oracle."""

    rationality: float = math.inf
    """beta: left is preferred with probability sigmoid(beta (S_left - S_right))."""
    discount: float = 1.0
    """gamma: S is the sum of gamma^(L - 1 - t) r_t. A myopic teacher, with gamma < 1, weights the last steps most."""
    mistake: float = 0.0
    """Probability that left and right are swapped."""
    skip: float = 0.0
    """epsilon of the threshold below which the teacher skips a query."""
    equal: float = 0.0
    """epsilon of the threshold below which two clips are judged equal."""
    squares: bool = False
    """Whether epsilon is squared after the first round of queries. B-Pref's code multiplies the thresholds by epsilon
    twice from its second session on."""
    skips_count: bool = False
    """Whether queries that are skipped count towards the label budget, as in B-Pref's code."""
    noticeable: float = 0.0
    """Weber fraction: two clips are equal if their sums differ by less than this fraction of the larger magnitude."""
    attention: float = 1.0
    """Share of the steps that are marked, those that differ most from what is usual."""
    delay: int = 0
    """Steps by which marks come late, after the correction for the reaction time."""
    advantage: bool = False
    """Whether steps are judged by their true advantage over the run's reference policy instead of their reward: people
    judge clips rather by regret (Knox et al., 2022), and mark steps that are better than expected (MacGlashan et al.,
    2017)."""

    def in_round(self, round_: int) -> TeacherConfiguration:
        """Return the parameters in a round of queries; the first is 1."""
        if not self.squares or round_ <= 1:
            return self
        return replace(self, skip=self.skip**2, equal=self.equal**2)

    def __add__(self, other: TeacherConfiguration) -> TeacherConfiguration:
        """Combine the parameters of two teachers; if both set one, `other` takes precedence."""
        fresh = TeacherConfiguration()
        return TeacherConfiguration(
            **{
                name: getattr(self if getattr(other, name) == default else other, name)
                for name, default in vars(fresh).items()
            }
        )


def undiscounted(rewards: Floats) -> float:
    """Return the sum of a segment's rewards, in double precision.

    Args:
        rewards: (L,)
    """
    return float(rewards.sum(dtype=np.float64))


def discounted(rewards: Floats, discount: float) -> float:
    """Return the sum of discount^(L - 1 - t) r_t, in which the last step has weight 1.

    Args:
        rewards: (L,)
        discount: gamma.
    """
    return float(np.dot(discount ** np.arange(len(rewards))[::-1], rewards.astype(np.float64)))
