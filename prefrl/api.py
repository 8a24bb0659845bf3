"""The Python API: `train` and `resume`."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from prefrl.bookkeeping.records import Summary
from prefrl.config import RunConfig, replace
from prefrl.config.migrations import stamped
from prefrl.config.request import Budget, Request
from prefrl.config.schema import Device, Mode
from prefrl.errors import UsageError
from prefrl.experience.environments import check_actions
from prefrl.experience.user_envs import UserEnv, check_json, register_user_env, restore_user_env, user_env_maker
from prefrl.feedback.archive import LabelArchive
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.feasibility import check_feedback
from prefrl.feedback.finishing import check_queue, finish_asking, is_closed
from prefrl.feedback.transfer import add_labels, check_task
from prefrl.machine.devices import choose_device
from prefrl.machine.processes import leave_unguarded_import
from prefrl.memory_check import check_clips, check_memory
from prefrl.recipes import resolve
from prefrl.reward.judging import judge_for
from prefrl.runs.control import Control
from prefrl.runs.directory import RunDirectory, read_summary
from prefrl.runs.progress import Progress
from prefrl.storage.files import save_tree
from prefrl.trained.borrowing import borrow_reference, borrow_reward, reward_settings
from prefrl.trained.demonstration_sources import demonstrations_for
from prefrl.training import train_run


@dataclass(frozen=True)
class TrainedRun:
    """The result of `train` or `resume`."""

    root: Path
    """The run directory."""
    summary: Summary | None
    """The content of `summary.json`, or None if training was stopped; it can then be resumed."""


def train(
    task: str | UserEnv,
    *,
    teacher: str = "oracle",
    algo: str = "ppo",
    feedback: str = "comparison",
    learner: Literal["reward-model", "imitation"] = "reward-model",
    labels: int | None = None,
    labels_from: str | Path | None = None,
    minutes: float | None = None,
    reward: str | Path | None = None,
    reference: str | Path | None = None,
    kl: float | None = None,
    kl_target: float | None = None,
    demonstrations: str | Path | None = None,
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
    """Train an agent from feedback on its clips, by default comparisons.

    In asynchronous mode, a calling script must guard its main part with `if __name__ == "__main__":`, like every Python
    program that starts processes.

    Args:
        task: The name of a task (`prefrl tasks`), a Gymnasium id, or your own environment: a class, a function that
            returns an environment, or an environment that can be copied. To resume, play or load a run with your own
            environment, pass the environment again (`env=`).
        teacher: `oracle`, `human`, one of B-Pref's teachers, several of them joined by `+`, `judge:RUN` or
            `judge:FILE` for a learned reward model (`judge:RUN+human` passes on to people what it is unsure of), a
            teacher of another package, or `none` to train on the true reward.
        algo: `ppo`, `a2c` or `trpo`; `sac` for continuous actions; `dqn` or `qrdqn` for discrete ones.
        feedback: The kind of query: `comparison`, `rating`, `marks`, or another feedback kind that is installed.
            Several are joined by commas, with or without shares: `comparison,rating` or `comparison:1,rating:3`.
        learner: What learns from labels: `reward-model`, whose reward the agent maximises, or `imitation`: the agent
            itself clones its best-rated clips, without a reward model.
        labels: Total number of labels; default: 700, or the number of labels in `labels_from`.
        labels_from: A file from `prefrl labels export`. Training starts from its labels, and its pairs are not asked
            again.
        minutes: Label budget in a labeller's minutes, in place of `labels`: as many labels as people give in that time.
        reward: A run of the same task whose reward model, frozen, is the agent's reward; nobody is asked for labels.
            The new run keeps a copy of it.
        reference: A run of the same task, finished or not, whose policy is the reference of a KL penalty. The new run
            keeps a copy of it and records the divergence from it.
        kl: Coefficient of the KL penalty, in units of the reward per nat; 0 records the divergence alone.
        kl_target: KL divergence from the reference per step, in nats, that an adaptive coefficient holds.
        demonstrations: Demonstrations that the agent imitates first, and that automatic labels prefer to its first
            clips: the directory of a trained run, a file from `prefrl demonstrate`, or `minari:NAME`.
        steps: Total number of agent steps; default: set by the recipe.
        seed: Seed of all random numbers.
        mode: `async`: the reward model is trained in a separate process; `sync`: training alternates between agent and
            reward model, and the same seed gives the same metrics.
        device: Device of the reward model: `auto`, `cpu` or `cuda`.
        out: The run directory; default: a new folder in `runs/`.
        ablation: One of the paper's ablations, or `horizon-one`.
        recipe: `default` or `paper`.
        settings: Settings that override the recipe, e.g. {"reward.members": 5}.
        env_kwargs: Arguments of the environment's constructor; values must be JSON.
        report: Called with the run's progress at each round.

    Returns:
        The run directory and its summary.

    Raises:
        UsageError: if an argument is invalid.
        PrefrlError: for other errors that a user can cause; the run can be resumed.
    """
    leave_unguarded_import()
    request = Request(
        task if isinstance(task, str) else register_user_env(task),
        teacher=teacher,
        algo=algo,
        feedback=feedback,
        learner=learner,
        labels=labels,
        labels_from=Path(labels_from) if labels_from else None,
        minutes=minutes,
        reward=Path(reward) if reward else None,
        reference=Path(reference) if reference else None,
        kl=kl,
        kl_target=kl_target,
        demonstrations=str(demonstrations) if demonstrations else None,
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
    """Create the directory of a new run, without training it.

    Args:
        request: The run's arguments.
        archive: The content of `request.labels_from`, if it was read already.

    Raises:
        UsageError: if an argument is invalid.
        PrefrlError: for other errors that a user can cause.
    """
    request = dataclasses.replace(request, env_kwargs=check_json(request.env_kwargs))
    if request.labels_from and archive is None:
        archive = read_archive(request.labels_from.expanduser())
    if archive and request.labels is None and request.minutes is None:
        request = dataclasses.replace(request, labels=archive.answered)
    if request.reward:
        own = reward_settings(request.reward.expanduser())
        request = dataclasses.replace(request, settings=own | request.settings)
    config = resolve(request, gpu=choose_device(str(request.chosen["device"])) == "cuda")
    if config.asks_people:
        user_env_maker(config.env_id)
    check_actions(config)
    check_clips(config)
    check_memory(config)
    if archive:
        _check_labels(archive, config)
    weights = borrow_reward(Path(config.reward_model), config) if config.reward_model else None
    reference = borrow_reference(Path(config.kl.reference), config) if config.kl.reference else None
    root = request.out.expanduser() if request.out else default_root(config)
    shown = demonstrations_for(config) if config.demonstrations.source is not None else None
    judge = judge_for(config) if config.judge.source is not None else None

    def fill(run: RunDirectory) -> None:
        if judge is not None:
            judge.save(run.judge)
        if archive:
            add_labels(run, archive)
        if shown is not None:
            shown.save(run.demonstrations)
        if weights:
            save_tree(run.weights, stamped("weights", weights), durable=True)
        if reference:
            reference.save(run.reference, Path(str(config.kl.reference)) / "config.json")

    return RunDirectory.create(root, config, fill)


def _check_labels(archive: LabelArchive, config: RunConfig) -> None:
    """Raise UsageError if a run cannot start from these labels."""
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
    """Resume a run where it stopped. A finished run is trained further only if its budget is raised.

    Args:
        root: The run directory.
        labels: New total number of labels; it can only be raised.
        steps: New total number of agent steps; it can only be raised.
        control: Stops the training and receives its progress and warnings.
        trust: Modules that a run made by someone else may import to create its environment.
        env: The environment, for a run that was created with one from Python.

    Raises:
        UsageError: if the folder is not a run or is in use, or the new budget is lower than the old one, or has no
            room for the queries in the run's queue.
        PrefrlError: for other errors that a user can cause.
    """
    leave_unguarded_import()
    run = RunDirectory.open(Path(root).expanduser()).admit(trust)
    restore_user_env(run.config, env)
    reopened = labels is not None and is_closed(run)
    config = check_feedback(replace(run.config, Budget(labels=labels, steps=steps).chosen).validate())
    if config.queries.labels < run.config.queries.labels or config.steps < run.config.steps:
        have = f"{root} has --labels {run.config.queries.labels} --steps {run.config.steps}"
        raise UsageError(f"--labels and --steps can only be raised when a run is resumed: {have}")
    if config != run.config or reopened or not run.finished:
        check_queue(run, config.queries.labels)
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
    """Return the path of a new folder in `runs/`."""
    now = datetime.datetime.now().strftime("%Y%m%d-%H%M%S")
    name = f"{config.task}-{config.algo}-{config.teacher}-s{config.seed}-{now}"
    return Path("runs") / name.replace("/", "-")
