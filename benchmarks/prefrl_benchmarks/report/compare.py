"""Two sets of results side by side: what got better or worse, and by how much.

Differences are new minus old with 95 % stratified bootstrap intervals over the seeds of both; where the interval holds
zero, nothing was found. Scores of both are normalised by the old set's yardsticks, so that a better true-reward agent
shows as better rather than making everything else look worse.
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
    """What became of one variant on one task, or over all of them."""

    what: str
    old: float
    new: float
    range: Interval
    """Of new - old; NaN where one of them has a single run."""
    runs: tuple[int, int]
    """Old and new."""

    @property
    def verdict(self) -> str:
        """In a word."""
        if np.isnan(self.range.low):
            return "one run: cannot be told"
        if self.range.low > 0:
            return "better"
        return "worse" if self.range.high < 0 else "no difference found"


def compare(old: Results, new: Results, floors: Mapping[str, float]) -> list[Difference]:
    """Differences of the IQM of each variant over the tasks that both have, then of each task's mean return.

    Args:
        old: Results.
        new: Results of the same tasks and variants, or of some of them.
        floors: The random policy's return of each task.

    Raises:
        PrefrlError: if they have no variant of a task in common, or their returns are not of the same episodes.
    """
    if len({each.returns for side in (old, new) for each in side.cells}) > 1:
        raise PrefrlError("returns of evaluations cannot be compared with those of training")
    before, after = ({(group.variant, group.task): group for group in groups(each)} for each in (old, new))
    shared = [key for key in before if key in after and before[key].results and after[key].results]
    if not shared:
        raise PrefrlError("the two have no finished variant of a task in common")
    whole = [
        _over_tasks(variant, [(before[key], after[key]) for key in shared if key[0] == variant], before, floors)
        for variant in dict.fromkeys(variant for variant, _ in shared)
    ]
    single = [
        _difference(f"{task}, {variant}: return", before[variant, task].returns, after[variant, task].returns)
        for variant, task in shared
    ]
    return [*(each for each in whole if each), *single]


def compare_folders(old: Path, new: Path) -> list[str]:
    """The differences of two folders' results, a line each, after what has to be known of either.

    Raises:
        UsageError: if one is no suite's folder.
        PrefrlError: if one has no finished cell, or they have nothing in common.
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
    """Both with the returns of their evaluations, or of training where one of them was not evaluated, which says so."""
    if len({side.cells[0].returns for side in sides}) == 1:
        return list(sides)
    found = []
    for side in sides:
        suite = side.cells[0].suite
        training = side.with_returns(suite, "training")
        if not training.finished:
            raise PrefrlError(f"{side.folders[0]} was evaluated, the other was not, and has no return of training")
        note = f"not evaluated: returns of both are of the {training.returns_text(suite)}"
        mine = (note, *side.problems) if side.cells[0].returns == "training" else side.problems
        found.append(dataclasses.replace(training, problems=mine))
    return found


def _differing_steps(before: Results, after: Results) -> list[str]:
    """A line for each variant of a task whose runs are longer in one of the two."""
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
    floors: Mapping[str, float],
) -> Difference | None:
    """The difference of IQMs over tasks; None where the old set has no yardstick above random for one of them."""
    ceilings = {group.task: group.returns.mean() for group in before.values() if group.is_baseline and group.results}
    tasks = [old.task for old, _ in pairs]
    if not all(ceilings.get(task, -np.inf) > floors[task] for task in tasks):
        return None
    floor, ceiling = [floors[task] for task in tasks], [ceilings[task] for task in tasks]
    tables = [normalised(_table(side), floor, ceiling) for side in zip(*pairs, strict=True)]
    if not all(len(table) for table in tables):
        return None
    return _difference(f"{variant}: IQM of the score over {len(tasks)} tasks", *tables)


def _table(found: Sequence[Group]) -> Array:
    """(N, M) returns of the seeds that all the tasks have."""
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
