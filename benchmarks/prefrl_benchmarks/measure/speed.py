"""Measure the cost of reward learning: steps per second of preference training relative to Stable-Baselines3 alone.

Runs alternate (plain, sync, async, plain, ...), and ratios are taken within an alternation, so that slow drifts of the
machine's speed do not bias them. If the speed changes from minute to minute, the runs of an alternation can be
interleaved in slices of a second. The settings of the agent are the same in all runs.
"""

from __future__ import annotations

import itertools
import math
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from prefrl_envs.atari import GAMES

from prefrl.config.schema import Mode
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.find_task import find_task
from prefrl.printable import printable
from prefrl.registry import ALGORITHMS
from prefrl.runs.directory import commit, version
from prefrl.runs.metrics import read_metrics
from prefrl.storage.files import read_json, write_json
from prefrl_benchmarks.cells import Cell, environment, start_cell
from prefrl_benchmarks.measure import off_policy
from prefrl_benchmarks.measure.interleave import Span, Start, run_interleaved, within
from prefrl_benchmarks.results import last_words, machine

PLAIN, WRAPPERS, TRUE, IMITATION = "plain", "wrappers", "true", "imitation"
KINDS: dict[str, tuple[str, Mode]] = {
    PLAIN: ("none", "sync"),
    WRAPPERS: ("none", "sync"),
    TRUE: ("none", "sync"),
    "sync": ("oracle", "sync"),
    "async": ("oracle", "async"),
}
"""Teacher and mode of each kind of run: Stable-Baselines3 alone, the same with its own wrappers of games, prefrl on the
true reward, prefrl from labels."""
DEFAULTS, PROFILE = "defaults", "profile"
_MODULES = {
    PLAIN: "prefrl_benchmarks.measure.plain",
    WRAPPERS: "prefrl_benchmarks.measure.plain",
    DEFAULTS: "prefrl_benchmarks.measure.plain",
    PROFILE: "prefrl_benchmarks.measure.profile",
}
"""Modules that run the kinds other than `prefrl train`."""
_OWN = {"task", "env_id", "algo", "mode", "teacher", "seed", "steps", "queries.labels", "evaluation"}
_OWN |= {"kl", "demonstrations", "judge", "reward_model", "learner", "feedback"}
"""Settings, and groups of them, that are the same in all runs, or make their kind."""
_UNEVALUATED = {"evaluation.episodes": 0}
"""Settings of timed runs, which measure training only."""


class Timed(NamedTuple):
    """A process to be timed."""

    start: Start
    root: Path
    """Its folder; the log is next to it."""

    @property
    def last_words(self) -> str:
        """The last line of its log."""
        return last_words(_log(self.root))


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
    also: tuple[str, ...] = (),
    imitation: Path | None = None,
    profile: bool = True,
    interleave: float | None = None,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """Run the alternations.

    Args:
        task: Name of the task.
        algo: Algorithm of the agent.
        steps: Agent steps of each run.
        labels: Labels of each preference run.
        alternations: Number of runs of each kind.
        modes: Modes of the preference runs.
        threads: Number of threads of each process; None does not limit it.
        against: What to compare with: `plain` (Stable-Baselines3), `wrappers` (the same with its own wrappers of
            games), or `true` (prefrl on the true reward).
        also: Others of these that are compared with it.
        imitation: A Python interpreter with the imitation library, to include it.
        profile: Whether to profile one additional run of each mode and one on the true reward.
        interleave: Seconds after which one run of an alternation is paused and the next continues; None runs each to
            completion.
        settings: Settings that override the recipe in all runs.

    Returns:
        The machine, the summary of each run, the ratios of steps per second of each mode (over whole runs, and from the
        first round on, when the reward model is pretrained), and the profiles.

    Raises:
        UsageError: for arguments with which nothing can be measured.
        PrefrlError: if a run fails.
    """
    _refuse_own(settings)
    made = partial(_cell, task, algo, steps=steps, labels=labels, settings={**_UNEVALUATED, **settings})
    _check(made, alternations, (against, *also, *modes), imitation, interleave)
    kinds = (against, *also, *modes, *([IMITATION] if imitation else []))
    runs: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
    profiles = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed, group in itertools.product(
            range(alternations), [kinds] if interleave else [(kind,) for kind in kinds]
        ):
            timed = []
            for kind in group:
                cell = made(kind, seed)
                if len(group) > 1:  # paused runs keep ageing: keep the number of checkpoints the same
                    seconds = cell.config.checkpoint_seconds * len(group)
                    cell = replace(cell, settings=cell.settings | {"checkpoint_seconds": seconds})
                timed.append(prepare(kind, cell, folder, threads, imitation))
            for kind, summary in zip(group, _run(timed, interleave), strict=True):
                runs[kind].append(summary)
                rate = summary["steps_per_second"]
                print(printable(f"{seed + 1}/{alternations} {kind}: {rate:.0f} steps/s"), flush=True)
        for kind in (TRUE, *modes) if profile else ():
            cell = made(kind, alternations)
            profiles[kind] = read_json(run_module(PROFILE, cell, folder, threads) / "profile.json")
    compared = [kind for kind in runs if kind != against]
    ratios, steady = (
        {
            kind: [_ratio(run[rate], base[rate]) for run, base in zip(runs[kind], runs[against], strict=True)]
            for kind in compared
        }
        for rate in ("steps_per_second", "steady_steps_per_second")
    )
    asked = {"task": task, "algo": algo, "steps": steps, "labels": labels, "threads": threads, "against": against}
    asked |= {"turns": interleave, "set": dict(settings)}
    about = {"settings": asked, "machine": machine(), "version": version(), "commit": commit()}
    return about | {"ratios": ratios, "steady_ratios": steady, "split": profiles, "runs": runs}


def _cell(task: str, algo: str, kind: str, seed: int, **budget: Any) -> Cell:
    teacher, mode = KINDS.get(kind, ("oracle", "sync"))
    return Cell(task, teacher=teacher, algo=algo, seed=seed, mode=mode, **budget)


def _refuse_own(settings: Mapping[str, Any]) -> None:
    """Raise UsageError for a setting that the kinds of runs and the other arguments make."""
    for name in settings:
        if name in _OWN or name.partition(".")[0] in _OWN:
            raise UsageError(f"--set {name}: bench speed sets it, so that its runs can be compared")


def _check(
    made: Callable[[str, int], Cell],
    alternations: int,
    kinds: tuple[str, ...],
    imitation: Path | None,
    interleave: float | None,
) -> None:
    """Check the arguments before hours of work.

    Raises:
        UsageError: for an argument that would fail later.
    """
    check_count("alternations", alternations)
    asked = made(PLAIN, 0)
    task, algo = asked.task, asked.algo
    find_task(task)
    if twice := [kind for kind, count in Counter(kinds).items() if count > 1]:
        raise UsageError(f"--against, --also and --modes name {twice[0]} twice")
    if WRAPPERS in kinds and task not in GAMES:
        raise UsageError(f"Stable-Baselines3 has wrappers for games, not for {task}: {', '.join(GAMES)}")
    ALGORITHMS.check(algo)
    if ALGORITHMS[algo].family.replays and {PLAIN, WRAPPERS} & set(kinds):
        if algo not in off_policy.ALGORITHMS or WRAPPERS in kinds:
            raise UsageError(f"--algo {algo} is measured against prefrl on the true reward only: add --against true")
        off_policy.gradient_steps(asked.config)
    for kind in {*kinds, TRUE}:
        _ = made(kind, 0).config  # which refuses settings, and labels, that cannot be
    if interleave is not None and not interleave > 0:
        raise UsageError("--turns must be more than 0 seconds")
    if imitation is None:
        return
    if algo != "ppo" or task != "cheetah":
        raise UsageError("--imitation works with --task cheetah --algo ppo only")
    try:
        found = subprocess.run([str(imitation), "-c", "import imitation"], capture_output=True, check=False)
    except OSError:
        raise UsageError(f"--imitation {imitation}: there is no such Python") from None
    if found.returncode:
        raise UsageError(f"--imitation {imitation}: it has no imitation: {imitation} -m pip install imitation")


def check_count(name: str, count: int) -> None:
    """Raise UsageError if a count is less than one."""
    if count < 1:
        raise UsageError(f"--{name} must be at least 1")


def prepare(kind: str, cell: Cell, folder: Path, threads: int | None = None, imitation: Path | None = None) -> Timed:
    """Prepare a run of the given kind: one of `KINDS`, or `IMITATION`. Other arguments as for `measure`."""
    if kind in (PLAIN, WRAPPERS):
        return prepare_module(kind, cell, folder, threads)
    if kind == IMITATION:
        assert imitation is not None
        return _imitation(cell, folder, threads, imitation)
    return Timed(partial(start_cell, cell, folder, threads=threads), folder / cell.name)


def run_module(kind: str, cell: Cell, folder: Path, threads: int | None = None) -> Path:
    """Run a module on the configuration of a cell in its own process.

    Args:
        kind: `plain`, `wrappers` or `defaults` for the same with Stable-Baselines3's own wrappers or settings, or
            `profile`.
        cell: The cell.
        folder: Parent of the output folder.
        threads: Number of threads; None does not limit it.

    Returns:
        The output folder.
    """
    timed = prepare_module(kind, cell, folder, threads)
    _run_to_the_end([timed], None)
    return timed.root


def prepare_module(
    kind: str, cell: Cell, folder: Path, threads: int | None = None, seconds: float | None = None
) -> Timed:
    """Prepare a module as `run_module` runs it; `seconds` limits a profile, see `profile.measure`."""
    root = folder / f"{kind}-{cell.name}"
    root.mkdir()
    settings = {"config": cell.config.to_json(), "kind": kind, "seconds": seconds}
    write_json(root / "settings.json", settings)
    return _timed([sys.executable, "-m", _MODULES[kind], str(root / "settings.json"), str(root)], root, threads)


def _imitation(cell: Cell, folder: Path, threads: int | None, python: Path) -> Timed:
    """Prepare a run of the imitation library with the same settings."""
    root = folder / f"{IMITATION}-{cell.name}"
    root.mkdir()
    write_json(root / "settings.json", {"config": cell.config.to_json()})
    script = Path(__file__).with_name("imitation_run.py")
    return _timed([str(python), str(script), str(root / "settings.json"), str(root / "summary.json")], root, threads)


def _timed(command: list[str], root: Path, threads: int | None) -> Timed:
    return Timed(partial(_start, command, _log(root), threads), root)


def _start(command: list[str], log: Path, threads: int | None) -> subprocess.Popen[bytes]:
    with log.open("ab") as said:
        return subprocess.Popen(
            command, env=environment(threads), stdin=subprocess.PIPE, stdout=said, stderr=said, process_group=0
        )


def _log(root: Path) -> Path:
    """The log of the process that writes to this folder."""
    return root.with_name(f"{root.name}.log")


def _run_to_the_end(timed: Sequence[Timed], seconds: float | None) -> list[list[Span]]:
    """The slices in which each process ran.

    Raises:
        PrefrlError: if one fails.
    """
    ended = run_interleaved([each.start for each in timed], seconds)
    for each, (code, _) in zip(timed, ended, strict=True):
        if code:
            raise PrefrlError(f"a run failed: {each.last_words}")
    return [spans for _, spans in ended]


def _run(timed: Sequence[Timed], seconds: float | None) -> list[dict[str, Any]]:
    """Run to completion. Returns the summaries, with rates over the time in which each run was not paused."""
    spans = _run_to_the_end(timed, seconds)
    return [_summary(each.root, own) for each, own in zip(timed, spans, strict=True)]


def _summary(root: Path, spans: Sequence[Span]) -> dict[str, Any]:
    """The summary of a run, with its rates. The summary is written when training ends."""
    summary: dict[str, Any] = read_json(root / "summary.json")
    metrics = root / "metrics.csv"
    end = (root / "summary.json").stat().st_mtime
    start = end - summary["wall_seconds"]
    rates = {"steps_per_second": summary["steps"] / within(spans, start, end)}
    rates["steady_steps_per_second"] = steady_rate(metrics, start, spans) if metrics.exists() else None
    return summary | rates


def _ratio(rate: float | None, base: float | None) -> float | None:
    return rate / base if rate and base else None


def steady_rate(metrics: Path, start: float = 0.0, spans: Sequence[Span] = ((0.0, math.inf),)) -> float | None:
    """Steps per second from a run's first round to its last; None if there is only one.

    Args:
        metrics: Path of `metrics.csv`.
        start: Start time of the run.
        spans: Slices in which the run was not paused.
    """
    rows = [(row["step"] or 0, start + (row["time_seconds"] or 0.0)) for row in read_metrics(metrics)]
    (first, begin), (last, end) = rows[0], rows[-1]
    return (last - first) / within(spans, begin, end) if last > first else None


def report_lines(result: dict[str, Any]) -> list[str]:
    """Ratios with their range, returns and correlations of the same runs, and the profiles."""
    return [_kind_line(kind, result) for kind in result["runs"]] + [
        profile_line(kind, profile) for kind, profile in result["split"].items()
    ]


def _kind_line(kind: str, result: dict[str, Any]) -> str:
    def known(name: str) -> list[float]:
        return [run[name] for run in result["runs"][kind] if run.get(name) is not None]

    line = f"{kind:<9} median {statistics.median(known('steps_per_second')):7.0f} steps/s"
    if memory := known("peak_rss_mb"):
        line += f", {max(memory):.0f} MB"
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


def profile_line(kind: str, profile: dict[str, Any]) -> str:
    """One line of a profile: its shares, memory and learner."""
    line = f"{kind}: " + ", ".join(f"{part} {share:.1%}" for part, share in profile["shares"].items())
    line += f"; {profile['agent_rss_mb']:.0f} MB"
    if profile["learner_share"] is not None:
        line += f"; the learner {profile['learner_share']:.0%} of a core, {profile['learner_rss_mb']:.0f} MB"
    if profile["fitted_per_second"]:
        line += f"; {profile['fitted_per_second']:.0f} comparisons fitted a second"
    return line
