"""Marks: good or bad moments of one segment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from prefrl.arrays import Array, Floats
from prefrl.config import QueryConfig
from prefrl.feedback.kinds.kind import Choice, FeedbackKind, what_is_good
from prefrl.feedback.kinds.simulation import TeacherConfiguration, Watched, undiscounted

Marks = list[list[int]]
"""[step, sign] of each mark, sorted by step; the sign is 1 for good and -1 for bad."""
_LONGEST = 10**5
"""Steps of the longest segment that any run can have."""
_NEAR = 5
"""Largest distance in steps at which two people's marks are counted as the same."""


class MarksKind(FeedbackKind):
    """Marks of good and bad steps of one segment. A segment without marks is an answer too."""

    name = "marks"
    arity = 1
    values = None
    question = "Mark what is good and what is bad"
    titles = ("",)
    choices = (Choice((), "Return", "⏎", "Next", "store the marks and go on; no mark is an answer too"),)
    marks = (
        Choice(1, "Up", "↑", "Good", "what you see is good"),
        Choice(-1, "Down", "↓", "Bad", "what you see is bad"),
    )
    level: Literal["ordinal"] = "ordinal"
    likelihood = "step-odds"
    tallies = ("marked", "unmarked")
    by_step = True
    seconds = 4.0
    rate_titles = {"good_rate": "good", "unmarked_rate": "unmarked"}  # noqa: RUF012
    rate_legend = "good: share of good marks; unmarked: share of clips without marks; "

    def __init__(self, length: int = _LONGEST) -> None:
        """Create the kind.

        Args:
            length: L, the number of steps in a segment.
        """
        self._length = length

    def instruct(self, instruction: str, aim: str) -> str:
        """See `FeedbackKind`."""
        return f"Mark good and bad moments. {what_is_good(instruction, aim)}"

    def said(self, value: Marks) -> str:
        """Return the number of marks."""
        return "1 mark" if len(value) == 1 else f"{len(value) or 'no'} marks"

    def configured(self, queries: QueryConfig) -> MarksKind:
        """Return the kind for the run's segments."""
        return MarksKind(queries.segment_length)

    def parse(self, value: object) -> Marks:
        """See `FeedbackKind`."""
        if not isinstance(value, list | tuple):
            raise ValueError("marks are a list of [step, 1 or -1]")
        marks = sorted(_mark(each) for each in value)
        steps = [step for step, _ in marks]
        if len(set(steps)) < len(steps):
            raise ValueError("a step has two marks")
        self.check(marks, [self._length])
        return marks

    def check(self, value: Marks, lengths: Sequence[int]) -> None:
        """Refuse marks beyond the segment."""
        if value and value[-1][0] >= lengths[0]:
            raise ValueError(f"step {value[-1][0]} is beyond the segment, whose steps are 0 to {lengths[0] - 1}")

    def counts(self, value: Marks) -> bool:
        """Return True: a segment without marks has been looked at, too."""
        return True

    def tally(self, value: Marks) -> str:
        """Return whether there are marks."""
        return "marked" if value else "unmarked"

    def reverse(self, value: Marks) -> Marks:
        """Return the marks: there is only one segment."""
        return value

    def simulate(
        self,
        rewards: Sequence[Floats],
        teacher: TeacherConfiguration,
        usual: float | None,
        chance: Array,
        watched: Watched,
    ) -> Marks:
        """See `FeedbackKind`. Before the first episode ends, the mean reward of the watched segments is usual."""
        length = len(rewards[0])
        seen = watched() if usual is None else np.zeros((0, 0))
        base = usual / length if usual is not None else float(seen.mean()) if seen.size else 0.0
        return mark(rewards[0], base, teacher, chance)

    def target(self, value: Marks) -> tuple[float, ...] | None:
        """Return the sign of each step up to the last mark, 0 for steps without; None without marks."""
        if not value:
            return None
        signs = [0.0] * (value[-1][0] + 1)
        for step, sign in value:
            signs[step] = float(sign)
        return tuple(signs)

    def correct(self, rewards: Floats, targets: Array) -> Array:
        """Return whether more than half of a label's marks have the sign of the reward; NaN without marks."""
        marked, agreeing = (targets != 0).sum(axis=1), (rewards[:, 0] * targets > 0).sum(axis=1)
        return np.where(marked == 0, np.nan, 2 * agreeing > marked)

    def code(self, value: Marks) -> float:
        """Return the number of good minus that of bad marks."""
        return float(sum(sign for _, sign in value))

    def agrees(self, value: Marks, returns: Sequence[float]) -> bool | None:
        """Return None: a return says nothing about single steps."""
        return None

    def likeness(self, one: Marks, other: Marks) -> float:
        """Return the share of marks that have one of the same sign nearby in the other answer; 1 if both are empty."""
        total = len(one) + len(other)
        found = sum(_has(mark, other) for mark in one) + sum(_has(mark, one) for mark in other)
        return found / total if total else 1.0

    def concordance(self, values: Sequence[Marks], rewards: Sequence[Sequence[Floats]]) -> float | None:
        """Return the share of marks whose sign is that of the step's true reward, less the mean of all segments."""
        mean = float(np.mean([segments[0].mean() for segments in rewards])) if rewards else 0.0
        surplus = [
            (segments[0][step] - mean) * sign
            for value, segments in zip(values, rewards, strict=True)
            for step, sign in value
            if step < len(segments[0])
        ]
        return float(np.mean(np.array(surplus) > 0)) if surplus else None

    def rates(self, values: Sequence[Marks]) -> dict[str, float | None]:
        """Compute the rate of good ones among all marks, and of segments without marks."""
        signs = [sign for value in values for _, sign in value]
        return {
            "good_rate": float(np.mean(np.array(signs) > 0)) if signs else None,
            "unmarked_rate": float(np.mean([not value for value in values])) if values else None,
        }


def mark(values: Floats, usual: float, teacher: TeacherConfiguration, chance: Array) -> Marks:
    """Mark the steps of a segment by the sign of a number of each step, less its usual value.

    The number is the true reward. Where a value function is known, it may be the true advantage, whose usual value is
    zero: people judge steps rather like that (MacGlashan et al., 2017).

    The imperfections are those of B-Pref's teachers, as far as they apply to steps, and two of people:

    - rationality: a step is good with probability sigmoid(beta (value - usual));
    - noticeable, equal: steps that differ from the usual one by less than this fraction of its magnitude get no mark;
    - attention: only this share of the steps is marked, those that differ most;
    - skip: no marks if the sum falls short of the usual one by more than 1 - epsilon of its magnitude;
    - mistake: the probability that the sign of a mark is reversed;
    - delay: marks lie so many steps late; those beyond the end of the segment are lost.

    Args:
        values: (L,) the number of each step.
        usual: Its usual value.
        teacher: Parameters of the teacher.
        chance: (2 + 2 L,) uniform random numbers.
    """
    length = len(values)
    if teacher.skip and undiscounted(values) < length * (usual - (1 - teacher.skip) * abs(usual)):
        return []
    surplus = values.astype(np.float64) - usual
    good = surplus > 0
    if math.isfinite(teacher.rationality):
        good = chance[2 : 2 + length] < 1 / (1 + np.exp(-np.clip(teacher.rationality * surplus, -700, 700)))
    good = good ^ (chance[2 + length :] < teacher.mistake)
    remarkable = np.abs(surplus) >= max(teacher.noticeable, teacher.equal) * abs(usual)
    remarkable &= (surplus != 0) & (_ranks(np.abs(surplus)) < math.ceil(teacher.attention * length))
    steps = np.flatnonzero(remarkable)
    late = steps + teacher.delay
    return [[int(at), 1 if good[step] else -1] for step, at in zip(steps, late, strict=True) if at < length]


def _ranks(values: Floats) -> Array:
    """Return the rank of each value, 0 for the largest."""
    ranks = np.empty(len(values), np.int64)
    ranks[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return ranks


def _mark(value: object) -> list[int]:
    if isinstance(value, list | tuple) and len(value) == 2 and all(type(part) is int for part in value):
        step, sign = value
        if step >= 0 and sign in (-1, 1):
            return [step, sign]
    raise ValueError("a mark is [step, 1] or [step, -1]")


def _has(mark: list[int], marks: Marks) -> bool:
    return any(sign == mark[1] and abs(step - mark[0]) <= _NEAR for step, sign in marks)
