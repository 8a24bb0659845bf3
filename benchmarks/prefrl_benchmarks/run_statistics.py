"""Statistics for few runs on several tasks (Agarwal et al., 2021, https://arxiv.org/abs/2108.13264), as pure functions.

Shapes: N runs (seeds), M tasks, T points of a curve. `...` stands for any leading dimensions; statistics keep them, so
that thousands of bootstrap resamples are computed at once. tests/test_statistics.py compares the results with rliable.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import scipy.stats
from numpy.typing import ArrayLike, NDArray

Array = NDArray[Any]
Statistic = Callable[..., Array]
"""Maps one or more arrays of shape (..., N, M) to (...)."""


class Interval(NamedTuple):
    """A confidence interval; NaN if there are too few runs."""

    low: float
    high: float


def normalised(returns: ArrayLike, random_baseline: ArrayLike, true_baseline: ArrayLike) -> Array:
    """Normalise returns so that a random policy scores 0 and the true-reward agent 1.

    (return - random baseline) / (true baseline - random baseline)

    Args:
        returns: (..., N, M) returns.
        random_baseline: (M,) mean return of the random policy.
        true_baseline: (M,) mean return of the true-reward agent.

    Returns:
        (..., N, M); NaN for a task whose two baselines are equal.
    """
    low, high = np.asarray(random_baseline, dtype=float), np.asarray(true_baseline, dtype=float)
    span = np.where(high == low, np.nan, high - low)
    return np.asarray((np.asarray(returns, dtype=float) - low) / span)


def mean(scores: Array) -> Array:
    """Mean over tasks of the means over runs: (..., N, M) -> (...)."""
    return np.asarray(scores.mean(axis=(-2, -1)))


def median(scores: Array) -> Array:
    """Median over tasks of the means over runs: (..., N, M) -> (...)."""
    return np.asarray(np.median(scores.mean(axis=-2), axis=-1))


def iqm(scores: Array) -> Array:
    """Interquartile mean over all runs and tasks: (..., N, M) -> (...).

    The lowest and the highest floor(n / 4) of the n = N M scores are left out.
    """
    return np.asarray(scipy.stats.trim_mean(scores.reshape(*scores.shape[:-2], -1), 0.25, axis=-1))


def optimality_gap(scores: Array, target: float = 1.0) -> Array:
    """Mean shortfall from the target, target - mean(min(score, target)): (..., N, M) -> (...)."""
    return np.asarray(target - np.minimum(scores, target).mean(axis=(-2, -1)))


def improvement(ours: Array, theirs: Array) -> Array:
    """Probability of improvement, P(ours > theirs) + P(ours = theirs) / 2 on a task, averaged over tasks.

    Args:
        ours: (..., N, M) scores.
        theirs: (..., N', M) scores.

    Returns:
        (...)
    """
    left, right = ours[..., :, None, :], theirs[..., None, :, :]
    return np.asarray(((left > right) + 0.5 * (left == right)).mean(axis=(-3, -2, -1)))


def performance_profile(scores: Array, thresholds: ArrayLike) -> Array:
    """Share of runs that score above each threshold: (..., N, M), (T,) -> (..., T)."""
    above = scores[..., None] > np.asarray(thresholds)
    return np.asarray(above.mean(axis=(-3, -2)))


def area_under_curve(steps: ArrayLike, returns: ArrayLike) -> Array:
    """Mean height of a curve, by the trapezoidal rule: (T,), (..., T) -> (...).

    integral of return d step / (last step - first step)
    """
    at = np.asarray(steps, dtype=float)
    return np.asarray(np.trapezoid(np.asarray(returns, dtype=float), at, axis=-1) / (at[-1] - at[0]))


def interval(
    statistic: Statistic, *scores: Array, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Stratified bootstrap percentile interval: runs are resampled with replacement within each task.

    Args:
        statistic: Function of as many arrays as are given, e.g. `iqm` of one or `improvement` of two.
        scores: Arrays of shape (N, M), which may differ in N; they are resampled independently.
        confidence: Confidence level.
        resamples: Number of resamples.
        seed: Seed of the resampling; the same seed gives the same interval.

    Returns:
        The interval; NaN if there are fewer than two runs.
    """
    if min(len(array) for array in scores) < 2:
        return Interval(np.nan, np.nan)
    columns = [column for array in scores for column in np.asarray(array, dtype=float).T]
    ends = np.cumsum([array.shape[1] for array in scores])[:-1]
    result = scipy.stats.bootstrap(
        columns,
        partial(_of_columns, statistic, ends),
        vectorized=True,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return Interval(*map(float, result.confidence_interval))


def _of_columns(statistic: Statistic, ends: Array, *columns: Array, axis: int = -1) -> Array:
    """Compute the statistic of arrays given as columns of shape (..., N), one per task, with runs last."""
    groups = np.split(np.arange(len(columns)), ends)
    return statistic(*(np.stack([np.moveaxis(columns[i], axis, -1) for i in group], axis=-1) for group in groups))


def band(curves: Array, *, confidence: float = 0.95, resamples: int = 1000, seed: int = 0) -> Array:
    """Pointwise bootstrap interval of the mean curve, NaN for one run: (N, T) -> (2, T) low, high."""
    if len(curves) < 2:
        return np.full((2, curves.shape[1]), np.nan)
    result = scipy.stats.bootstrap(
        (curves,),
        np.mean,
        axis=0,
        vectorized=True,
        n_resamples=resamples,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    return np.stack(result.confidence_interval)
