"""The measurements of `prefrl bench gpu`: speed, profile and training of a task, each within a given time.

Runs have the settings of whole runs and are stopped when their share of the part's time is up, so that a part takes as
long on any machine.
"""

from __future__ import annotations

import itertools
import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from prefrl_envs.atari import GAMES

from prefrl.config.schema import Device
from prefrl.registry import Registry
from prefrl.runs.directory import is_finished
from prefrl.runs.metrics import Row, read_metrics
from prefrl.storage.files import read_json
from prefrl_benchmarks.cells import Cell, start_cell
from prefrl_benchmarks.measure.speed import (
    KINDS,
    PLAIN,
    PROFILE,
    TRUE,
    Timed,
    prepare,
    prepare_module,
    profile_line,
)
from prefrl_benchmarks.measure.timebox import run_for
from prefrl_benchmarks.measure.utilisation import Read, Sampler
from prefrl_benchmarks.report.paper import POINTS

GAME_STEPS, GAME_LABELS = 6_000_000, 5500
"""Budget of games by default. The labels are the paper's."""
_PROFILED = 0.7
"""Share of a profile's time in which it trains; the rest is for its start and end."""
_GRACE = 0.1
"""Share of the time of training in which the run saves a checkpoint and ends."""
_CURVE_POINTS, _PRINTED_POINTS = 200, 10
_METRICS = "metrics.csv"
_CURVE = ("step", "labels", "true_return_mean", "reward_correlation", "time_seconds")
"""Columns of a learning curve."""


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    task: str
    seconds: float
    """Time of the part."""
    device: Device
    alternations: int
    """Number of runs of each kind in a measurement of speed."""
    steps: int | None
    """Agent steps of each run; None for the default."""
    labels: int | None
    """Labels of each preference run; None for the default."""
    settings: dict[str, Any]
    """Settings that override the recipe."""
    runs: Path
    """Folder for the runs that are kept."""
    read: Read
    """Reads the GPU."""

    @property
    def game(self) -> bool:
        """Whether the task is one of the Atari games."""
        return self.task in GAMES

    def cell(self, kind: str, seed: int = 0) -> Cell:
        """A run of a kind in `speed.KINDS`."""
        steps = self.steps or (GAME_STEPS if self.game else None)
        labels = self.labels or (GAME_LABELS if self.game else None)
        teacher, mode = KINDS[kind]
        cell = Cell(self.task, teacher=teacher, mode=mode, seed=seed, steps=steps, labels=labels, device=self.device)
        cell = replace(cell, settings=self.settings)
        return replace(cell, steps=cell.config.steps, labels=cell.config.queries.labels)


def measure_speed(plan: Plan) -> dict[str, Any]:
    """Train with plain Stable-Baselines3 and from labels, in turns.

    Returns:
        The figures of each run, and the ratios of steps per second of each mode to those of plain runs.
    """
    kinds = (PLAIN, "sync", "async")
    share = plan.seconds / (plan.alternations * len(kinds))
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory() as folder:
        for seed, kind in itertools.product(range(plan.alternations), kinds):
            timed = prepare(kind, plan.cell(kind, seed), Path(folder))
            with Sampler(plan.read) as sampler:
                run_for(timed, share)
            runs[kind].append(_figures(timed.root, sampler))
    bases = [run["steps_per_second"] for run in runs[PLAIN]]
    rates = {kind: [run["steps_per_second"] for run in runs[kind]] for kind in kinds[1:]}
    ratios = {
        kind: [rate / base for rate, base in zip(own, bases, strict=True) if rate and base]
        for kind, own in rates.items()
    }
    return {"ratios": ratios, "runs": runs}


def _figures(root: Path, sampler: Sampler, after: int = 0) -> dict[str, Any]:
    """The figures of a run from its first round after a step to its last; None where there are fewer than two."""
    rows = [row for row in _rows(root) if (row["step"] or 0) > after]
    ends = [(row["step"] or 0, row["time_seconds"] or 0.0) for row in rows] or [(after, 0.0)]
    steps, seconds = ends[-1][0] - ends[0][0], ends[-1][1] - ends[0][1]
    last = (root / _METRICS).stat().st_mtime if rows else 0.0
    figures = {"steps": ends[-1][0], "steps_per_second": steps / seconds if seconds else None}
    return figures | {"first_round_seconds": ends[0][1]} | sampler.figures(last - seconds, last)


def _rows(root: Path) -> list[Row]:
    return read_metrics(root / _METRICS) if (root / _METRICS).exists() else []


def _speed_lines(result: dict[str, Any]) -> list[str]:
    return [_speed_line(kind, runs, result["ratios"].get(kind)) for kind, runs in result["runs"].items()]


def _speed_line(kind: str, runs: Sequence[dict[str, Any]], ratios: Sequence[float] | None) -> str:
    def known(name: str) -> list[float]:
        return [run[name] for run in runs if run[name] is not None]

    if not (rates := known("steps_per_second")):
        return f"{kind}: fewer than two rounds in the time given"
    line = f"{kind}: median {statistics.median(rates):.0f} steps/s, first round after "
    line += f"{statistics.median(known('first_round_seconds')):.0f} s"
    if ratios:
        line += f", ratio median {statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    busy, memory = known("gpu_utilisation"), known("gpu_peak_mb")
    line += f", GPU {statistics.mean(busy):.0f} % busy" if busy else ", GPU utilisation unknown"
    return line + (f", {max(memory):.0f} MB of its memory in use" if memory else "")


def measure_profile(plan: Plan) -> dict[str, Any]:
    """Profile the agent's process on the true reward and from labels; a profile is None if it did not end in time."""
    kinds = (TRUE, "sync", "async")
    share, profiles = plan.seconds / len(kinds), {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            timed = prepare_module(PROFILE, plan.cell(kind), Path(folder), seconds=_PROFILED * share)
            ended = run_for(timed, share)
            profiles[kind] = read_json(timed.root / "profile.json") if ended else None
    return {"profiles": profiles}


def _profile_lines(result: dict[str, Any]) -> list[str]:
    return [
        profile_line(kind, profile) if profile else f"{kind}: did not end in the time given"
        for kind, profile in result["profiles"].items()
    ]


def measure_training(plan: Plan) -> dict[str, Any]:
    """Start or resume an asynchronous run from labels, and stop it in time. A resumed run keeps its settings.

    Returns:
        The run's folder, the figures of this time, the learning curve, and the paper's return where it is known.

    Raises:
        PrefrlError: if the run fails.
    """
    cell = plan.cell("async")
    root = plan.runs / cell.name
    plan.runs.mkdir(parents=True, exist_ok=True)
    before = max((int(row["step"] or 0) for row in _rows(root)), default=0)
    with Sampler(plan.read) as sampler:
        if not is_finished(root):
            run_for(Timed(partial(start_cell, cell, plan.runs), root), plan.seconds, _GRACE * plan.seconds)
    curve = [{name: row[name] for name in _CURVE} for row in _thinned(_rows(root), _CURVE_POINTS)]
    told = {"run": str(root), "of_steps": cell.steps, "paper": _paper_return(cell), "curve": curve}
    return told | _figures(root, sampler, before)


def _paper_return(cell: Cell) -> float | None:
    """The paper's return for the nearest number of labels."""
    known = POINTS[cell.task].labels if cell.task in POINTS else {}
    nearest = min(known, key=lambda labels: abs(labels - (cell.labels or 0)), default=None)
    return None if nearest is None else known[nearest]


def _thinned(rows: list[Any], points: int) -> list[Any]:
    """At most this many rows, evenly spaced, the last among them."""
    return rows[:: -max(1, math.ceil(len(rows) / points))][::-1]


def _training_lines(result: dict[str, Any]) -> list[str]:
    curve = [row for row in result["curve"] if row["true_return_mean"] is not None]
    lines = [
        f"step {row['step']:>10,}: {row['labels']} labels, true return {row['true_return_mean']:.1f}"
        for row in _thinned(curve, _PRINTED_POINTS)
    ]
    line = f"{result['run']}: {result['steps']:,} of {result['of_steps']:,} steps"
    if result["paper"] is not None:
        line += f"; the paper's return is {result['paper']}"
    return [*lines, line]


Measure = Callable[[Plan], dict[str, Any]]
Lines = Callable[[dict[str, Any]], list[str]]
MEASUREMENTS: Registry[tuple[Measure, Lines]] = Registry(
    "measurement",
    {
        "speed": (measure_speed, _speed_lines),
        "profile": (measure_profile, _profile_lines),
        "train": (measure_training, _training_lines),
    },
)
"""Each measurement, and the lines that report it."""
