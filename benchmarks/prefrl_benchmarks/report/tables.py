"""Tables of the report as rows of plain values, for the CSV files and the page."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from prefrl_benchmarks.report.analysis import Aggregate, Group, TaskScore
from prefrl_benchmarks.report.paper import paper_scores
from prefrl_benchmarks.results import Result, Results
from prefrl_benchmarks.run_statistics import Array, area_under_curve, improvement, interval, iqm, mean

Row = dict[str, Any]


def write_table(path: Path, rows: Sequence[Row]) -> None:
    """Write rows to a CSV file whose columns are the union of all rows' keys."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def cell_rows(results: Results) -> list[Row]:
    """Every planned cell with its settings, its result and the command that repeats it."""
    return [_cell_row(result) for result in results.cells]


def _cell_row(result: Result) -> Row:
    cell = result.cell
    what = {"suite": result.suite, "cell": cell.name, "variant": cell.variant, "hash": result.hash}
    command = shlex.join(["prefrl", *cell.arguments(Path("runs"))])
    given = {"task": cell.task, "algo": cell.algo, "teacher": cell.teacher, "ablation": cell.ablation or ""}
    asked = {"seed": cell.seed, "state": "finished" if result.value is not None else "left out"}
    return what | given | asked | {"reason": result.reason, "command": command} | (result.summary or {})


def task_rows(scores: Sequence[TaskScore]) -> list[Row]:
    """Return and normalised score of each variant on each task, with 95 % intervals over seeds."""
    return [_task_row(score) for score in scores]


def _task_row(score: TaskScore) -> Row:
    group = score.group
    column = score.scores[:, None]
    low, high = interval(mean, score.returns[:, None])
    score_low, score_high = interval(mean, column)
    steps, curves = group.curve
    return {
        "suite": group.suite,
        "task": group.task,
        "variant": group.variant,
        "labels": group.labels,
        "runs": len(score.seeds),
        "planned": group.planned,
        "returns": group.of,
        "random": score.random_baseline,
        "true reward": score.true_baseline,
        "return": float(score.returns.mean()),
        "return low": low,
        "return high": high,
        "score": float(mean(column)),
        "score low": score_low,
        "score high": score_high,
        **_success(group.success_rates),
        "area under curve": float(area_under_curve(steps, curves).mean()) if len(steps) else np.nan,
        "reward correlation": _mean_of_known(group.metric("reward_correlation")),
        "steps per second": _mean_of_known(group.metric("steps_per_second")),
    }


def _success(rates: Array) -> Row:
    """The mean success rate with its interval; empty for a task that tells of none."""
    known = rates[~np.isnan(rates)]
    if not known.size:
        return {}
    low, high = interval(mean, known[:, None])
    return {"success rate": float(known.mean()), "success rate low": low, "success rate high": high}


def aggregate_rows(found: Sequence[Aggregate]) -> list[Row]:
    """Aggregates of the normalised scores of each variant, with intervals and the paper's IQM."""
    return [_aggregate_row(each, [other for other in found if other.suite == each.suite]) for each in found]


def _aggregate_row(each: Aggregate, others: Sequence[Aggregate]) -> Row:
    row: Row = {"suite": each.suite, "variant": each.variant, "labels": each.labels}
    row |= {"tasks": len(each.tasks), "seeds": len(each.seeds)}
    for name, (value, (low, high)) in each.values().items():
        row |= {name: value, f"{name} low": low, f"{name} high": high}
    baseline = next((other for other in others if other.labels == 0), None)
    if baseline and each.labels and set(each.tasks) <= set(baseline.tasks):
        theirs = baseline.scores[:, [baseline.tasks.index(task) for task in each.tasks]]
        low, high = interval(improvement, each.scores, theirs)
        row |= {
            "improvement": float(improvement(each.scores, theirs)),
            "improvement low": low,
            "improvement high": high,
        }
    paper = paper_scores(each.tasks, each.labels)
    return row | {"the paper's IQM": None if paper is None else float(iqm(paper)), "partial": each.missing}


def curve_rows(found: Sequence[Group]) -> list[Row]:
    """Learning curves: mean true return with 95 % intervals over seeds, on a common grid of steps."""
    rows: list[Row] = []
    for group in found:
        steps, curves = group.curve
        if len(steps):
            columns = np.stack([steps, curves.mean(axis=0), *group.band], axis=1)
            who = {"suite": group.suite, "task": group.task, "variant": group.variant}
            names = ("step", "true return", "low", "high")
            rows += [who | dict(zip(names, map(float, values), strict=True)) for values in columns]
    return rows


def _mean_of_known(values: Array) -> float:
    return float("nan") if np.isnan(values).all() else float(np.nanmean(values))
