"""Simulated teachers: an oracle, and the ways in which B-Pref (Lee et al., 2021, section 4.1) has one fall short.

A teacher is a line of data, and lines add up: `mistake+skip` does both. The order is B-Pref's: skip what neither clip
is good enough in, compare (exactly, or by the Boltzmann rule, on sums that may be discounted), err, and call equal what
is too close, whatever came before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from prefrl.chance import stream
from prefrl.episodes import Episodes
from prefrl.types import Answer, Array, Floats, Judgement, Query


@dataclass(frozen=True)
class Shortcomings:
    """What a simulated teacher does otherwise than the oracle; the defaults are the oracle's."""

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

    def __add__(self, other: Shortcomings) -> Shortcomings:
        """Both teachers' shortcomings; where both have one, the other's."""
        fresh = Shortcomings()
        return Shortcomings(
            **{
                name: getattr(self if getattr(other, name) == default else other, name)
                for name, default in vars(fresh).items()
            }
        )


class SimulatedTeacher:
    """Answers from the true reward, with some shortcomings."""

    def __init__(
        self, name: str, shortcomings: Shortcomings, seed: int, episodes: Callable[[], Episodes | None]
    ) -> None:
        """Make a teacher.

        Args:
            name: What its answers are signed with.
            shortcomings: What it does otherwise than the oracle.
            seed: Of its chance. What a query meets depends on its (round, rank) too, and on nothing else.
            episodes: The agent's newest episodes; None before the first has ended, when no threshold applies.
        """
        self._name, self._ways, self._seed, self._episodes = name, shortcomings, seed, episodes
        self._answers: list[Answer] = []

    def submit(self, queries: dict[int, Query]) -> None:
        """Judge queries, by their ids in the store."""
        episodes = self._episodes()
        for query_id, query in queries.items():
            rewards = (query.left.true_rewards, query.right.true_rewards)
            usual = None if episodes is None else len(rewards[0]) / episodes.mean_length * episodes.mean_return
            chance = stream(self._seed, "teacher", query.round, query.rank).random(2)
            judgement = judge(*rewards, self._ways, usual, chance)
            self._answers.append(Answer(query_id, judgement, self._name, query.agent_step))

    def collect(self) -> Sequence[Answer]:
        """Give the answers since the last call."""
        answers, self._answers = self._answers, []
        return answers


def judge(left: Floats, right: Floats, ways: Shortcomings, usual: float | None, chance: Array) -> Judgement:
    """One judgement, by B-Pref's formulas.

    Its thresholds are shares of the usual sum, which is never negative in its tasks: clips worth less than epsilon
    times the usual are skipped. Read as "falls short of the usual by more than 1 - epsilon of its size", the same rule
    serves tasks whose rewards are costs.

    Args:
        left: (L,) true rewards.
        right: (L,) true rewards.
        ways: The teacher's shortcomings.
        usual: The mean return of recent episodes, scaled to the length of a clip; None where no episode has ended, and
            no threshold applies.
        chance: (2,) uniform numbers: one for the Boltzmann rule, one for the mistake.
    """
    plain = undiscounted(left), undiscounted(right)
    if ways.skip and usual is not None and max(plain) < usual - (1 - ways.skip) * abs(usual):
        return Judgement.INCOMPARABLE
    difference = discounted(left, ways.discount) - discounted(right, ways.discount)
    if math.isfinite(ways.rationality):
        prefers_left = bool(chance[0] < 1 / (1 + math.exp(min(700.0, -ways.rationality * difference))))
    else:
        prefers_left = difference > 0
    if chance[1] < ways.mistake:
        prefers_left = not prefers_left
    gap, size = abs(plain[0] - plain[1]), max(abs(plain[0]), abs(plain[1]))
    too_close = usual is not None and bool(ways.equal) and gap < ways.equal * abs(usual)
    if too_close or gap < ways.noticeable * size or (difference == 0 and not math.isfinite(ways.rationality)):
        return Judgement.EQUAL
    return Judgement.LEFT if prefers_left else Judgement.RIGHT


def undiscounted(rewards: Floats) -> float:
    """A segment's sum of rewards, in double precision."""
    return float(rewards.sum(dtype=np.float64))


def discounted(rewards: Floats, discount: float) -> float:
    """The sum of discount^(L - 1 - t) r_t: the last step counts whole."""
    return float(np.dot(discount ** np.arange(len(rewards))[::-1], rewards.astype(np.float64)))
