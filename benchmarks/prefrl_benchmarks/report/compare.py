"""Compare two sets of results: what improved or got worse, and by how much.

Differences are new minus old, with 95 % stratified bootstrap intervals over the seeds of both sets. If the interval
includes zero, no difference is claimed. Both sets are normalised by the baselines of the old one: a better true-reward
agent then shows as an improvement and does not lower all other scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prefrl.errors import PrefrlError
from prefrl_benchmarks.random_baseline import random_returns
from prefrl_benchmarks.report.analysis import Group, groups
from prefrl_benchmarks.results import Results, read_results
from prefrl_benchmarks.run_statistics import Array, Interval, interval, iqm, mean, normalised


@dataclass(frozen=True)
class Difference:
    """The change of one variant on one task, or over all tasks."""

    what: str
    old: float
    new: float
    range: Interval
    """95 % interval of new - old; NaN if either side has a single run."""
    runs: tuple[int, int]
    """Number of old and new runs."""

    @property
    def verdict(self) -> str:
        """better, worse, no difference found, or one run: cannot be told."""
        if np.isnan(self.range.low):
            return "one run: cannot be told"
        if self.range.low > 0:
            return "better"
        return "worse" if self.range.high < 0 else "no difference found"


def compare(old: Results, new: Results, random_baselines: Mapping[str, float]) -> list[Difference]:
    """Compare the IQM of each variant over the shared tasks, then the mean return of each task.

    Args:
        old: The older results.
        new: Results with at least one task and variant in common.
        random_baselines: Mean return of a random policy for each task.

    Raises:
        PrefrlError: if no variant of a task is in both, or one set reports evaluations and the other training returns.
    """
    if len({each.returns for side in (old, new) for each in side.cells}) > 1:
        raise PrefrlError("returns of evaluations cannot be compared with those of training")
    before, after = ({(group.variant, group.task): group for group in groups(each)} for each in (old, new))
    shared = [key for key in before if key in after and before[key].results and after[key].results]
    if not shared:
        raise PrefrlError("the two have no finished variant of a task in common")
    whole = [
        _over_tasks(
            variant, [(before[key], after[key]) for key in shared if key[0] == variant], before, random_baselines
        )
        for variant in dict.fromkeys(variant for variant, _ in shared)
    ]
    single = [
        _difference(f"{task}, {variant}: return", before[variant, task].returns, after[variant, task].returns)
        for variant, task in shared
    ]
    return [*(each for each in whole if each), *single]


def compare_folders(old: Path, new: Path) -> list[str]:
    """Compare the results of two folders.

    Returns:
        Notes on either set of results, then one line for each difference.

    Raises:
        UsageError: if a folder holds no suite's results.
        PrefrlError: if a folder has no finished cell, or the two have nothing in common.
    """
    results = before, after = _of_one_kind(read_results([old]), read_results([new]))
    tasks = dict.fromkeys(result.cell.task for each in results for result in each.finished)
    found = compare(before, after, random_returns(tasks, [old, new]))
    notes = [f"{folder}: {line}" for folder, each in zip((old, new), results, strict=True) for line in each.problems]
    notes += _differing_steps(before, after)
    texts = dict.fromkeys(each.returns_text(each.cells[0].suite) for each in results)
    notes.append(f"returns: {'; '.join(texts)}")
    notes.append(f"scores are normalised by the true-reward agents of {old}")
    return [*notes, *(_line(each) for each in found)]


def _of_one_kind(*sides: Results) -> list[Results]:
    """Use evaluation returns for both sides, or training returns (with a note) if one side was not evaluated."""
    if len({side.cells[0].returns for side in sides}) == 1:
        return list(sides)
    found = []
    for side in sides:
        suite = side.cells[0].suite
        training = side.with_returns(suite, "training")
        if not training.finished:
            raise PrefrlError(
                f"{side.folders[0]} was evaluated and has no training returns; the other was not evaluated"
            )
        note = f"not evaluated: returns of both are of the {training.returns_text(suite)}"
        mine = (note, *side.problems) if side.cells[0].returns == "training" else side.problems
        found.append(dataclasses.replace(training, problems=mine))
    return found


def _differing_steps(before: Results, after: Results) -> list[str]:
    """One line for each variant of a task whose number of steps differs between the two."""
    old, new = (
        {(each.cell.task, each.cell.variant): each.cell.steps for each in side.finished} for side in (before, after)
    )
    return [
        f"{', '.join(key)}: {old[key]:,} steps before, {new[key]:,} after"
        for key in old
        if key in new and old[key] != new[key]
    ]


def _over_tasks(
    variant: str,
    pairs: Sequence[tuple[Group, Group]],
    before: Mapping[tuple[str, str], Group],
    random_baselines: Mapping[str, float],
) -> Difference | None:
    """Difference of IQMs over tasks; None if an old true-reward agent is missing or no better than random."""
    true_baselines = {
        group.task: group.returns.mean() for group in before.values() if group.is_baseline and group.results
    }
    tasks = [old.task for old, _ in pairs]
    if not all(true_baselines.get(task, -np.inf) > random_baselines[task] for task in tasks):
        return None
    random_baseline, true_baseline = (
        [random_baselines[task] for task in tasks],
        [true_baselines[task] for task in tasks],
    )
    tables = [normalised(_table(side), random_baseline, true_baseline) for side in zip(*pairs, strict=True)]
    if not all(len(table) for table in tables):
        return None
    return _difference(f"{variant}: IQM of the score over {len(tasks)} tasks", *tables)


def _table(found: Sequence[Group]) -> Array:
    """Returns of the seeds that all tasks have, shape (N, M)."""
    seeds = sorted(set.intersection(*(set(group.seeds) for group in found)))
    returns = [dict(zip(group.seeds, group.returns, strict=True)) for group in found]
    return np.array([[column[seed] for column in returns] for seed in seeds], dtype=float).reshape(-1, len(found))


def _difference(what: str, old: Array, new: Array) -> Difference:
    statistic = mean if old.ndim == 1 else iqm
    tables = [values[:, None] if values.ndim == 1 else values for values in (old, new)]
    spread = interval(lambda ours, theirs: np.asarray(statistic(ours) - statistic(theirs)), tables[1], tables[0])
    before, after = (float(statistic(table)) for table in tables)
    return Difference(what, before, after, spread, (len(old), len(new)))


def _line(each: Difference) -> str:
    change = each.new - each.old
    runs = f"{each.runs[0]} and {each.runs[1]} runs"
    told = f"{each.what} {each.old:.4g} -> {each.new:.4g}: {change:+.3g}"
    if not np.isnan(each.range.low):
        told += f" ({each.range.low:+.3g} to {each.range.high:+.3g})"
    return f"{each.verdict:<20} {told}, {runs}"
