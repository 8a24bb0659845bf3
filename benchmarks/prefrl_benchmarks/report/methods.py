"""B-Pref's tasks: what was measured, next to what others have published for the same number of labels.

Published are the results of table 1 of PPE (NeurIPS 2025): from an oracle, means over five seeds of the last ten
evaluations. Those of the DeepMind Control Suite are returns, of at most 1000; those of Meta-World success rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from prefrl_benchmarks.report.analysis import Group, TaskScore, groups, task_scores
from prefrl_benchmarks.report.tables import Row
from prefrl_benchmarks.report.texts import number_text
from prefrl_benchmarks.results import Results
from prefrl_benchmarks.run_statistics import interval, mean


class Published(NamedTuple):
    """The published results of one task."""

    labels: int
    steps: int
    """Agent steps."""
    values: tuple[float, ...]
    """Return, or success rate, by method."""
    success: bool = False
    """Whether the values are success rates."""


METHODS = ("PEBBLE", "SURF", "RUNE", "QPA", "PPE")
PUBLISHED = {
    "walker-walk": Published(100, 500_000, (453, 661, 415, 796, 908)),
    "walker-run": Published(100, 1_000_000, (188, 238, 251, 417, 520)),
    "cheetah-run": Published(100, 1_000_000, (546, 557, 509, 579, 645)),
    "quadruped-walk": Published(1000, 1_000_000, (364, 554, 507, 622, 661)),
    "quadruped-run": Published(1000, 1_000_000, (319, 286, 232, 387, 431)),
    "drawer-open": Published(4000, 1_000_000, (0.20, 0.40, 0.67, 0.40, 0.80), success=True),
    "button-press": Published(2000, 1_000_000, (0.77, 0.79, 0.89, 0.72, 0.90), success=True),
    "sweep-into": Published(10_000, 2_000_000, (0.75, 0.58, 0.996, 0.81, 0.96), success=True),
    "window-open": Published(400, 500_000, (0.87, 0.87, 0.97, 0.90, 1.0), success=True),
}


def method_rows(results: Results, suite: str, random_baselines: Mapping[str, float]) -> list[Row]:
    """The result of each variant on each task of a suite that has published results; empty without such tasks.

    Args:
        results: The results.
        suite: Name of the suite.
        random_baselines: Mean return of a random policy for each task.
    """
    found = [group for group in groups(results) if group.suite == suite]
    known = [group for group in found if group.results and group.task in PUBLISHED]
    scores = {(each.group.task, each.group.variant): each for each in task_scores(known, random_baselines)[0]}
    return [_row(group, scores.get((group.task, group.variant))) for group in known]


def _row(group: Group, score: TaskScore | None) -> Row:
    published = PUBLISHED[group.task]
    values = group.success_rates if published.success else group.returns
    known = values[~np.isnan(values)]
    low, high = interval(mean, known[:, None]) if known.size else (np.nan, np.nan)
    return {
        **group.facts,
        "measure": "success rate" if published.success else "return",
        "value": float(known.mean()) if known.size else None,
        "value low": low,
        "value high": high,
        "score": None if score is None else float(score.scores.mean()),
        "published labels": published.labels,
        "published steps": published.steps,
        **dict(zip(METHODS, map(float, published.values), strict=True)),
    }


def method_table(rows: Sequence[Row]) -> list[list[str]]:
    """The rows as one table of texts with a line for each task, its header first."""
    cells = {(row["task"], row["variant"]): row for row in rows}
    learned = {row["variant"]: row["labels"] for row in rows}
    variants = sorted(learned, key=lambda variant: learned[variant] != 0)
    titles = ["true reward" if learned[variant] == 0 else variant for variant in variants]
    table = [["task", "measure", "agent steps", *titles, "published for", *METHODS]]
    for task, row in {row["task"]: row for row in rows}.items():
        measured = [_text(cells.get((task, variant))) for variant in variants]
        theirs = f"{row['published labels']:,} labels, {row['published steps'] / 1e6:g} M steps"
        methods = [number_text(row[method]) for method in METHODS]
        table.append([task, row["measure"], f"{row['steps']:,}", *measured, theirs, *methods])
    return table


def method_notes(rows: Sequence[Row]) -> list[str]:
    """What a reader of the table has to know, one sentence each."""
    notes = [
        "In square brackets: labels. In round brackets: the normalised score of the return, (return − random policy) / "
        "(true reward − random policy).",
        "Published results are those of table 1 of PPE (NeurIPS 2025): from an oracle, five seeds, the last ten "
        "evaluations; their spread is large, and their networks and steps may differ from those here.",
    ]
    if any(row["measure"] == "success rate" for row in rows):
        notes.append("Meta-World's environments differ between versions; compare their success rates with care.")
    return notes


def method_markdown(rows: Sequence[Row]) -> str:
    """The table with its notes in Markdown."""
    header, *lines = method_table(rows)
    table = "".join(f"| {' | '.join(line)} |\n" for line in [header, ["---"] * len(header), *lines])
    return f"{table}\n{' '.join(method_notes(rows))}\n"


def _text(row: Row | None) -> str:
    if row is None:
        return "–"
    text = number_text(row["value"])
    if row["labels"]:
        text += f" [{row['labels']:,}]"
    more = [number_text(row["score"])] if row["labels"] and row["score"] is not None else []
    more += [f"{row['runs']} of {row['planned']} runs"] if row["runs"] < row["planned"] else []
    return f"{text} ({'; '.join(more)})" if more else text
