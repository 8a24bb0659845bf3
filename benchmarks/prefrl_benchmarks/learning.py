"""Compare training from labels with training on the true reward, with the same seeds, as a table.

`prefrl bench report` can report the same runs.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from prefrl.printable import say
from prefrl_benchmarks.random_baseline import random_returns
from prefrl_benchmarks.report.analysis import TaskScore, aggregates, groups, task_scores
from prefrl_benchmarks.results import Results, read_results
from prefrl_benchmarks.runner import run_suite
from prefrl_benchmarks.suites import Suite, Variant

TRUE = Variant("true", teacher="none")
"""The baseline that trains on the task's own reward."""


def score_lines(results: Results, random_baselines: Mapping[str, float]) -> list[str]:
    """A table of returns and scores for each task, and of the interquartile mean of each variant.

    Args:
        results: Results of one suite.
        random_baselines: Mean return of a random policy for each task.
    """
    found = groups(results)
    scores, problems = task_scores(found, random_baselines)
    width = 2 + max(len(group.variant) for group in found)
    titles = ("runs", "random", "true", "labels", "score", "corr", "steps/s")
    lines = [f"{'task':<16}{'':<{width}}{{:>5}}{{:>9}}{{:>9}}{{:>9}}{{:>7}}{{:>6}}{{:>9}}".format(*titles)]
    for whole in (each for each in aggregates(scores, found) if each.labels):
        lines += [_line(score, width) for score in scores if score.group.variant == whole.variant]
        partial = f"  partial: {whole.missing}" if whole.missing else ""
        value, (low, high) = whole.values()["IQM"]
        lines.append(f"{'IQM':<16}{whole.variant:<{width}}{'':>32}{value:>7.2f} ({low:.2f} to {high:.2f}){partial}")
    return [*lines, f"returns: {results.returns_text(found[0].suite)}", *results.problems, *problems]


def write_csv(results: Results, path: Path) -> None:
    """Write the summaries of the finished runs to a CSV file, one row per run."""
    rows = [
        {"variant": result.cell.variant, "ablation": result.cell.ablation or "", **(result.summary or {})}
        for result in results.finished
    ]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def report(suite: Suite, out: Path, jobs: int) -> int:
    """Run a suite, `jobs` runs at a time, and print the results. Returns the exit status."""
    outcome = run_suite(suite.validate(), out, jobs)
    results = read_results([out])
    path = out / f"{suite.name}.csv"
    write_csv(results, path)
    say([*score_lines(results, random_returns(suite.tasks, [out])), f"all results: {path}"])
    return 1 if outcome.failed or outcome.stopped else 0


def _line(score: TaskScore, width: int) -> str:
    group = score.group
    known = group.metric("reward_correlation")
    correlation = np.nan if np.isnan(known).all() else np.nanmean(known)
    return (
        f"{group.task:<16}{group.variant:<{width}}{len(score.seeds):>5}{score.random_baseline:>9.1f}{score.true_baseline:>9.1f}"
        f"{group.returns.mean():>9.1f}{score.scores.mean():>7.2f}{correlation:>6.2f}"
        f"{np.median(group.metric('steps_per_second')):>9.0f}"
    )
