"""Comparisons: judgements of which of two segments is better (paper, section 2.2.2)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum
from typing import Literal

import numpy as np

from prefrl.arrays import Array, Floats
from prefrl.experience.segment import Segment
from prefrl.feedback.kinds.kind import Choice, FeedbackKind
from prefrl.feedback.kinds.simulation import TeacherConfiguration, Watched, discounted, undiscounted
from prefrl.feedback.terms import Query

COMPARISON = "comparison"


class Judgement(StrEnum):
    """A teacher's judgement of a pair (paper, section 2.2.2)."""

    LEFT = "left"
    RIGHT = "right"
    EQUAL = "equal"
    INCOMPARABLE = "incomparable"

    @property
    def mu(self) -> float | None:
        """Label for training: 1 if left is preferred, 0 if right, 0.5 for a tie; None if the pair is dropped."""
        return {"left": 1.0, "right": 0.0, "equal": 0.5}.get(self.value)


_COUNTED = (Judgement.LEFT, Judgement.RIGHT, Judgement.EQUAL)
_SWAPPED = {Judgement.LEFT: Judgement.RIGHT, Judgement.RIGHT: Judgement.LEFT}


class ComparisonKind(FeedbackKind):
    """Comparison of a pair: left, right, equal or can't tell."""

    name = COMPARISON
    arity = 2
    values = tuple(Judgement)
    question = "Which is better?"
    titles = ("Left", "Right")
    choices = (
        Choice(Judgement.LEFT, "Left", "←", "Left", "the left clip is better"),
        Choice(Judgement.EQUAL, "Up", "↑", "Equal", "they are equally good"),
        Choice(
            Judgement.INCOMPARABLE,
            "Down",
            "↓",
            "Can't tell",
            "can't tell (the pair is dropped and does not count)",
            note="Can't tell: that pair is dropped and does not count",
        ),
        Choice(Judgement.RIGHT, "Right", "→", "Right", "the right clip is better"),
    )
    level: Literal["nominal"] = "nominal"
    likelihood = "bradley-terry"
    rate_titles = {"equal_rate": "equal", "incomparable_rate": "can't tell", "left_rate": "left"}  # noqa: RUF012
    rate_legend = "left: share of the answers that prefer a side; "

    def parse(self, value: object) -> Judgement:
        """See `FeedbackKind`."""
        return Judgement(str(value))

    def counts(self, value: Judgement) -> bool:
        """Return whether the judgement is a label; incomparable pairs are not."""
        return value in _COUNTED

    def tally(self, value: Judgement) -> str:
        """Return the name of the judgement."""
        return value.value

    def reverse(self, value: Judgement) -> Judgement:
        """Swap left and right."""
        return _SWAPPED.get(value, value)

    def simulate(
        self,
        rewards: Sequence[Floats],
        teacher: TeacherConfiguration,
        usual: float | None,
        chance: Array,
        watched: Watched,
    ) -> Judgement:
        """See `FeedbackKind`."""
        return judge(rewards[0], rewards[1], teacher, usual, chance)

    def target(self, value: Judgement) -> float | None:
        """Return mu: 1 if left is preferred, 0 if right, 0.5 for a tie; None for an incomparable pair."""
        return value.mu

    def correct(self, rewards: Floats, targets: Array) -> Array:
        """Return whether the preferred segment has the larger sum; NaN for a tie. Equal sums are never correct."""
        sums = rewards.sum(axis=2)
        right = (sums[:, 0] - sums[:, 1]) * (targets - 0.5) > 0
        return np.where(targets == 0.5, np.nan, right)

    def code(self, value: Judgement) -> float:
        """Return 0 for left, 1 for right, 2 for equal."""
        return float(_COUNTED.index(value))

    def agrees(self, value: Judgement, returns: Sequence[float]) -> bool | None:
        """Return whether the preferred segment has the larger return; None for ties."""
        if value not in _SWAPPED or returns[0] == returns[1]:
            return None
        return (value is Judgement.LEFT) == (returns[0] > returns[1])

    def rates(self, values: Sequence[Judgement]) -> dict[str, float | None]:
        """Compute the rate of equal labels, of incomparable answers, and of left among left and right."""
        told = [value for value in values if value in _COUNTED]
        sides = [value for value in told if value is not Judgement.EQUAL]
        return {
            "equal_rate": _share([value is Judgement.EQUAL for value in told]),
            "incomparable_rate": _share([value not in _COUNTED for value in values]),
            "left_rate": _share([value is Judgement.LEFT for value in sides]),
        }


def pair_query(round_: int, rank: int, left: Segment, right: Segment, agent_step: int) -> Query:
    """Create a query that compares two segments."""
    return Query(COMPARISON, (left, right), round_, rank, agent_step)


def judge(left: Floats, right: Floats, teacher: TeacherConfiguration, usual: float | None, chance: Array) -> Judgement:
    """Judge a pair like B-Pref's simulated teachers.

    The steps are in B-Pref's order: skip the pair if both segments are bad; compare the sums, which may be discounted,
    exactly or by the Boltzmann rule; swap the result by mistake; and finally judge sums equal that are too close.

    B-Pref's thresholds are fractions of the usual sum, which is never negative in its tasks: a pair is skipped if both
    sums are below epsilon times the usual sum. Here a pair is skipped if both sums fall short of the usual sum by more
    than 1 - epsilon of its magnitude, which is the same rule, but also works for negative rewards.

    Args:
        left: (L,) true rewards of the left segment.
        right: (L,) true rewards of the right segment.
        teacher: Parameters of the teacher.
        usual: Mean return of recent episodes, scaled to the length of a clip. If it is None, because no episode has
            ended, no threshold applies.
        chance: (2,) uniform random numbers, for the Boltzmann rule and for the mistake.
    """
    plain = undiscounted(left), undiscounted(right)
    if teacher.skip and usual is not None and max(plain) < usual - (1 - teacher.skip) * abs(usual):
        return Judgement.INCOMPARABLE
    difference = discounted(left, teacher.discount) - discounted(right, teacher.discount)
    if math.isfinite(teacher.rationality):
        prefers_left = bool(chance[0] < 1 / (1 + math.exp(min(700.0, -teacher.rationality * difference))))
    else:
        prefers_left = difference > 0
    if chance[1] < teacher.mistake:
        prefers_left = not prefers_left
    gap, size = abs(plain[0] - plain[1]), max(abs(plain[0]), abs(plain[1]))
    too_close = usual is not None and bool(teacher.equal) and gap < teacher.equal * abs(usual)
    if too_close or gap < teacher.noticeable * size or (difference == 0 and not math.isfinite(teacher.rationality)):
        return Judgement.EQUAL
    return Judgement.LEFT if prefers_left else Judgement.RIGHT


def _share(values: Sequence[bool]) -> float | None:
    return float(np.mean(values)) if values else None
