"""Figures as people read them: numbers in words, and the table that a README shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prefrl_benchmarks.report.analysis import Aggregate, TaskScore
from prefrl_benchmarks.report.tables import aggregate_rows


def figure_text(value: float | int | None) -> str:
    """A number for people: three digits that count, thousands set apart, a dash where there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 2
    return f"{value:,.{min(digits, 2)}f}".replace("-", "−")


def ranged(row: Mapping[str, Any], name: str) -> str:
    """A value with its interval."""
    value = figure_text(row.get(name))
    low, high = row.get(f"{name} low"), row.get(f"{name} high")
    known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    return f"{value} ({figure_text(low)} to {figure_text(high)})" if known else value


def summary_table(scores: Sequence[TaskScore], found: Sequence[Aggregate], returns: str) -> str:
    """One suite as a Markdown table: a task's returns with their normalised scores, then the scores' IQM.

    Args:
        scores: Of every variant on every task.
        found: The same over all tasks.
        returns: What the returns are of, in words.
    """
    cells = {(score.group.task, score.group.variant): score for score in scores}
    rows = [row for row in aggregate_rows(found) if row["labels"]]
    variants = [row["variant"] for row in rows]
    titles = [f"{name} labels" if name.isdigit() else name for name in variants]
    lines = [["task", "random policy", "true reward", *titles], ["---"] * (3 + len(rows))]
    for task, score in {score.group.task: score for score in scores}.items():
        reached = [_with_score(cells.get((task, variant))) for variant in variants]
        lines.append([task, figure_text(score.floor), figure_text(score.ceiling), *reached])
    lines.append(["**IQM of the scores**", "0", "1", *(f"**{ranged(row, 'IQM')}**" for row in rows)])
    lines.append(["the paper's", "0", "1", *(figure_text(row["the paper's IQM"]) for row in rows)])
    if any(row["partial"] for row in rows):
        lines.append(["so far over", "", "", *(row["partial"] or "all" for row in rows)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\nReturns: {returns}.\n"


def _with_score(score: TaskScore | None) -> str:
    if score is None:
        return "–"
    return f"{figure_text(float(score.returns.mean()))} ({figure_text(float(score.scores.mean()))})"
