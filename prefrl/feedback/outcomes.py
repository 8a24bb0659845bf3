"""Predicted outcomes of comparisons (left, right or can't tell), and how good they are, as pure functions."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from prefrl.arrays import Array

OUTCOMES = ("left", "right", "incomparable")
"""The outcomes, in the order of their probabilities."""
CANNOT_TELL = OUTCOMES.index("incomparable")
_SMALLEST = 1e-12
"""Smallest probability of a logarithm."""


def outcome_probabilities(first: Array, untold: Array) -> Array:
    """Return the probabilities of the outcomes of comparisons: u for can't tell, (1 - u) p and (1 - u) (1 - p).

    Args:
        first: (N,) p, the probability that the first segment is preferred if the labeller can tell.
        untold: (N,) u, the probability that the labeller cannot tell.

    Returns:
        (N, 3) in the order of `OUTCOMES`.
    """
    return np.stack([(1 - untold) * first, (1 - untold) * (1 - first), untold], axis=1)


def sureness(first: float, untold: float = 0.0) -> float:
    """Return the probability of the most likely answer that prefers a side: (1 - u) max(p, 1 - p)."""
    return (1 - untold) * max(first, 1 - first)


class Curve(NamedTuple):
    """Risk against coverage (El-Yaniv and Wiener, 2010): what answering only the surest queries costs."""

    coverage: Array
    """(M,) share of the queries that are answered, ascending to 1."""
    risk: Array
    """(M,) share of wrong answers among those that are given."""

    @property
    def area(self) -> float:
        """The mean risk over the coverage, from 0 to 1; lower is better."""
        return float((np.diff(self.coverage, prepend=0.0) * self.risk).sum())

    def accuracy(self, coverage: float) -> float:
        """Return the accuracy at the smallest coverage of the curve that is not below this one."""
        return float(1 - self.risk[np.searchsorted(self.coverage, coverage - 1e-9)])


def risk_coverage(sure: Array, wrong: Array) -> Curve:
    """Compute the curve of risk against coverage. Queries of equal sureness are answered together.

    Args:
        sure: (N,) sureness of each answer, N > 0.
        wrong: (N,) whether it is wrong.
    """
    order = np.argsort(-sure)
    answered = np.arange(1, len(sure) + 1)
    last = np.append(np.diff(sure[order]) != 0, True)
    risk = np.cumsum(wrong[order]) / answered
    return Curve((answered / len(sure))[last], risk[last])


class Reliability(NamedTuple):
    """A reliability diagram: how often what was predicted with a probability came true, in bins of equal width."""

    number: Array
    """(M,) number of predictions in each bin."""
    predicted: Array
    """(M,) their mean probability; NaN in an empty bin."""
    true: Array
    """(M,) share that came true; NaN in an empty bin."""

    @property
    def error(self) -> float:
        """The expected calibration error: the mean of |true - predicted|, weighted by the predictions in each bin."""
        filled = self.number > 0
        gaps = np.abs(self.true - self.predicted)[filled]
        return float((self.number[filled] * gaps).sum() / self.number.sum())


def reliability(probability: Array, came_true: Array, bins: int = 10) -> Reliability:
    """Compare predicted probabilities with what came true (Guo et al., 2017, section 2).

    Args:
        probability: (N,) predicted probabilities, N > 0; a boundary of two bins belongs to the upper one.
        came_true: (N,) whether what was predicted came true.
        bins: M, the number of bins between 0 and 1.
    """
    places = np.minimum((probability * bins).astype(np.int64), bins - 1)
    number = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        predicted, true = (np.bincount(places, values, bins) / number for values in (probability, came_true))
    return Reliability(number, predicted, true)


def of_the_most_likely(probabilities: Array, outcomes: Array) -> tuple[Array, Array]:
    """Return the probability of the most likely outcome of each comparison, and whether it came true.

    Args:
        probabilities: (N, 3) in the order of `OUTCOMES`.
        outcomes: (N,) indices of what came true.
    """
    return probabilities.max(axis=1), probabilities.argmax(axis=1) == outcomes


def log_loss(probability: Array, came_true: Array) -> float:
    """Return the mean log loss of predicted probabilities, in nats."""
    likelihood = np.where(came_true, probability, 1 - probability)
    return float(-np.log(np.maximum(likelihood, _SMALLEST)).mean())
