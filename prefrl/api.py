"""What the command line does, from Python."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefrl.bookkeeping.records import Summary
from prefrl.config import RunConfig, replace
from prefrl.config.request import Budget, Request
from prefrl.config.schema import Device, Mode
from prefrl.errors import UsageError
from prefrl.experience.user_envs import UserEnv, check_json, user_env_maker, restore_user_env, register_user_env
from prefrl.feedback.archive import LabelArchive
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.finishing import finish_asking, is_closed
from prefrl.feedback.transfer import add_labels, check_task
from prefrl.machine.devices import choose_device
from prefrl.machine.processes import leave_unguarded_import
from prefrl.memory_check import check_clips, check_memory
from prefrl.recipes import resolve
from prefrl.runs.control import Control
from prefrl.runs.directory import RunDirectory, read_summary
from prefrl.runs.progress import Progress
from prefrl.training import train_run


@dataclass(frozen=True)
class TrainedRun:
    """A run that was trained."""

    root: Path
    """The run directory."""
    summary: Summary | None
    """The content of `summary.json`; None if training was stopped, and can be resumed."""


def train(
    task: str | UserEnv,
    *,
    teacher: str = "oracle",
    algo: str = "ppo",
    labels: int | None = None,
    labels_from: str | Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    mode: Mode = "async",
    device: Device = "auto",
    out: str | Path | None = None,
    ablation: str | None = None,
    recipe: str = "default",
    settings: dict[str, Any] | None = None,
    env_kwargs: dict[str, Any] | None = None,
    report: Callable[[Progress], None] | None = None,
) -> TrainedRun:
    """Train an agent from comparisons of its clips.

    A script that calls this in asynchronous mode must guard its main part with `if __name__ == "__main__":`, as for
    every Python program that starts processes.

    Args:
        task: A task's name (`prefrl tasks`), any Gymnasium id, or an environment of your own: a class, a function that
            makes one, or one of which copies are made. A run whose environment has no name is resumed, played and
            loaded by giving it again (`env=`).
        teacher: `oracle`, `human`, one of B-Pref's, several of them joined by `+`, or `none` to train on the true
            reward.
        algo: `ppo`, `a2c` or `trpo`.
        labels: Comparisons in all; default 700, or those of `labels_from`.
        labels_from: A file of labels (`prefrl labels export`): they are learned from first, and none of them is asked
            for again.
        steps: Agent steps in all; default: the recipe's.
        seed: Of everything random.
        mode: `async`: the reward learner has a process of its own; `sync`: it alternates with the agent, and the same
            seed gives the same figures.
        device: Where the reward model computes: `auto`, `cpu` or `cuda`.
        out: The run directory; default under `runs/`.
        ablation: One of the paper's ablations.
        recipe: `default` or `paper`.
        settings: Dotted settings over those of the recipe, e.g. {"reward.members": 5}.
        env_kwargs: Arguments of the environment's constructor, as JSON values.
        report: Called with the run's progress at each round.

    Returns:
        The run directory and its summary.

    Raises:
        UsageError: for arguments that cannot be used.
        PrefrlError: for what else a user can cause; the run can be resumed.
    """
    leave_unguarded_import()
    request = Request(
        task if isinstance(task, str) else register_user_env(task),
        teacher=teacher,
        algo=algo,
        labels=labels,
        labels_from=Path(labels_from) if labels_from else None,
        steps=steps,
        seed=seed,
        mode=mode,
        device=device,
        out=Path(out) if out else None,
        ablation=ablation,
        recipe=recipe,
        settings=settings or {},
        env_kwargs=env_kwargs or {},
    )
    run = create_run(request)
    return TrainedRun(run.root, train_run(run, Control(report=report or (lambda progress: None))))


def create_run(request: Request, archive: LabelArchive | None = None) -> RunDirectory:
    """Make the directory of a run that is not trained yet.

    Args:
        request: What is asked for.
        archive: What `request.labels_from` holds, where that was read before.

    Raises:
        UsageError: for arguments that cannot be used.
        PrefrlError: for what else a user can cause.
    """
    request = dataclasses.replace(request, env_kwargs=check_json(request.env_kwargs))
    if request.labels_from and archive is None:
        archive = read_archive(request.labels_from.expanduser())
    if archive and request.labels is None:
        request = dataclasses.replace(request, labels=archive.answered)
    config = resolve(request, gpu=choose_device(str(request.chosen["device"])) == "cuda")
    if config.asks_people:
        user_env_maker(config.env_id)
    check_clips(config)
    check_memory(config)
    root = request.out.expanduser() if request.out else default_root(config)
    if archive is None:
        return RunDirectory.create(root, config)
    _check_labels(archive, config)
    return RunDirectory.create(root, config, lambda run: add_labels(run, archive))


def _check_labels(archive: LabelArchive, config: RunConfig) -> None:
    """Raise UsageError unless a run can start from these labels."""
    check_task(archive, config)
    if not archive.answered:
        raise UsageError(f"{archive.path} holds no labels to learn from: all are incomparable")
    if config.queries.labels < archive.answered:
        asked = config.queries.labels
        raise UsageError(f"--labels {asked} is less than the {archive.answered} labels that {archive.path} holds")


def resume(
    root: str | Path,
    *,
    labels: int | None = None,
    steps: int | None = None,
    control: Control | None = None,
    trust: Sequence[str] = (),
    env: UserEnv | None = None,
) -> TrainedRun:
    """Go on with a run where it stopped; a finished one stays as it is unless its budget is raised.

    Args:
        root: The run directory.
        labels: A higher label budget.
        steps: More steps in all.
        control: Stops it, and is told how it goes.
        trust: Modules that a run which is not one's own may import to make its environment.
        env: The environment, for a run that was begun with one from Python.

    Raises:
        UsageError: if the folder is no run, is in use, or the new budget is lower than the old.
        PrefrlError: for what else a user can cause.
    """
    leave_unguarded_import()
    run = RunDirectory.open(Path(root).expanduser()).admit(trust)
    restore_user_env(run.config, env)
    reopened = labels is not None and is_closed(run)
    config = replace(run.config, Budget(labels=labels, steps=steps).chosen).validate()
    if config.queries.labels < run.config.queries.labels or config.steps < run.config.steps:
        have = f"{root} has --labels {run.config.queries.labels} --steps {run.config.steps}"
        raise UsageError(f"--labels and --steps can only be raised when a run is resumed: {have}")
    if config != run.config or reopened:
        run = RunDirectory(run.root, config)
        lock = run.lock()
        if reopened:
            finish_asking(run.root, closed=False)
        if run.finished:
            run.summary.rename(run.root / f"summary-{read_summary(run.root)['steps']}.json")
        run.write_config()
        lock.release()
    elif run.finished:
        return TrainedRun(run.root, read_summary(run.root))
    return TrainedRun(run.root, train_run(run, control))


def default_root(config: RunConfig) -> Path:
    """A new folder under `runs/`."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    return Path("runs") / f"{config.task.replace('/', '-')}-{config.algo}-{config.teacher}-s{config.seed}-{now}"
