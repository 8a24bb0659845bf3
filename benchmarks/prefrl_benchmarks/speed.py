"""What reward learning costs: steps per second of preference training over those of Stable-Baselines3 alone.

Runs alternate (plain, sync, async, plain, ...), and ratios are taken within an alternation, so that a machine whose
speed drifts does not bias them. The agent's settings are the same in all.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from prefrl.errors import PrefrlError, UsageError
from prefrl.files import read_json, write_json
from prefrl.metrics import read_metrics
from prefrl.run import commit, version
from prefrl.tasks import find_task
from prefrl_benchmarks.cells import Cell, environment, run_cell
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
    _check(task, algo, alternations, modes, imitation)
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
            kind: [_ratio(run[rate], base[rate]) for run, base in zip(runs[kind], runs[against], strict=True)]
            for kind in compared
        }
        for rate in ("steps_per_second", "steady_steps_per_second")
    )
    settings = {"task": task, "algo": algo, "steps": steps, "labels": labels, "threads": threads, "against": against}
    about = {"settings": settings, "machine": machine(), "version": version(), "commit": commit()}
    return about | {"ratios": ratios, "steady_ratios": steady, "split": splits, "runs": runs}


def _check(task: str, algo: str, alternations: int, modes: tuple[str, ...], imitation: Path | None) -> None:
    """Refuse now what would fail after hours.

    Raises:
        UsageError: saying why.
    """
    check_count("alternations", alternations)
    find_task(task)
    if len(set(modes)) < len(modes):
        raise UsageError("--modes names a mode twice")
    if imitation is None:
        return
    if algo != "ppo" or task != "cheetah":
        raise UsageError("--imitation takes part in --task cheetah --algo ppo alone")
    try:
        found = subprocess.run([str(imitation), "-c", "import imitation"], capture_output=True, check=False)
    except OSError:
        raise UsageError(f"--imitation {imitation}: there is no such Python") from None
    if found.returncode:
        raise UsageError(f"--imitation {imitation}: it has no imitation: {imitation} -m pip install imitation")


def check_count(name: str, count: int) -> None:
    """Raise UsageError for less than one."""
    if count < 1:
        raise UsageError(f"--{name} must be at least 1")


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
    """The imitation library's preference comparisons, with the same labels; they have no first round to count from."""
    out = folder / f"imitation-{cell.name}.json"
    write_json(out, {"config": cell.config.to_json()})
    _call([str(python), str(Path(__file__).with_name("imitation_run.py")), str(out)], threads)
    return read_json(out) | {"steady_steps_per_second": None}


def _call(command: list[str], threads: int | None) -> None:
    done = subprocess.run(command, env=environment(threads), capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise PrefrlError(f"a run failed: {lines[-1] if lines else command}")


def _ratio(rate: float | None, base: float | None) -> float | None:
    return rate / base if rate and base else None


def steady_rate(metrics: Path) -> float | None:
    """Steps per second from a run's first round to its last; None where there is only one."""
    rows = [(row["step"] or 0, row["time_seconds"] or 0.0) for row in read_metrics(metrics)]
    (first, start), (last, end) = rows[0], rows[-1]
    return (last - first) / (end - start) if last > first else None


def report_lines(result: dict[str, Any]) -> list[str]:
    """Ratios with their spread, beside the returns and correlations of the same runs; and where the time went."""
    return [_kind_line(kind, result) for kind in result["runs"]] + [
        _split_line(kind, split) for kind, split in result["split"].items()
    ]


def _kind_line(kind: str, result: dict[str, Any]) -> str:
    def known(name: str) -> list[float]:
        return [run[name] for run in result["runs"][kind] if run.get(name) is not None]

    line = f"{kind:<9} median {statistics.median(known('steps_per_second')):7.0f} steps/s"
    line += f", {max(known('peak_rss_mb')):.0f} MB"
    if returns := known("true_return_mean"):
        line += f", true return {statistics.mean(returns):.1f}"
    if ratios := result["ratios"].get(kind):
        line += f", ratio median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
        if steady := [ratio for ratio in result["steady_ratios"][kind] if ratio is not None]:
            line += f", from the first round on {statistics.median(steady):.3f}"
    if correlations := known("reward_correlation"):
        line += f", reward correlation {statistics.mean(correlations):.2f}"
    if fitted := known("fitted_per_second"):
        line += f", {statistics.median(fitted):.0f} comparisons fitted a second"
    return line


def _split_line(kind: str, split: dict[str, Any]) -> str:
    line = f"{kind}: " + ", ".join(f"{part} {share:.1%}" for part, share in split["shares"].items())
    line += f"; {split['agent_rss_mb']:.0f} MB"
    if split["learner_share"] is not None:
        line += f"; the learner beside it {split['learner_share']:.0%} of a core, {split['learner_rss_mb']:.0f} MB"
    if split["fitted_per_second"]:
        line += f"; {split['fitted_per_second']:.0f} comparisons fitted a second"
    return line
