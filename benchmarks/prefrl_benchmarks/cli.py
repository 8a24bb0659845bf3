"""Run suites of experiments and report them; measure speed.

The commands of `prefrl bench`, found through the entry point group `prefrl.commands`, which shows the line above in the
help. Every slow import happens inside the command that needs it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from prefrl.commands.arguments import Trust
from prefrl.config.request import parse_settings
from prefrl.errors import unknown
from prefrl.printable import command, complain, say
from prefrl_benchmarks.gpu_command import gpu
from prefrl_benchmarks.measure.anatomy.command import anatomy
from prefrl_benchmarks.requirements import need_libraries, need_writable
from prefrl_benchmarks.result_commands import compare, publish, report

if TYPE_CHECKING:
    from prefrl_benchmarks.studies.study import Study

bench = tyro.extras.SubcommandApp()


@bench.command
def run(
    suite: Positional[str],
    /,
    *,
    out: Path,
    jobs: int = 1,
    executor: str = "process",
    address: str | None = None,
    slurm: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE ...")] = (),
    trust: Trust = (),
) -> int:
    """Run a suite of experiments or a study. Finished runs are skipped and unfinished ones resumed.

    Args:
        suite: smoke, quick, mujoco, mujoco-offpolicy, atari, atari-pong, atari-10m, ablations, teachers, queries,
            bpref, bpref-small, pebble-parts, your own TOML file, or a study, e.g. graph.
        out: Folder for the runs.
        jobs: Number of runs at a time; each uses one core.
        executor: Where to run: `process` (this machine), `ray` (a Ray cluster) or `submitit` (Slurm).
        address: Address of the Ray cluster's head, HOST:PORT (default: RAY_ADDRESS, or a cluster on this machine only).
        slurm: Parameters of Slurm jobs by submitit's names: partition=NAME time=MINUTES mem=8GB gpus_per_node=1 ...
        trust: A module that the tasks of a TOML file may import.
    """
    from prefrl_benchmarks.executors.registry import find_executor
    from prefrl_benchmarks.runner import run_suite
    from prefrl_benchmarks.studies.folder import known_studies
    from prefrl_benchmarks.suites import find_suite, known_suites

    if not (suite.endswith(".toml") or suite in (names := [*known_suites(), *known_studies()])):
        raise unknown("suite or study", suite, names)
    study = _begun(suite, out) if suite in known_studies() else None
    found = study.suite if study else find_suite(suite, trust)
    if found is None:
        assert study
        _measure(study, out)
        say([f"{out}: measured; create a report with: {command('bench', 'report', out)}"])
        return 0
    where = find_executor(executor, address=address, slurm=parse_settings("slurm", slurm))
    outcome = run_suite(found, out, jobs, executor=where)
    for name, reason in outcome.failed.items():
        complain(f"prefrl: {name} failed: {reason} (see {out / name}.log)")
    if outcome.stopped:
        print("prefrl: stopped; run the same command to continue", file=sys.stderr)
    if outcome.failed or outcome.stopped:
        return 1
    if study and study.has_experiment:
        _measure(study, out)
    say([f"{out}: {len(outcome.finished)} cells finished; create a report with: {command('bench', 'report', out)}"])
    return 0


def _begun(name: str, out: Path) -> Study:
    """Begin a study in a folder. Only studies need the extra `bench` to run."""
    need_libraries()
    from prefrl_benchmarks.studies.command import begin, find_study

    begin(study := find_study(name), out)
    return study


def _measure(study: Study, out: Path) -> None:
    from prefrl_benchmarks.studies.command import measure

    measure(study, out)


for _command in (report, publish, compare):
    bench.command(_command)


@bench.command
def speed(
    *,
    task: str = "cheetah",
    algo: str = "ppo",
    steps: int = 100_000,
    labels: int = 700,
    alternations: int = 5,
    modes: tuple[Literal["sync", "async"], ...] = ("sync", "async"),
    threads: int | None = None,
    against: Literal["plain", "wrappers", "true"] = "plain",
    also: tuple[Literal["plain", "wrappers", "true"], ...] = (),
    imitation: Path | None = None,
    split: bool = True,
    turns: float | None = None,
    settings: Annotated[tuple[str, ...], arg(name="set", metavar="KEY=VALUE ...")] = (),
    out: Path | None = None,
) -> None:
    """Measure the speed of preference training relative to plain Stable-Baselines3, and profile it.

    Args:
        task: Name of a task.
        algo: ppo, a2c, trpo or sac; tqc, crossq, dqn or qrdqn with `--against true`.
        steps: Agent steps of each run.
        labels: Labels of each preference run.
        alternations: Number of runs of each kind; ratios are taken within an alternation.
        modes: Modes of the preference runs.
        threads: Number of threads of each process (default: not limited).
        against: What to compare with: plain (Stable-Baselines3 alone, on prefrl's environments), wrappers (the same
            with its own wrappers of a game), or true (prefrl on the true reward).
        also: Others of these to compare with it, for example true.
        imitation: A Python interpreter with the imitation library (pip install imitation), to measure it as well.
        split: Profile one additional run of each mode and one on the true reward.
        turns: Length in seconds, for example 1, of the slices in which the runs of an alternation are interleaved. Use
            it on machines whose speed changes from minute to minute.
        settings: Single settings that override the recipe in all runs, e.g. agent.n_envs=32.
        out: JSON file for the results.
    """
    from prefrl.config.request import parse_settings
    from prefrl_benchmarks.measure.speed import measure, report_lines

    options: dict[str, Any] = {
        "threads": threads,
        "against": against,
        "also": also,
        "imitation": imitation,
        "profile": split,
    }
    options |= {"interleave": turns, "settings": parse_settings("set", settings)}
    _tell(
        partial(
            measure, task, algo=algo, steps=steps, labels=labels, alternations=alternations, modes=modes, **options
        ),
        report_lines,
        out,
    )


@bench.command
def defaults(*, task: str = "cheetah", steps: int = 200_000, alternations: int = 3, out: Path | None = None) -> None:
    """Compare a recipe with Stable-Baselines3's defaults on the true reward: time to reach the same return.

    Args:
        task: Name of a task.
        steps: Agent steps of each run.
        alternations: Number of runs with each setting.
        out: JSON file for the results.
    """
    from prefrl_benchmarks.measure.defaults import measure, report_lines

    _tell(partial(measure, task, steps=steps, alternations=alternations), report_lines, out)


@bench.command
def growth(
    *,
    task: str = "cheetah",
    labels: tuple[int, ...] = (100, 500, 2000, 10_000),
    members: tuple[int, ...] = (1, 3, 10),
    out: Path | None = None,
) -> None:
    """Measure how the cost of a label grows with the number of labels and the size of the ensemble.

    Args:
        task: Name of a task with vector observations.
        labels: Numbers of labels at which to measure, ascending.
        members: Ensemble sizes, each measured at the first number of labels.
        out: JSON file for the results.
    """
    from prefrl_benchmarks.measure.growth import measure, report_lines

    _tell(partial(measure, task, labels=labels, members=members), report_lines, out)


@bench.command
def jobs(suite: Positional[str] = "smoke", /, *, at_once: int = 2, out: Path | None = None, trust: Trust = ()) -> None:
    """Measure the time saved by running cells in parallel, and the overhead of the runner.

    Args:
        suite: As for `prefrl bench run`.
        at_once: Number of runs at a time, compared with one.
        out: JSON file for the results.
        trust: As for `prefrl bench run`.
    """
    from prefrl_benchmarks.measure.jobs import measure, report_lines

    _tell(partial(measure, suite, jobs=at_once, trusted=trust), report_lines, out)


@bench.command
def people(
    *,
    task: str = "cheetah",
    steps: int = 600_000,
    labels: int = 35,
    per_minute: float = 15,
    alternations: int = 3,
    out: Path | None = None,
) -> None:
    """Compare the agent's speed with a (scripted) person and with an oracle.

    Args:
        task: Name of a task.
        steps: Agent steps of each run.
        labels: Labels of each run.
        per_minute: Labels that the person gives per minute.
        alternations: Number of runs of each kind; ratios are taken within an alternation.
        out: JSON file for the results.
    """
    from prefrl_benchmarks.measure.people import measure, report_lines

    _tell(
        partial(measure, task, steps=steps, labels=labels, per_minute=per_minute, alternations=alternations),
        report_lines,
        out,
    )


@bench.command
def viewer(*, keys: int = 100, starts: int = 5, seconds: float = 10, out: Path | None = None) -> None:
    """Measure the viewer on a virtual screen: response time, CPU use and start-up time.

    Args:
        keys: Number of answers to time.
        starts: Number of starts to time.
        seconds: Duration of the CPU measurement.
        out: JSON file for the results.
    """
    from prefrl_benchmarks.measure.viewer import measure, report_lines

    _tell(partial(measure, keys=keys, starts=starts, seconds=seconds), report_lines, out)


@bench.command
def engines(*, game: str = "pong", envs: int = 8, steps: int = 16_000, alternations: int = 5) -> None:
    """Compare the speed of a game on the C++ engine, on prefrl's in Python, and with Stable-Baselines3's wrappers.

    Args:
        game: Name of a game.
        envs: Number of parallel environments.
        steps: Agent steps of each timing.
        alternations: Number of timings of each; ratios are taken within an alternation.
    """
    from prefrl_benchmarks.measure.engines import measure, report_lines

    say(report_lines(measure(game, envs=envs, steps=steps, alternations=alternations)))


bench.command(anatomy)
bench.command(gpu)


@bench.command
def learning(
    *,
    out: Path,
    tasks: tuple[str, ...] = ("cheetah", "hopper", "reacher"),
    algo: str = "ppo",
    modes: tuple[Literal["sync", "async"], ...] = ("sync", "async"),
    seeds: int = 5,
    steps: int = 300_000,
    labels: int = 700,
    jobs: int = 2,
) -> int:
    """Train from labels and on the true reward with the same seeds, and print normalised scores.

    Args:
        out: Folder for the runs; finished runs are skipped and unfinished ones resumed.
        tasks: Names of tasks.
        algo: ppo, a2c or trpo.
        modes: Modes of the preference runs.
        seeds: Number of seeds (0, 1, ...) of each variant.
        steps: Agent steps of each run.
        labels: Labels of each preference run.
        jobs: Number of runs at a time.
    """
    need_libraries()
    from prefrl_benchmarks.learning import TRUE, report
    from prefrl_benchmarks.suites import Suite, Variant

    variants = (TRUE, *(Variant(mode, mode=mode) for mode in modes))
    return report(Suite(f"learning-{algo}", tasks, tuple(range(seeds)), steps, variants, labels, algo=algo), out, jobs)


@bench.command
def ablations(
    *,
    out: Path,
    tasks: tuple[str, ...] = ("cheetah", "hopper"),
    algo: str = "ppo",
    seeds: int = 3,
    steps: int = 300_000,
    labels: int = 700,
    jobs: int = 2,
) -> int:
    """Train with each of the paper's ablations, in sync mode, and print scores next to those of the full method.

    Args:
        out: Folder for the runs; finished runs are skipped and unfinished ones resumed.
        tasks: Names of tasks.
        algo: ppo, a2c or trpo.
        seeds: Number of seeds (0, 1, ...) of each variant.
        steps: Agent steps of each run.
        labels: Labels of each run.
        jobs: Number of runs at a time.
    """
    from prefrl.recipes.ablations import PAPER_ABLATIONS

    need_libraries()
    from prefrl_benchmarks.learning import TRUE, report
    from prefrl_benchmarks.suites import Suite, Variant

    variants = (TRUE, Variant("full"), *(Variant(name, ablation=name) for name in PAPER_ABLATIONS))
    return report(Suite(f"ablations-{algo}", tasks, tuple(range(seeds)), steps, variants, labels, algo=algo), out, jobs)


def _tell(
    measure: Callable[[], dict[str, Any]], lines: Callable[[dict[str, Any]], list[str]], out: Path | None
) -> None:
    """Measure, print a summary, and write all results to `out` if given."""
    need_writable(out)
    result = measure()
    say(lines(result))
    if out:
        out.write_text(json.dumps(result, indent=2) + "\n")
