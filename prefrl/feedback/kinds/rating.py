"""Ratings: judgements of how good one segment is, on an ordered scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from prefrl.arrays import Array, Floats
from prefrl.config import QueryConfig
from prefrl.feedback.kinds.kind import Choice, FeedbackKind, what_is_good
from prefrl.feedback.kinds.simulation import TeacherConfiguration, Watched, discounted, undiscounted

UNCLEAR = "unclear"
"""The value for a clip of which a person cannot tell how good it is."""
MOST_STEPS = 9
"""Steps of the longest scale: one for each digit key."""
Rating = int | str
"""A number from 1, the worst, to the number of steps, or `UNCLEAR`."""


_CANNOT_TELL = Choice(
    UNCLEAR,
    "Down",
    "↓",
    "Can't tell",
    "can't tell (the clip is dropped and does not count)",
    note="Can't tell: that clip is dropped and does not count",
)


class RatingKind(FeedbackKind):
    """Rating of one segment on a scale of `queries.rating_steps`, or can't tell."""

    name = "rating"
    arity = 1
    question = "How good is it?"
    titles = ("",)
    level: Literal["ordinal"] = "ordinal"
    likelihood = "proportional-odds"
    seconds = 3.0
    rate_titles = {"mean_rating": "mean", "incomparable_rate": "can't tell"}  # noqa: RUF012
    rate_legend = "mean: mean rating, from 0 % for the lowest to 100 % for the highest; "

    def __init__(self, steps: int = MOST_STEPS) -> None:
        """Create the kind.

        Args:
            steps: C, the number of steps on the scale. The longest contains the values of all others.
        """
        self.steps = steps

    @property
    def values(self) -> tuple[Rating, ...]:
        """The steps, and "can't tell"."""
        return (*range(1, self.steps + 1), UNCLEAR)

    @property
    def choices(self) -> tuple[Choice, ...]:
        """A digit key for each step."""
        steps = [
            Choice(n, str(n), str(n), _name(n, self.steps), _meaning(n, self.steps)) for n in range(1, self.steps + 1)
        ]
        return (*steps, _CANNOT_TELL)

    def instruct(self, instruction: str, aim: str) -> str:
        """See `FeedbackKind`."""
        return f"Rate how good the clip is. {what_is_good(instruction, aim)}"

    def said(self, value: Rating) -> str:
        """Return the number, or "can't tell"."""
        return "can't tell" if value == UNCLEAR else str(value)

    def configured(self, queries: QueryConfig) -> RatingKind:
        """Return the kind with the run's scale."""
        return RatingKind(queries.rating_steps)

    def parse(self, value: object) -> Rating:
        """See `FeedbackKind`."""
        if value == UNCLEAR:
            return UNCLEAR
        if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= self.steps:
            return value
        raise ValueError(f"a rating is a whole number from 1 to {self.steps}, or {UNCLEAR}")

    def counts(self, value: Rating) -> bool:
        """Return whether it is a number."""
        return value != UNCLEAR

    def tally(self, value: Rating) -> str:
        """Return the rating; "can't tell" is counted together with that of comparisons."""
        return "incomparable" if value == UNCLEAR else f"rated {value}"

    def reverse(self, value: Rating) -> Rating:
        """Return the rating: there is only one segment."""
        return value

    def simulate(
        self,
        rewards: Sequence[Floats],
        teacher: TeacherConfiguration,
        usual: float | None,
        chance: Array,
        watched: Watched,
    ) -> Rating:
        """See `FeedbackKind`."""
        return rate(rewards[0], teacher, usual, chance, watched(), self.steps)

    def target(self, value: Rating) -> float | None:
        """Return the number of the step; None for "can't tell"."""
        return None if value == UNCLEAR else float(value)

    def correct(self, rewards: Floats, targets: Array) -> Array:
        """Return whether sum and rating lie on the same side, of zero and of the middle; NaN for the middle step."""
        above = targets - (self.steps + 1) / 2
        return np.where(above == 0, np.nan, rewards.sum(axis=(1, 2)) * above > 0)

    def code(self, value: Rating) -> float:
        """Return the number of the step."""
        return float(value)

    def agrees(self, value: Rating, returns: Sequence[float]) -> bool | None:
        """Return None: without other clips, a return is neither high nor low."""
        return None

    def likeness(self, one: Rating, other: Rating) -> float:
        """Return 1 for the same step, less in proportion to the distance, and 0 for the ends of the scale."""
        return 1 - abs(float(one) - float(other)) / (self.steps - 1)

    def concordance(self, values: Sequence[Rating], rewards: Sequence[Sequence[Floats]]) -> float | None:
        """Return the share of pairs of clips with different ratings and sums that have the same order in both."""
        ratings = np.array([float(value) for value in values])
        sums = np.array([undiscounted(segments[0]) for segments in rewards])
        order = np.sign(ratings[:, None] - ratings) * np.sign(sums[:, None] - sums)
        return float(np.mean(order[order != 0] > 0)) if np.any(order) else None

    def rates(self, values: Sequence[Rating]) -> dict[str, float | None]:
        """Compute the mean rating, from 0 to 1, and the rate of clips of which people cannot tell."""
        told = [float(value) for value in values if value != UNCLEAR]
        return {
            "mean_rating": (float(np.mean(told)) - 1) / (self.steps - 1) if told else None,
            "incomparable_rate": 1 - len(told) / len(values) if values else None,
        }


def rate(
    rewards: Floats,
    teacher: TeacherConfiguration,
    usual: float | None,
    chance: Array,
    watched: Floats,
    steps: int,
) -> Rating:
    """Rate a segment by its rank among the segments that the rater has watched.

    People rate what they see relative to what they have seen, and use all steps of a scale about equally often
    (Parducci, 1965): the rating is ceil(C p), where p is the share of watched segments with a smaller sum, and half of
    those with the same. A rater watches the clips of a round before it rates any.

    The imperfections are those of B-Pref's teachers, as far as they apply to a single segment:

    - rationality: a Gumbel noise of scale 1 / beta is added to the sum, so that the order of two ratings follows the
      Boltzmann rule;
    - noticeable: the sum is perceived with a normal error whose deviation is this fraction of its magnitude;
    - equal: a sum that differs from the usual one by less than this fraction of its magnitude gets the middle step;
    - skip: "can't tell" if the sum falls short of the usual one by more than 1 - epsilon of its magnitude;
    - mistake: the rating is drawn uniformly.

    Args:
        rewards: (L,) true rewards.
        teacher: Parameters of the teacher.
        usual: Mean return of recent episodes, scaled to the length of a clip; None before the first has ended.
        chance: At least (4,) uniform random numbers.
        watched: (N, L) true rewards of the watched segments; may contain this one.
        steps: C, the number of steps on the scale.
    """
    plain, magnitude = undiscounted(rewards), abs(usual or 0.0)
    if teacher.skip and usual is not None and plain < usual - (1 - teacher.skip) * magnitude:
        return UNCLEAR
    if chance[1] < teacher.mistake:
        return 1 + int(chance[2] * steps)
    if teacher.equal and usual is not None and abs(plain - usual) < teacher.equal * magnitude:
        return (steps + 1) // 2
    seen = (
        np.array([discounted(each, teacher.discount) for each in watched]) if teacher.discount < 1 else _sums(watched)
    )
    perceived = discounted(rewards, teacher.discount) + _error(teacher, plain, chance)
    return quantile_step(perceived, seen, steps)


def quantile_step(value: float, seen: Array, steps: int) -> int:
    """Return the step of a value on a scale that divides the seen values, (N,), into parts of the same size.

    Without any, it is the middle step.
    """
    if not len(seen):
        return (steps + 1) // 2
    halves = 2 * int(np.sum(seen < value)) + int(np.sum(seen == value))  # in whole numbers, whose quotient is exact
    return max(1, -(-steps * halves // (2 * len(seen))))


def _sums(watched: Floats) -> Array:
    return watched.sum(axis=1, dtype=np.float64) if watched.size else np.zeros(0)


def _error(teacher: TeacherConfiguration, total: float, chance: Array) -> float:
    """Return the error with which a rater perceives a sum."""
    error = 0.0
    if math.isfinite(teacher.rationality):
        error -= math.log(-math.log(max(float(chance[0]), 1e-300))) / teacher.rationality
    if teacher.noticeable:
        radius = math.sqrt(-2 * math.log(1 - float(chance[2])))  # Box and Muller's method
        error += teacher.noticeable * abs(total) * radius * math.cos(2 * math.pi * float(chance[3]))
    return error


def _name(number: int, steps: int) -> str:
    return {1: "Worst", steps: "Best"}.get(number, "")


def _meaning(number: int, steps: int) -> str:
    """Describe a step, for the help."""
    worst_or_best = {1: ", the worst", steps: ", the best"}.get(number, "")
    return f"{number} of {steps}{worst_or_best}"
