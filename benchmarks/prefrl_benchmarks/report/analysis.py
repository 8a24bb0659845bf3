"""From results to figures: normalised scores of each task and variant, and their aggregates over tasks.

A cell's normalised score is (return - random policy) / (true-reward agent - random policy), the agents' returns being
of the same task, steps and seeds. What is missing is left out and said, never filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from prefrl_benchmarks import run_statistics as statistics
from prefrl_benchmarks.results import Result, Results
from prefrl_benchmarks.returns import Returns
from prefrl_benchmarks.run_statistics import Array, Interval, interval

AGGREGATES = {
    "IQM": statistics.iqm,
    "mean": statistics.mean,
    "median": statistics.median,
    "optimality gap": statistics.optimality_gap,
}
POINTS = 100
"""On a learning curve."""


@dataclass(frozen=True)
class Group:
    """The finished runs of one variant on one task, in the order of their seeds."""

    suite: str
    task: str
    variant: str
    labels: int
    """The budget; 0 on the true reward."""
    results: tuple[Result, ...]
    planned: int
    """Runs that there were to be."""
    of: Returns = "training"
    """Which of their returns."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """Of the finished runs."""
        return tuple(result.cell.seed for result in self.results)

    @property
    def returns(self) -> Array:
        """(N,) final mean true returns."""
        return np.array([result.value for result in self.results], dtype=float)

    @property
    def is_baseline(self) -> bool:
        """Whether these are the true-reward agent's."""
        return self.labels == 0

    def figure(self, name: str) -> Array:
        """(N,) one figure of the summaries; NaN where a run has none."""
        values = [(result.summary or {}).get(name) for result in self.results]
        return np.array([np.nan if value is None else value for value in values], dtype=float)

    @cached_property
    def curve(self) -> tuple[Array, Array]:
        """Steps (T,) and true returns of training (N, T), on the steps that all the runs have; T is 0 without any."""
        curves = [curve for curve in map(_curve, self.results) if len(curve)]
        if not curves:
            return np.empty(0), np.empty((0, 0))
        first, last = max(curve[0, 0] for curve in curves), min(curve[-1, 0] for curve in curves)
        if first >= last:
            return np.empty(0), np.empty((0, 0))
        steps = np.linspace(first, last, POINTS)
        return steps, np.array([np.interp(steps, curve[:, 0], curve[:, 1]) for curve in curves])

    @cached_property
    def band(self) -> Array:
        """(2, T) interval of the mean of these curves."""
        return statistics.band(self.curve[1])


@dataclass(frozen=True)
class TaskScore:
    """A variant on a task, beside the yardsticks."""

    group: Group
    floor: float
    """The random policy's mean return."""
    ceiling: float
    """The true-reward agent's, over the same seeds."""
    seeds: tuple[int, ...]
    """That variant and true-reward agent both have."""
    returns: Array
    """(N,) true returns, in the order of these seeds."""
    scores: Array
    """(N,) the same, normalised."""


@dataclass(frozen=True)
class Aggregate:
    """A variant over all its tasks."""

    suite: str
    variant: str
    labels: int
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    """That every one of these tasks has."""
    scores: Array
    """(N, M) normalised: seeds, tasks."""
    missing: str
    """What a partial result lacks; empty where it is whole."""

    def values(self) -> dict[str, tuple[float, Interval]]:
        """Each aggregate with its interval."""
        return {name: (float(of(self.scores)), interval(of, self.scores)) for name, of in AGGREGATES.items()}


def groups(results: Results) -> list[Group]:
    """The finished runs by suite, task and variant, in the suites' order."""
    found: dict[tuple[str, str, str], list[Result]] = {}
    for result in results.cells:
        found.setdefault((result.suite, result.cell.task, result.cell.variant), []).append(result)
    return [
        Group(
            *key,
            cells[0].cell.labels,
            tuple(sorted((each for each in cells if each.value is not None), key=lambda each: each.cell.seed)),
            len(cells),
            cells[0].returns,
        )
        for key, cells in found.items()
    ]


def task_scores(found: Sequence[Group], floors: Mapping[str, float]) -> tuple[list[TaskScore], list[str]]:
    """Scores of every variant on every task.

    Args:
        found: The groups.
        floors: The random policy's return of each task.

    Returns:
        The scores, and a line for each variant that has none on a task.
    """
    baselines = {(group.suite, group.task): group for group in found if group.is_baseline}
    scores, problems = [], []
    for group in found:
        baseline = baselines.get((group.suite, group.task))
        if not group.results:
            continue
        who = f"{group.task}, {group.variant}: no score:"
        if baseline is None or not baseline.results:
            problems.append(f"{who} no true-reward run is finished")
        elif (score := _score(group, baseline, floors[group.task])) is None:
            problems.append(f"{who} no true-reward run has its seeds")
        elif score.ceiling <= score.floor:
            problems.append(f"{who} the true-reward agent is no better than a random policy")
        else:
            scores.append(score)
    return scores, problems


def aggregates(scores: Sequence[TaskScore], found: Sequence[Group]) -> list[Aggregate]:
    """Each variant over the tasks that have a score, with the seeds that all of these have."""
    return [
        _aggregate(suite, variant, [score for score in scores if _key(score.group) == (suite, variant)], found)
        for suite, variant in dict.fromkeys(_key(score.group) for score in scores)
    ]


def _key(group: Group) -> tuple[str, str]:
    return group.suite, group.variant


def _score(group: Group, baseline: Group, floor: float) -> TaskScore | None:
    ceilings = dict(zip(baseline.seeds, baseline.returns, strict=True))
    seeds = tuple(seed for seed in group.seeds if seed in ceilings)
    if not seeds:
        return None
    ceiling = float(np.mean([ceilings[seed] for seed in seeds]))
    returns = group.returns[np.isin(group.seeds, seeds)]
    scores = statistics.normalised(returns[:, None], [floor], [ceiling])[:, 0]
    return TaskScore(group, floor, ceiling, seeds, returns, scores)


def _aggregate(suite: str, variant: str, scores: Sequence[TaskScore], found: Sequence[Group]) -> Aggregate:
    planned = [group for group in found if _key(group) == (suite, variant)]
    seeds = tuple(sorted(set.intersection(*(set(score.seeds) for score in scores))))
    columns = [[dict(zip(score.seeds, score.scores, strict=True))[seed] for seed in seeds] for score in scores]
    table = np.array(columns, dtype=float).reshape(len(scores), len(seeds)).T
    most = max(group.planned for group in planned)
    lacks = [f"{len(scores)} of {len(planned)} tasks"] * (len(scores) < len(planned))
    lacks += [f"{len(seeds)} of {most} seeds"] * (len(seeds) < most)
    tasks = tuple(score.group.task for score in scores)
    return Aggregate(suite, variant, planned[0].labels, tasks, seeds, table, ", ".join(lacks))


def _curve(result: Result) -> Array:
    """(T, 2) steps and true returns of a run; empty where it has no whole curve."""
    rows = [] if result.flaw else result.metrics
    points: list[Any] = [(row["step"], row["true_return_mean"]) for row in rows if row["true_return_mean"] is not None]
    return np.array(points, dtype=float).reshape(-1, 2)
