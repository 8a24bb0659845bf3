"""Format numbers for people, and the Markdown table that a README shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from prefrl_benchmarks.report.analysis import Aggregate, TaskScore
from prefrl_benchmarks.report.tables import aggregate_rows


def number_text(value: float | int | None) -> str:
    """Format a number with three significant digits and thousands separators; a dash if there is none."""
    if value is None or not math.isfinite(value):
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 2
    return f"{value:,.{min(digits, 2)}f}".replace("-", "−")


def ranged(row: Mapping[str, Any], name: str) -> str:
    """Format a value with its interval."""
    value = number_text(row.get(name))
    low, high = row.get(f"{name} low"), row.get(f"{name} high")
    known = low is not None and high is not None and math.isfinite(low) and math.isfinite(high)
    return f"{value} ({number_text(low)} to {number_text(high)})" if known else value


def summary_table(scores: Sequence[TaskScore], found: Sequence[Aggregate], returns: str) -> str:
    """One suite as a Markdown table: returns with normalised scores for each task, then the IQM of the scores.

    Args:
        scores: Scores of every variant on every task.
        found: Aggregates over all tasks.
        returns: Description of the returns.
    """
    cells = {(score.group.task, score.group.variant): score for score in scores}
    rows = [row for row in aggregate_rows(found) if row["labels"]]
    variants = [row["variant"] for row in rows]
    titles = [f"{name} labels" if name.isdigit() else name for name in variants]
    lines = [["task", "random policy", "true reward", *titles], ["---"] * (3 + len(rows))]
    for task, score in {score.group.task: score for score in scores}.items():
        reached = [_with_score(cells.get((task, variant))) for variant in variants]
        lines.append([task, number_text(score.random_baseline), number_text(score.true_baseline), *reached])
    lines.append(["**IQM of the scores**", "0", "1", *(f"**{ranged(row, 'IQM')}**" for row in rows)])
    papers = [row["the paper's IQM"] for row in rows]
    if any(value is not None for value in papers):
        lines.append(["the paper's", "0", "1", *map(number_text, papers)])
    if any(row["partial"] for row in rows):
        lines.append(["so far over", "", "", *(row["partial"] or "all" for row in rows)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + f"\nReturns: {returns}.\n"


def _with_score(score: TaskScore | None) -> str:
    if score is None:
        return "–"
    return f"{number_text(float(score.returns.mean()))} ({number_text(float(score.scores.mean()))})"
