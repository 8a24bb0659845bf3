"""Normalised scores of each task and variant, and their aggregates over tasks.

The normalised score of a cell is (return - random policy) / (true-reward agent - random policy), where both agents have
the same task, steps and seeds. Missing runs are left out and reported, never filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from prefrl_benchmarks import run_statistics as statistics
from prefrl_benchmarks.report.published import JUDGED_OTHERWISE
from prefrl_benchmarks.results import Result, Results
from prefrl_benchmarks.returns import SUCCESS_KEYS, Returns
from prefrl_benchmarks.run_statistics import Array, Interval, interval

AGGREGATES = {
    "IQM": statistics.iqm,
    "mean": statistics.mean,
    "median": statistics.median,
    "optimality gap": statistics.optimality_gap,
}
POINTS = 100
"""Number of points of a learning curve."""


@dataclass(frozen=True)
class Group:
    """The finished runs of one variant on one task, sorted by seed."""

    suite: str
    task: str
    variant: str
    labels: int
    """Label budget; 0 for training on the true reward."""
    results: tuple[Result, ...]
    planned: int
    """Number of runs that the suite plans."""
    of: Returns = "training"
    """Which returns are reported."""

    @property
    def facts(self) -> dict[str, Any]:
        """What a row of a table says first of the group, which has at least one run."""
        return {
            "suite": self.suite,
            "task": self.task,
            "variant": self.variant,
            "labels": self.labels,
            "steps": self.results[0].cell.steps,
            "runs": len(self.results),
            "planned": self.planned,
        }

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seeds of the finished runs."""
        return tuple(result.cell.seed for result in self.results)

    @property
    def returns(self) -> Array:
        """Final mean true returns, shape (N,)."""
        return np.array([result.value for result in self.results], dtype=float)

    @property
    def is_baseline(self) -> bool:
        """Whether these runs train on the true reward."""
        return self.labels == 0

    @property
    def feedback(self) -> str:
        """The feedback kinds that the runs ask for."""
        return self.results[0].cell.feedback if self.results else ""

    @property
    def minutes(self) -> float:
        """Mean time in minutes that the labels took a labeller, or would have taken; NaN if it is not known."""
        seconds = self.metric("label_seconds")
        return float(seconds.mean()) / 60 if len(seconds) else float("nan")

    def metric(self, name: str) -> Array:
        """One field of the summaries, shape (N,); NaN where a run has no value."""
        values = [(result.summary or {}).get(name) for result in self.results]
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    @property
    def success_rates(self) -> Array:
        """Share of successful episodes of the same kind as the returns, shape (N,); NaN where none was told."""
        return self.metric(SUCCESS_KEYS[self.of])

    @cached_property
    def curve(self) -> tuple[Array, Array]:
        """Steps (T,) and true training returns (N, T) on the steps that all runs share; T is 0 if there are none."""
        curves = [curve for curve in map(_curve, self.results) if len(curve)]
        if not curves:
            return np.empty(0), np.empty((0, 0))
        first, last = max(curve[0, 0] for curve in curves), min(curve[-1, 0] for curve in curves)
        if first >= last:
            return np.empty(0), np.empty((0, 0))
        steps = np.linspace(first, last, POINTS)
        return steps, np.array([np.interp(steps, curve[:, 0], curve[:, 1]) for curve in curves])

    def mean_time(self, column: str) -> Array:
        """Mean over the runs of a column of times at the steps of the curve, shape (T,); T is 0 if a run lacks it."""
        curves = [_curve(result, column) for result in self.results if len(_curve(result))]
        if not curves or not all(map(len, curves)):
            return np.empty(0)
        return np.asarray(np.mean([np.interp(self.curve[0], *curve.T) for curve in curves], axis=0))

    @cached_property
    def band(self) -> Array:
        """Confidence interval of the mean curve, shape (2, T): low, high."""
        return statistics.band(self.curve[1])


@dataclass(frozen=True)
class TaskScore:
    """A variant on one task, with both baselines."""

    group: Group
    random_baseline: float
    """Mean return of a random policy."""
    true_baseline: float
    """Mean return of the true-reward agent over the same seeds."""
    seeds: tuple[int, ...]
    """Seeds that both the variant and the true-reward agent have."""
    returns: Array
    """True returns in the order of the seeds, shape (N,)."""
    scores: Array
    """Normalised scores in the same order, shape (N,)."""


@dataclass(frozen=True)
class Aggregate:
    """The scores of a variant over all its tasks."""

    suite: str
    variant: str
    labels: int
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    """Seeds that all of these tasks have."""
    scores: Array
    """Normalised scores, shape (N, M): seeds, tasks."""
    missing: str
    """What is missing from a partial result; empty if it is complete."""

    def values(self) -> dict[str, tuple[float, Interval]]:
        """Each aggregate with its confidence interval."""
        return {name: (float(of(self.scores)), interval(of, self.scores)) for name, of in AGGREGATES.items()}


def groups(results: Results) -> list[Group]:
    """Group finished runs by suite, task and variant, in the order of the suites."""
    found: dict[tuple[str, str, str], list[Result]] = {}
    for result in results.cells:
        found.setdefault((result.suite, result.cell.task, result.cell.variant), []).append(result)
    return [
        Group(
            *key,
            cells[0].cell.labels or 0,
            tuple(sorted((each for each in cells if each.value is not None), key=lambda each: each.cell.seed)),
            len(cells),
            cells[0].returns,
        )
        for key, cells in found.items()
    ]


def task_scores(found: Sequence[Group], random_baselines: Mapping[str, float]) -> tuple[list[TaskScore], list[str]]:
    """Compute the scores of every variant on every task.

    Args:
        found: Groups of finished runs.
        random_baselines: Mean return of a random policy for each task.

    Returns:
        The scores, and one line for each variant that has no score on a task, or one of unequal steps.
    """
    baselines = {(group.suite, group.task): group for group in reversed(found) if group.is_baseline}
    scores, problems = [], []
    for group in found:
        baseline = baselines.get((group.suite, group.task))
        if not group.results:
            continue
        who = f"{group.task}, {group.variant}: no score:"
        if baseline is None or not baseline.results:
            problems.append(f"{who} no true-reward run is finished")
        elif (score := _score(group, baseline, random_baselines[group.task])) is None:
            problems.append(f"{who} no true-reward run has its seeds")
        elif score.true_baseline <= score.random_baseline:
            problems.append(f"{who} the true-reward agent is no better than a random policy")
        elif (steps := group.results[0].cell.steps) != (others := baseline.results[0].cell.steps):
            problems.append(f"{group.task}, {group.variant}: {steps:,} steps, its true-reward runs {others:,}")
            scores.append(score)
        else:
            scores.append(score)
    return scores, problems


def aggregates(scores: Sequence[TaskScore], found: Sequence[Group]) -> list[Aggregate]:
    """Aggregate each variant over the tasks that have a score, using the seeds that all of these tasks have.

    Tasks in which teachers judge something other than the reported score do not count.
    """
    scores = [score for score in scores if score.group.task not in JUDGED_OTHERWISE]
    found = [group for group in found if group.task not in JUDGED_OTHERWISE]
    return [
        _aggregate(suite, variant, [score for score in scores if _key(score.group) == (suite, variant)], found)
        for suite, variant in dict.fromkeys(_key(score.group) for score in scores)
    ]


def _key(group: Group) -> tuple[str, str]:
    return group.suite, group.variant


def _score(group: Group, baseline: Group, random_baseline: float) -> TaskScore | None:
    true_baselines = dict(zip(baseline.seeds, baseline.returns, strict=True))
    seeds = tuple(seed for seed in group.seeds if seed in true_baselines)
    if not seeds:
        return None
    true_baseline = float(np.mean([true_baselines[seed] for seed in seeds]))
    returns = group.returns[np.isin(group.seeds, seeds)]
    scores = statistics.normalised(returns[:, None], [random_baseline], [true_baseline])[:, 0]
    return TaskScore(group, random_baseline, true_baseline, seeds, returns, scores)


def _aggregate(suite: str, variant: str, scores: Sequence[TaskScore], found: Sequence[Group]) -> Aggregate:
    planned = [group for group in found if _key(group) == (suite, variant)]
    seeds = tuple(sorted(set.intersection(*(set(score.seeds) for score in scores))))
    columns = [[dict(zip(score.seeds, score.scores, strict=True))[seed] for seed in seeds] for score in scores]
    table = np.array(columns, dtype=float).reshape(len(scores), len(seeds)).T
    most = min(group.planned for group in planned)  # tasks may have more seeds than others
    lacks = [f"{len(scores)} of {len(planned)} tasks"] * (len(scores) < len(planned))
    lacks += [f"{len(seeds)} of {most} seeds"] * (len(seeds) < most)
    tasks = tuple(score.group.task for score in scores)
    return Aggregate(suite, variant, planned[0].labels, tasks, seeds, table, ", ".join(lacks))


def _curve(result: Result, column: str = "true_return_mean") -> Array:
    """Steps and another column of a run's metrics, shape (T, 2); empty if the metrics are incomplete."""
    rows = [] if result.flaw else result.metrics
    points: list[Any] = [(row["step"], row[column]) for row in rows if row.get(column) is not None]
    return np.array(points, dtype=float).reshape(-1, 2)
