"""What the analyses of studies that train have in common: returns, scores and metrics by task and variant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes

from prefrl.arrays import Array
from prefrl_benchmarks.random_baseline import random_returns
from prefrl_benchmarks.report.analysis import Group, groups
from prefrl_benchmarks.report.style import COLOURS, Draw, finish
from prefrl_benchmarks.results import Result
from prefrl_benchmarks.run_statistics import interval, mean, normalised
from prefrl_benchmarks.studies.study import Measured, Row


@dataclass(frozen=True)
class Trained:
    """The finished runs of a study."""

    measured: Measured
    baseline: str = "true"
    """Variant whose mean return has the normalised score 1."""

    @cached_property
    def groups(self) -> dict[tuple[str, str], Group]:
        """Runs by task and variant; those without a finished run are missing."""
        found = groups(self.measured.results)
        return {(group.task, group.variant): group for group in found if group.results}

    @cached_property
    def tasks(self) -> list[str]:
        """Tasks with a finished run, in the order of the suite."""
        return list(dict.fromkeys(task for task, _ in self.groups))

    @cached_property
    def random(self) -> dict[str, float]:
        """Mean return of a random policy on each task."""
        return random_returns(self.tasks, self.measured.results.folders)

    def returns(self, task: str, variant: str) -> Array:
        """Returns at the end, in the order of the seeds, (N,); N is 0 if no run is finished."""
        group = self.groups.get((task, variant))
        return group.returns if group else np.empty(0)

    def scores(self, task: str, variant: str) -> Array:
        """Returns between a random policy (0) and the mean of the baseline (1), (N,)."""
        true = self.returns(task, self.baseline)
        return normalised(self.returns(task, variant), self.random[task], true.mean() if len(true) else np.nan)

    def runs(self, task: str, variant: str) -> Sequence[Result]:
        """Finished runs in the order of their seeds."""
        group = self.groups.get((task, variant))
        return group.results if group else ()

    def late(self, task: str, variant: str, column: str, last: float = 0.5) -> Array:
        """Mean of a column of the metrics over the last part of each run, (N,); NaN where it has no value.

        Args:
            task: The task.
            variant: The variant.
            column: Name of the column.
            last: The part of the run's steps, in (0, 1].
        """
        return np.array([_late(result, column, last) for result in self.runs(task, variant)])


def column(result: Result, name: str) -> Array:
    """Return the steps and the values of a column where it has a value, (T, 2)."""
    found = [(row["step"], row[name]) for row in result.metrics if row.get(name) is not None]
    return np.array(found, dtype=float).reshape(-1, 2)


def _late(result: Result, name: str, last: float) -> float:
    steps, values = column(result, name).T
    chosen = values[steps > (1 - last) * (result.cell.steps or 0)]
    return float(chosen.mean()) if len(chosen) else np.nan


def spread(values: Array, digits: int = 2) -> str:
    """Return the mean of the values that are known, and its 95 % bootstrap interval, as text; "-" if none is."""
    known = values[~np.isnan(values)]
    if not len(known):
        return "-"
    low, high = interval(mean, known[:, None])
    return f"{known.mean():,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def overlap(ours: Array, theirs: Array) -> bool:
    """Return whether the 95 % intervals of two means overlap."""
    (low, high), (other_low, other_high) = (interval(mean, values[:, None]) for values in (ours, theirs))
    return low <= other_high and other_low <= high


def score_rows(trained: Trained, variants: Sequence[str], more: Callable[[str, str], Row] | None = None) -> list[Row]:
    """Return a table of all tasks and variants: scores with intervals, and the return of each seed."""
    return [
        {
            "task": task,
            "variant": variant,
            "score (95 % interval)": spread(trained.scores(task, variant)),
            "returns by seed": ", ".join(f"{value:,.0f}" for value in trained.returns(task, variant)),
            **(more(task, variant) if more else {}),
        }
        for task in trained.tasks
        for variant in variants
    ]


def bars(title: str, vertical: str, values: dict[str, Array], line: float | None = None) -> Draw:
    """Return a panel with a bar for each mean and a point for each seed.

    Args:
        title: Title of the panel.
        vertical: Name of the vertical axis.
        values: Values of the seeds by the bar's name.
        line: Height of a dashed line.
    """

    def draw(axes: Axes) -> None:
        for place, (colour, found) in enumerate(zip(cycle(COLOURS), values.values(), strict=False)):
            if len(found):
                axes.bar(place, np.mean(found), color=colour, alpha=0.5)
                axes.plot(np.full(len(found), place), found, "o", color=colour, markersize=4)
        if line is not None:
            axes.axhline(line, color="black", linestyle="--", linewidth=1)
        axes.set_xticks(range(len(values)), list(values), rotation=30, ha="right")
        finish(axes, title, vertical)

    return draw
