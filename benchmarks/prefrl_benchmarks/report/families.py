"""Two suites on the same tasks in one figure, e.g. of two algorithms: return against steps, time and labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FormatStrFormatter

from prefrl.errors import PrefrlError, UsageError
from prefrl_benchmarks.report.analysis import Group, groups
from prefrl_benchmarks.report.style import COLOURS, Draw, finish
from prefrl_benchmarks.results import Results
from prefrl_benchmarks.run_statistics import Array, interval, mean

COLUMNS = 3
"""Panels of a task."""
_CLOCKS = {"time_processor_seconds": "CPU hours", "time_seconds": "hours"}
"""Columns of times, the best first. Runs of older versions have no processor time; each had one core."""
_SECONDS = 3600.0


@dataclass(frozen=True)
class Family:
    """The finished runs of one suite, with training returns."""

    name: str
    groups: tuple[Group, ...]
    colour: str

    @property
    def tasks(self) -> list[str]:
        """Its tasks, each once."""
        return list(dict.fromkeys(group.task for group in self.groups))

    def baseline(self, task: str) -> Group | None:
        """The runs on the true reward."""
        return next((group for group in self.groups if group.task == task and group.is_baseline), None)

    def learned(self, task: str) -> dict[int, Group]:
        """The first variant of each number of labels."""
        found = [group for group in self.groups if group.task == task and not group.is_baseline]
        return {group.labels: group for group in reversed(found)}


@dataclass(frozen=True)
class Comparison:
    """Two families and the tasks that both have."""

    families: tuple[Family, Family]
    tasks: tuple[str, ...]
    clock: str
    """The column of times that all runs have."""
    beside: Path
    """Folder of the second family."""

    @property
    def hours(self) -> str:
        """What the times are."""
        return _CLOCKS[self.clock]

    def labels(self, task: str, family: Family) -> int | None:
        """The largest number of labels that both have on a task, or else the family's own largest."""
        budgets = [each.learned(task).keys() for each in self.families]
        return max(budgets[0] & budgets[1] or family.learned(task).keys(), default=None)


def families(ours: Results, theirs: Results) -> Comparison:
    """Match the runs of two suites.

    Raises:
        UsageError: if one side has several suites.
        PrefrlError: if they have no finished task in common.
    """
    sides = [_finished(each) for each in (ours, theirs)]
    names = _names(ours, theirs)
    first, second = (
        Family(name, tuple(side), colour) for name, side, colour in zip(names, sides, COLOURS, strict=False)
    )
    tasks = tuple(task for task in first.tasks if task in second.tasks)
    if not tasks:
        raise PrefrlError(f"{names[0]} and {names[1]} have no finished task in common")
    shown = [group for side in sides for group in side if group.task in tasks and len(group.curve[0])]
    clock = next((column for column in _CLOCKS if all(len(group.mean_time(column)) for group in shown)), None)
    return Comparison((first, second), tasks, clock or "time_seconds", theirs.folders[0])


def draws(compared: Comparison) -> list[Draw]:
    """The panels, `COLUMNS` for each task."""
    return [
        partial(draw, compared=compared, task=task)
        for task in compared.tasks
        for draw in (draw_steps, draw_hours, draw_labels)
    ]


def draw_steps(axes: Axes, compared: Comparison, task: str) -> None:
    """Plot the learning curves of one task against agent steps: the true reward dashed, labels with their interval."""
    for family in compared.families:
        _curves(axes, compared, family, task, None)
    finish(axes, task, "true return, training", "agent steps")


def draw_hours(axes: Axes, compared: Comparison, task: str) -> None:
    """Plot the same curves against time, on a logarithmic axis: families may differ tenfold in it."""
    for family in compared.families:
        _curves(axes, compared, family, task, compared.clock)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    finish(axes, f"{task}, by time", "true return, training", compared.hours)


def draw_labels(axes: Axes, compared: Comparison, task: str) -> None:
    """Plot the final return against the number of labels, and the true reward's as a line."""
    budgets: set[int] = set()
    for family in compared.families:
        if baseline := family.baseline(task):
            name = f"{family.name}, true reward"
            axes.axhline(baseline.returns.mean(), color=family.colour, linestyle="--", linewidth=1.1, label=name)
        found = dict(sorted(family.learned(task).items()))
        middle = np.array([group.returns.mean() for group in found.values()])
        ends = np.array([interval(mean, group.returns[:, None]) for group in found.values()]).reshape(-1, 2)
        spread = np.nan_to_num(np.abs(ends.T - middle))
        axes.errorbar(
            list(found), middle, spread, color=family.colour, marker="o", capsize=3, label=f"{family.name}, from labels"
        )
        budgets |= found.keys()
    if budgets:
        axes.set_xscale("log")
        axes.set_xticks(sorted(budgets), [f"{labels:,}" for labels in sorted(budgets)])
        axes.minorticks_off()
    finish(axes, f"{task}, by labels", "true return, training", "labels")


def _curves(axes: Axes, compared: Comparison, family: Family, task: str, clock: str | None) -> None:
    labels = compared.labels(task, family)
    learned = None if labels is None else family.learned(task)[labels]
    for group, style in ((family.baseline(task), "--"), (learned, "-")):
        if group is None:
            continue
        at = _horizontal(group, clock)
        if not len(at):
            continue
        name = f"{family.name}, {'true reward' if group.is_baseline else f'{group.labels:,} labels'}"
        axes.plot(at, group.curve[1].mean(axis=0), style, color=family.colour, label=name, linewidth=1.3)
        if not group.is_baseline:
            axes.fill_between(at, *group.band, color=family.colour, alpha=0.15, linewidth=0)


def _horizontal(group: Group, clock: str | None) -> Array:
    return group.curve[0] if clock is None else group.mean_time(clock) / _SECONDS


def _finished(results: Results) -> list[Group]:
    """The groups of a single suite that have a training return."""
    suites = list(dict.fromkeys(each.suite for each in results.cells))
    if len(suites) > 1:
        raise UsageError(f"--beside compares one suite with another, but there are several: {', '.join(suites)}")
    return [group for group in groups(results.with_returns(suites[0], "training")) if group.results]


def _names(ours: Results, theirs: Results) -> tuple[str, str]:
    """The algorithms if they tell the families apart, or else the suites, or else the folders."""
    candidates = [(_algorithms(ours), _algorithms(theirs)), (ours.cells[0].suite, theirs.cells[0].suite)]
    folders = str(ours.folders[0]), str(theirs.folders[0])
    return next((names for names in candidates if names[0] != names[1]), folders)


def _algorithms(results: Results) -> str:
    return " and ".join(dict.fromkeys(result.cell.algo for result in results.cells))
