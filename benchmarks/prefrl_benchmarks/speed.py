"""What reward learning costs: steps per second of preference training over those of Stable-Baselines3 alone.

Runs alternate (plain, sync, async, plain, ...), and ratios are taken within an alternation, so that a machine whose
speed drifts does not bias them. The agent's settings are the same in all.
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from prefrl.errors import PrefrlError
from prefrl.files import read_json, write_json
from prefrl.metrics import read_metrics
from prefrl.run import commit, version
from prefrl_benchmarks.cells import Cell, run_cell
from prefrl_benchmarks.results import last_words, machine

PLAIN, TRUE, IMITATION = "plain", "true", "imitation"
KINDS = {PLAIN: ("none", "sync"), TRUE: ("none", "sync"), "sync": ("oracle", "sync"), "async": ("oracle", "async")}
"""Teacher and mode of each kind of run: Stable-Baselines3 alone, and prefrl on the true reward and from labels."""
DEFAULTS = "defaults"
_MODULES = {name: f"prefrl_benchmarks.{name}" for name in ("plain", "split")} | {DEFAULTS: "prefrl_benchmarks.plain"}
"""What is not a `prefrl train`, by the module that runs it."""


def measure(
    task: str,
    *,
    algo: str,
    steps: int,
    labels: int,
    alternations: int,
    modes: tuple[str, ...] = ("sync", "async"),
    threads: int | None = None,
    against: str = PLAIN,
    imitation: Path | None = None,
    split: bool = True,
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
        against: What they are compared with: `plain`, or `true` for prefrl on the true reward.
        imitation: A Python that has the imitation library, which then takes part.
        split: Whether to add a run of each mode, and one on the true reward, whose parts are timed.

    Returns:
        The machine, each run's summary, for each mode its ratios to the steps per second of what it is compared with
        (over whole runs, and from the first round on, when the reward model is pretrained), and each part's share.
    """
    kinds = (against, *modes, *([IMITATION] if imitation else []))
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    splits = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(alternations):
            for kind, done in runs.items():
                cell = Cell(task, algo, *KINDS.get(kind, ("oracle", "sync")), seed, steps, labels)
                summary = _run(kind, cell, folder, threads, imitation)
                done.append(summary)
                print(f"{seed + 1}/{alternations} {kind}: {summary['steps_per_second']:.0f} steps/s", flush=True)
        for kind in (TRUE, *modes) if split else ():
            cell = Cell(task, algo, *KINDS[kind], alternations, steps, labels)
            splits[kind] = read_json(run_module("split", cell, folder, threads) / "split.json")
    compared = [kind for kind in runs if kind != against]
    ratios, steady = (
        {
            kind: [run[rate] / base[rate] for run, base in zip(runs[kind], runs[against], strict=True)]
            for kind in compared
        }
        for rate in ("steps_per_second", "steady_steps_per_second")
    )
    settings = {"task": task, "algo": algo, "steps": steps, "labels": labels, "threads": threads, "against": against}
    about = {"settings": settings, "machine": machine(), "version": version(), "commit": commit()}
    return about | {"ratios": ratios, "steady_ratios": steady, "split": splits, "runs": runs}


def _run(kind: str, cell: Cell, folder: Path, threads: int | None, imitation: Path | None) -> dict[str, Any]:
    """One run's summary, its steady rate with it."""
    if kind == IMITATION:
        assert imitation is not None
        return _imitation(cell, folder, threads, imitation)
    if kind == PLAIN:
        root = run_module(PLAIN, cell, folder, threads)
        summary: dict[str, Any] | None = read_json(root / "summary.json")
    else:
        root = folder / cell.name
        summary = run_cell(cell, folder, threads=threads)
    if summary is None:
        raise PrefrlError(f"a run failed: {last_words(folder, cell)}")
    return summary | {"steady_steps_per_second": steady_rate(root / "metrics.csv")}


def run_module(kind: str, cell: Cell, folder: Path, threads: int | None = None) -> Path:
    """Run a module on a cell's configuration, in a process of its own; the folder with what it wrote.

    Args:
        kind: `plain`, `defaults` for the same with Stable-Baselines3's own settings, or `split`.
        cell: The cell.
        folder: Where the folder is to be.
        threads: That it may use; None leaves that to it.
    """
    root = folder / f"{kind}-{cell.name}"
    root.mkdir()
    write_json(root / "settings.json", {"config": cell.config.to_json(), "defaults": kind == DEFAULTS})
    _call([sys.executable, "-m", _MODULES[kind], str(root / "settings.json"), str(root)], threads)
    return root


def _imitation(cell: Cell, folder: Path, threads: int | None, python: Path) -> dict[str, Any]:
    """The imitation library's preference comparisons, with the same agent and budget; it has no round to start from."""
    out = folder / f"imitation-{cell.name}.json"
    write_json(out, {"config": cell.config.to_json()})
    _call([str(python), str(Path(__file__).with_name("imitation_run.py")), str(out)], threads)
    summary = read_json(out)
    return summary | {"steady_steps_per_second": summary["steps_per_second"]}


def _call(command: list[str], threads: int | None) -> None:
    pinned = {} if threads is None else dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    done = subprocess.run(command, env=os.environ | pinned, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise PrefrlError(f"a run failed: {lines[-1] if lines else command}")


def steady_rate(metrics: Path) -> float:
    """Steps per second from a run's first round to its last; NaN where there is only one."""
    rows = [(row["step"] or 0, row["time_seconds"] or 0.0) for row in read_metrics(metrics)]
    (first, start), (last, end) = rows[0], rows[-1]
    return (last - first) / (end - start) if last > first else math.nan


def report_lines(result: dict[str, Any]) -> list[str]:
    """Ratios with their spread, beside the returns and correlations of the same runs; and where the time went."""
    lines = []
    for kind, runs in result["runs"].items():
        rates = [run["steps_per_second"] for run in runs]
        returns = [run["true_return_mean"] for run in runs if run["true_return_mean"] is not None]
        line = f"{kind:<9} median {statistics.median(rates):7.0f} steps/s"
        line += f", {max(run['peak_rss_mb'] for run in runs):.0f} MB"
        if returns:
            line += f", true return {statistics.mean(returns):.1f}"
        if kind in result["ratios"]:
            ratios = result["ratios"][kind]
            line += f", ratio median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
            line += f", from the first round on {statistics.median(result['steady_ratios'][kind]):.3f}"
            known = [run["reward_correlation"] for run in runs if run["reward_correlation"] is not None]
            line += f", reward correlation {statistics.mean(known):.2f}" if known else ""
        if theirs := [run["fitted"] / run["fitting_seconds"] for run in runs if "fitted" in run]:
            line += f", {statistics.median(theirs):.0f} comparisons fitted a second"
        lines.append(line)
    for mode, split in result["split"].items():
        shares = ", ".join(f"{part} {share:.1%}" for part, share in split["shares"].items())
        memory = f"{split['agent_rss_mb']:.0f} MB"
        if split["fitted_per_second"]:
            memory += f", {split['fitted_per_second']:.0f} comparisons fitted a second"
        if mode == "async":
            memory += (
                f"; the learner beside it {split['learner_share']:.0%} of a core, {split['learner_rss_mb']:.0f} MB"
            )
        lines.append(f"{mode}: {shares}; {memory}")
    return lines
