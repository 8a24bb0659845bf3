"""Run suites of experiments and report them; measure speed.

The commands of `prefrl bench`, found through the entry point group `prefrl.commands`, which shows the line above in the
help. Every slow import happens inside the command that needs it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg

from prefrl.commands.arguments import Trust, parse_settings
from prefrl.errors import PrefrlError, UsageError
from prefrl.printable import command, complain, say

bench = tyro.extras.SubcommandApp()


@bench.command
def run(
    suite: Positional[str],
    /,
    *,
    out: Path,
    jobs: int = 1,
    executor: Literal["process", "ray", "submitit"] = "process",
    address: str | None = None,
    slurm: Annotated[tuple[str, ...], arg(metavar="KEY=VALUE ...")] = (),
    trust: Trust = (),
) -> int:
    """Run a suite of experiments; what is finished is skipped, what is not is resumed.

    Args:
        suite: smoke, quick, mujoco, atari, ablations, teachers, queries, or a TOML file of your own.
        out: A folder for the runs.
        jobs: Runs at a time; each uses one core.
        executor: Where they run: in processes of this machine, on a Ray cluster, or on Slurm by way of submitit.
        address: The Ray cluster's head, HOST:PORT; by default as RAY_ADDRESS says, or a cluster of this machine alone.
        slurm: What to ask Slurm for, as submitit names it: partition=NAME time=MINUTES mem=8GB gpus_per_node=1 ...
        trust: A module that a TOML file names, to import it for its environments.
    """
    from prefrl_benchmarks.executors.local import find_executor
    from prefrl_benchmarks.runner import run_suite
    from prefrl_benchmarks.suites import find_suite

    found = find_suite(suite, trust)
    where = find_executor(executor, address=address, slurm=parse_settings("slurm", slurm))
    outcome = run_suite(found, out, jobs, executor=where)
    for name, reason in outcome.failed.items():
        complain(f"prefrl: {name} failed: {reason} (see {out / name}.log)")
    if outcome.stopped:
        print("prefrl: stopped; the same command goes on", file=sys.stderr)
    if outcome.failed or outcome.stopped:
        return 1
    say([f"{out}: {len(outcome.finished)} cells finished; report them with: {command('bench', 'report', out)}"])
    return 0


@bench.command
def report(folders: Positional[tuple[Path, ...]], /, *, out: Path | None = None, trust: Trust = ()) -> None:
    """Report suites' results: tables, figures, and one page to be read offline.

    Args:
        folders: The --out of one `prefrl bench run` or of several.
        out: A folder for the report; default: `report` in the folder reported, where it is a single one.
        trust: A module that results which are not your own may import to make an environment.
    """
    _need_libraries()
    _trust(trust)
    if out is None and len(folders) > 1:
        raise UsageError("--out is needed where several folders are reported")
    _admit(folders)
    out = out or Path(*folders, "report")
    from prefrl_benchmarks.report.page import write_report

    found = write_report(folders, out)
    for line in found.problems:
        complain(f"prefrl: {line}")
    say([f"{out / 'report.html'}: {len(found.results.finished)} of {len(found.results.cells)} cells"])


@bench.command
def publish(folder: Positional[Path], out: Positional[Path], /, *, trust: Trust = ()) -> None:
    """Copy a suite's figures without labels, clips and weights; `report` and `compare` read the copy like the whole.

    Args:
        folder: The --out of a `prefrl bench run`.
        out: Where to copy them, say into a repository.
        trust: A module that results which are not your own may import to make an environment.
    """
    _trust(trust)
    _admit([folder])
    from prefrl_benchmarks.publish import publish

    results = publish(folder, out)
    for line in results.problems:
        complain(f"prefrl: {line}")
    say([f"{out}: {len(results.finished)} of {len(results.cells)} cells"])


@bench.command
def compare(old: Positional[Path], new: Positional[Path], /, *, trust: Trust = ()) -> None:
    """Tell what got better or worse between two suites' results, with intervals.

    Args:
        old: The --out of a `prefrl bench run`.
        new: That of another.
        trust: A module that results which are not your own may import to make an environment.
    """
    _need_libraries()
    _trust(trust)
    _admit([old, new])
    from prefrl_benchmarks.report.compare import compare_folders

    say(compare_folders(old, new))


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
    against: Literal["plain", "true"] = "plain",
    imitation: Path | None = None,
    split: bool = True,
    turns: float | None = None,
    out: Path | None = None,
) -> None:
    """Compare preference training with plain Stable-Baselines3, in alternation, and say where its time goes.

    Args:
        task: A task.
        algo: ppo, a2c or trpo.
        steps: Agent steps of each run.
        labels: Labels of each preference run.
        alternations: Runs of each kind; ratios are taken within an alternation.
        modes: Of the preference runs.
        threads: That each process may use; by default it decides itself.
        against: What to compare with: Stable-Baselines3 alone, or prefrl on the true reward.
        imitation: A Python that has the imitation library (pip install imitation), to run it too.
        split: Whether to add a run of each mode, and one on the true reward, whose parts are timed.
        turns: Seconds, say 1: the runs of an alternation then take turns, each stopped while another has its own, so
            that all meet the same machine; for one whose speed changes from minute to minute.
        out: Where to write the figures as JSON.
    """
    from prefrl_benchmarks.measure.speed import measure, report_lines

    options: dict[str, Any] = {"threads": threads, "against": against, "imitation": imitation, "profile": split}
    options["interleave"] = turns
    _tell(
        partial(
            measure, task, algo=algo, steps=steps, labels=labels, alternations=alternations, modes=modes, **options
        ),
        report_lines,
        out,
    )


@bench.command
def defaults(*, task: str = "cheetah", steps: int = 200_000, alternations: int = 3, out: Path | None = None) -> None:
    """Compare a recipe's agent with Stable-Baselines3's defaults, on the true reward: time to the same return.

    Args:
        task: A task.
        steps: Agent steps of each run.
        alternations: Runs of each.
        out: Where to write the figures as JSON.
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
    """Measure how the cost of a label grows with the labels there are, and with the ensemble's members.

    Args:
        task: Whose clips and recipe; its observations must be vectors.
        labels: How many there are where a figure is taken, ascending.
        members: Sizes of the ensemble, each measured at the first of the labels.
        out: Where to write the figures as JSON.
    """
    from prefrl_benchmarks.measure.growth import measure, report_lines

    _tell(partial(measure, task, labels=labels, members=members), report_lines, out)


@bench.command
def jobs(suite: Positional[str] = "smoke", /, *, at_once: int = 2, out: Path | None = None, trust: Trust = ()) -> None:
    """Measure what running a suite's cells side by side saves, and what the runner itself costs.

    Args:
        suite: As for `prefrl bench run`.
        at_once: Runs at a time, compared with one.
        out: Where to write the figures as JSON.
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
    """Compare the agent's speed when a person is asked (a scripted one) with that when an oracle is.

    Args:
        task: A task.
        steps: Agent steps of each run.
        labels: Labels of each run.
        per_minute: How many labels a minute the person gives.
        alternations: Runs of each kind; ratios are taken within an alternation.
        out: Where to write the figures as JSON.
    """
    from prefrl_benchmarks.measure.people import measure, report_lines

    _tell(
        partial(measure, task, steps=steps, labels=labels, per_minute=per_minute, alternations=alternations),
        report_lines,
        out,
    )


@bench.command
def viewer(*, keys: int = 100, starts: int = 5, seconds: float = 10, out: Path | None = None) -> None:
    """Measure the viewer on a screen of its own: from key to next pair, its share of a core, its start.

    Args:
        keys: Answers.
        starts: Starts.
        seconds: Over which the share of a core is measured.
        out: Where to write the figures as JSON.
    """
    from prefrl_benchmarks.measure.viewer import measure, report_lines

    _tell(partial(measure, keys=keys, starts=starts, seconds=seconds), report_lines, out)


@bench.command
def engines(*, game: str = "pong", envs: int = 8, steps: int = 16_000, alternations: int = 5) -> None:
    """Compare how fast a game steps on the C++ engine and with Stable-Baselines3's Python wrappers.

    Args:
        game: A game.
        envs: Environments stepped together.
        steps: Agent steps of each timing.
        alternations: Timings of each; ratios are taken within an alternation.
    """
    from prefrl_benchmarks.measure.engines import measure, report_lines

    say(report_lines(measure(game, envs=envs, steps=steps, alternations=alternations)))


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
    """Train from labels and from the true reward with the same seeds, and print normalised scores.

    Args:
        out: A folder for the runs; runs that are finished there are not repeated, unfinished ones are resumed.
        tasks: Tasks.
        algo: ppo, a2c or trpo.
        modes: Of the preference runs.
        seeds: Seeds 0, 1, ... of each.
        steps: Agent steps of each run.
        labels: Labels of each preference run.
        jobs: Runs at a time.
    """
    _need_libraries()
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
    """Train with each of the paper's ablations, in sync mode, and print scores beside the full method's.

    Args:
        out: A folder for the runs; runs that are finished there are not repeated, unfinished ones are resumed.
        tasks: Tasks.
        algo: ppo, a2c or trpo.
        seeds: Seeds 0, 1, ... of each.
        steps: Agent steps of each run.
        labels: Labels of each run.
        jobs: Runs at a time.
    """
    from prefrl.recipes import ABLATIONS

    _need_libraries()
    from prefrl_benchmarks.learning import TRUE, report
    from prefrl_benchmarks.suites import Suite, Variant

    variants = (TRUE, Variant("full"), *(Variant(name, ablation=name) for name in ABLATIONS))
    return report(Suite(f"ablations-{algo}", tasks, tuple(range(seeds)), steps, variants, labels, algo=algo), out, jobs)


def _tell(
    measure: Callable[[], dict[str, Any]], lines: Callable[[dict[str, Any]], list[str]], out: Path | None
) -> None:
    """Measure, print the figures in brief, and write all of them where they are wanted."""
    if out and (out.is_dir() or not os.access(out.parent, os.W_OK)):
        raise UsageError(f"--out {out} cannot be written")
    result = measure()
    say(lines(result))
    if out:
        out.write_text(json.dumps(result, indent=2) + "\n")


def _trust(modules: tuple[str, ...]) -> None:
    """Import what the person names, which results may then make environments of."""
    from prefrl.safety.trust import import_named

    for module in modules:
        import_named(module)


def _admit(folders: Sequence[Path]) -> None:
    """Refuse results that cannot be read, before what is slow to import."""
    from prefrl_benchmarks.results import read_manifest

    for folder in folders:
        read_manifest(folder)


def _need_libraries() -> None:
    """Refuse in one line where the extra `bench` is not installed."""
    for module in ("jinja2", "matplotlib", "scipy"):
        if importlib.util.find_spec(module) is None:
            raise PrefrlError(f"this needs {module}: pip install 'prefrl[bench]'")
