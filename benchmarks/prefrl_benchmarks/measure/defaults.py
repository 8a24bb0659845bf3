"""Measure how soon a recipe's agent reaches the final true return of Stable-Baselines3's default settings."""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.find_task import find_task
from prefrl.printable import printable
from prefrl.runs.directory import commit, version
from prefrl.runs.metrics import Row, read_metrics
from prefrl_benchmarks.cells import Cell
from prefrl_benchmarks.measure.speed import DEFAULTS, PLAIN, check_count, run_module
from prefrl_benchmarks.results import machine


def measure(task: str, *, steps: int, alternations: int) -> dict[str, Any]:
    """Train with both settings alternately, using one seed per alternation.

    Args:
        task: Name of the task.
        steps: Agent steps of each run.
        alternations: Number of runs with each setting.

    Returns:
        The metrics of each run, and for each alternation the final return of the defaults, the seconds that the
        defaults and the recipe needed to reach it, and their ratio (None if the recipe did not reach it).

    Raises:
        UsageError: for tasks with image observations, or fewer than one alternation.
    """
    check_count("alternations", alternations)
    if find_task(task).images:
        raise UsageError(f"{task} has image observations, but the defaults of Stable-Baselines3 are for vectors")
    compared, runs = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(alternations):
            cell = Cell(task, teacher="none", mode="sync", seed=seed, steps=steps, labels=0)
            defaults, recipe = (
                read_metrics(run_module(kind, cell, Path(folder)) / "metrics.csv") for kind in (DEFAULTS, PLAIN)
            )
            compared.append(compare(defaults, recipe))
            runs.append({"defaults": _brief(defaults), "recipe": _brief(recipe)})
            print(printable(f"{seed + 1}/{alternations}: {compared[-1]}"), flush=True)
    about = {"task": task, "steps": steps, "machine": machine(), "version": version(), "commit": commit()}
    return about | {"compared": compared, "runs": runs}


def compare(defaults: list[Row], recipe: list[Row]) -> dict[str, float | None]:
    """The final return of the defaults, and the seconds until each of the two runs first reached it."""
    goal = defaults[-1]["true_return_mean"]
    if goal is None:
        raise PrefrlError(f"no episode ended within {defaults[-1]['step']} steps: use more steps")
    theirs, ours = (_reached(rows, goal) for rows in (defaults, recipe))
    assert theirs is not None  # it ended there
    ratio = None if ours is None else theirs / ours
    return {"return": goal, "defaults_seconds": theirs, "recipe_seconds": ours, "ratio": ratio}


def _reached(rows: list[Row], goal: float) -> float | None:
    means = ((row["true_return_mean"], row["time_seconds"]) for row in rows)
    return next((seconds for mean, seconds in means if mean is not None and mean >= goal), None)


def _brief(rows: list[Row]) -> list[Row]:
    return [{name: row[name] for name in ("step", "true_return_mean", "time_seconds")} for row in rows]


def report_lines(result: dict[str, Any]) -> list[str]:
    """The median ratio of times, and how many recipe runs reached the return."""
    ratios = [each["ratio"] for each in result["compared"] if each["ratio"] is not None]
    line = f"{result['task']}: as good as the defaults after {result['steps']} steps: {len(ratios)} of "
    line += f"{len(result['compared'])} runs"
    if ratios:
        line += f", {statistics.median(ratios):.2f} times as fast ({min(ratios):.2f} to {max(ratios):.2f})"
    return [line]
