"""What reward learning costs: steps per second of preference training over training on the true reward.

Runs alternate (true reward, sync, async, true reward, ...), and ratios are taken within an alternation, so that a
machine whose speed drifts does not bias them. The agent's settings are the same in all.
"""

from __future__ import annotations

import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

from prefrl.errors import PrefrlError
from prefrl.metrics import read_metrics
from prefrl.run import commit, version
from prefrl_benchmarks.cells import Cell, run_cell
from prefrl_benchmarks.results import last_words, machine

KINDS = {"true": ("none", "sync"), "sync": ("oracle", "sync"), "async": ("oracle", "async")}
"""Teacher and mode of each kind of run."""


def measure(
    task: str,
    *,
    algo: str,
    steps: int,
    labels: int,
    alternations: int,
    modes: tuple[str, ...] = ("sync", "async"),
    threads: int | None = None,
) -> dict[str, Any]:
    """Run the alternations.

    Args:
        task: A task.
        algo: The agent's algorithm.
        steps: Agent steps of each run.
        labels: Labels of each preference run.
        alternations: Runs of each kind.
        modes: Of the preference runs.
        threads: Of each process; None leaves that to the run.

    Returns:
        The machine, each run's summary, and for each mode its ratios to the true reward's steps per second: over whole
        runs, and from the first round on, when the reward model is pretrained.
    """
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in ("true", *modes)}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(alternations):
            for kind, done in runs.items():
                cell = Cell(task, algo, *KINDS[kind], seed, steps, labels)
                summary = run_cell(cell, Path(folder), threads=threads)
                if summary is None:
                    raise PrefrlError(f"a run failed: {last_words(Path(folder), cell)}")
                summary["steady_steps_per_second"] = steady_rate(Path(folder) / cell.name / "metrics.csv")
                done.append(summary)
                print(f"{seed + 1}/{alternations} {kind}: {summary['steps_per_second']:.0f} steps/s", flush=True)
    ratios, steady = (
        {mode: [run[rate] / true[rate] for run, true in zip(runs[mode], runs["true"], strict=True)] for mode in modes}
        for rate in ("steps_per_second", "steady_steps_per_second")
    )
    settings = {"task": task, "algo": algo, "steps": steps, "labels": labels, "threads": threads}
    return {
        "settings": settings,
        "machine": machine(),
        "version": version(),
        "commit": commit(),
        "ratios": ratios,
        "steady_ratios": steady,
        "runs": runs,
    }


def steady_rate(metrics: Path) -> float:
    """Steps per second from a run's first round to its last; NaN where there is only one."""
    rows = [(row["step"] or 0, row["time_seconds"] or 0.0) for row in read_metrics(metrics)]
    (first, start), (last, end) = rows[0], rows[-1]
    return (last - first) / (end - start) if last > first else math.nan


def report_lines(result: dict[str, Any]) -> list[str]:
    """Ratios with their spread, beside the returns and correlations of the same runs."""
    lines = []
    for kind, runs in result["runs"].items():
        rates = [run["steps_per_second"] for run in runs]
        returns = [run["true_return_mean"] for run in runs if run["true_return_mean"] is not None]
        line = f"{kind:<6} median {statistics.median(rates):7.0f} steps/s"
        if returns:
            line += f", true return {statistics.mean(returns):.1f}"
        if kind in result["ratios"]:
            ratios = result["ratios"][kind]
            line += f", ratio median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            line += f", from the first round on {statistics.median(result['steady_ratios'][kind]):.3f}"
            known = [run["reward_correlation"] for run in runs if run["reward_correlation"] is not None]
            line += f", reward correlation {statistics.mean(known):.2f}" if known else ""
        lines.append(line)
    return lines
