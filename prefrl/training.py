"""One training, from an opened run directory to its summary."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch.distributions import Distribution

from prefrl.agents import choose_device, make_agent
from prefrl.callback import RoundsCallback
from prefrl.clips import ClipFolder
from prefrl.config import RunConfig
from prefrl.control import Control, StopTraining, stop_on_signals
from prefrl.database import Waiting, wait_on
from prefrl.durable import sync
from prefrl.environments import EnvStack, make_stack
from prefrl.episodes import Episodes
from prefrl.errors import PrefrlError, explain
from prefrl.files import write_json
from prefrl.loop import PreferenceLoop
from prefrl.memory import beside_peak_rss_mb, keep_freed_memory, peak_rss_mb
from prefrl.processes import Beside
from prefrl.reward.inputs import Inputs, inputs_of
from prefrl.reward.learner import RewardLearner
from prefrl.reward.networks import IMAGES_AT_ONCE
from prefrl.reward.normalisation import RolloutNormalisation
from prefrl.reward.workers import InlineLearner, LearnerProcess, RewardWorker
from prefrl.run import RunDirectory, commit, version
from prefrl.scoring import ReturnScaler, RolloutScorer
from prefrl.segments import SegmentRecorder
from prefrl.store import LabelStore
from prefrl.teachers import make_teacher
from prefrl.types import Teacher

Summary = dict[str, Any]


def train_run(run: RunDirectory, control: Control | None = None) -> Summary | None:
    """Train until the run is finished or told to stop.

    Args:
        run: A new or unfinished run.
        control: Stops it, and is told how it goes.

    Returns:
        The content of `summary.json`; None if it was stopped, and can be resumed.

    Raises:
        PrefrlError: for what a user can cause; the run can be resumed once that is mended.
    """
    control = control or Control()
    with ExitStack() as cleanup:
        cleanup.callback(run.lock().release)
        try:
            with stop_on_signals(control), _no_longer_finite():
                return _train(run, control, cleanup)
        except StopTraining:
            _say_stopped(run, "stopped; resumable")
            return None
        except KeyboardInterrupt:
            _say_stopped(run, "stopped at once, on being asked twice; resumable")
            raise
        except BaseException as error:
            _say_stopped(run, f"stopped: {explain(error)}")
            raise


def _train(run: RunDirectory, control: Control, cleanup: ExitStack) -> Summary:
    config = run.config
    device = choose_device(config.device)
    threads = torch.get_num_threads()
    keep_freed_memory()
    torch.set_num_threads(agent_threads(config, threads))
    if not config.images:  # whose environments check the actions for NaN; torch's look at every step's means takes 3 %
        Distribution.set_default_validate_args(False)
        cleanup.callback(Distribution.set_default_validate_args, __debug__)
    env = make_stack(config)
    cleanup.callback(env.top.close)

    def episodes() -> Episodes | None:
        return env.recorder.episodes.newest if env.recorder else None

    teacher = make_teacher(config.teacher, config.seed, episodes) if config.learns_reward else None
    loop, scorer = None, None
    if teacher:
        loop, scorer = _make_loop(run, env, teacher, device, threads, cleanup, control)
    agent = make_agent(config, env, scorer)
    agent.set_logger(Logger(str(run.tensorboard), [TensorBoardOutputFormat(str(run.tensorboard))]))
    cleanup.callback(agent.logger.close)
    renderer = None
    if config.asks_people:
        from prefrl.renderer import RendererProcess  # noqa: PLC0415 - only people need the video library

        renderer = RendererProcess(run)
        cleanup.callback(renderer.close)
    callback = RoundsCallback(run, env, control, loop, scorer, renderer)
    if control.stop:
        raise StopTraining
    # The rounds write the log: Stable-Baselines3 would for every rollout, however short.
    agent.learn(config.steps, callback, log_interval=sys.maxsize, reset_num_timesteps=False)
    memory = peak_rss_mb() + beside_peak_rss_mb()
    seconds = callback.seconds
    if loop:
        loop.worker.finish()
    if config.evaluation.episodes and config.true_reward:
        callback.evaluate(config.evaluation.episodes)
    summary = _summarise(run, callback, agent.num_timesteps, seconds) | {"peak_rss_mb": memory}
    sync(path for path in (run.metrics, run.weights) if path.exists())  # a finished run does not make them anew
    write_json(run.summary, summary, durable=True)
    return summary


def _make_loop(
    run: RunDirectory,
    env: EnvStack,
    teacher: Teacher,
    device: str,
    threads: int,
    cleanup: ExitStack,
    control: Control,
) -> tuple[PreferenceLoop, RolloutScorer]:
    config = run.config
    recorder = env.recorder
    assert recorder is not None
    store = LabelStore(run.labels, create=not run.begun, waiting=_waiting(run, control))
    cleanup.callback(store.close)
    if run.begun:
        store.check()
    worker = _make_worker(run, store, recorder_inputs(config, recorder), device, threads, control.learner)
    cleanup.callback(worker.close)
    clips = ClipFolder(run.clips)
    loop = PreferenceLoop(config, store, clips, recorder.pool, teacher, worker)
    agent = config.agent
    scaler = ReturnScaler(agent.n_envs, agent.gamma) if agent.normalise_reward else None
    entropy = agent.ent_coef if config.algo == "trpo" else 0.0
    # A synchronous agent has every core to itself, and would only be slowed down.
    ahead = max(1, IMAGES_AT_ONCE // agent.n_envs) if config.images and config.mode == "async" else None
    over_rollouts = config.reward.normalise_over == "rollouts"
    normalisation = RolloutNormalisation(config.reward.target_std) if over_rollouts else None
    return loop, RolloutScorer(recorder, worker, scaler, entropy, ahead, normalisation)


def _waiting(run: RunDirectory, control: Control) -> Waiting:
    """While another program has the labels in hand, the run waits, and can be stopped."""
    wait = wait_on(run.labels, control.warn)

    def waiting(seconds: float) -> None:
        if control.stop:
            raise StopTraining
        wait(seconds)

    return waiting


def _make_worker(
    run: RunDirectory, store: LabelStore, inputs: Inputs, device: str, threads: int, started: Beside | None
) -> RewardWorker:
    config = run.config
    learner = RewardLearner(config.reward, inputs, config.queries.segment_length, config.seed, device)
    if config.mode == "sync":
        return InlineLearner(run, store, learner, threads)
    # For vectors one thread: the learner's own process comes up meanwhile, and needs the other core for as long.
    pretraining = InlineLearner(run, store, learner, threads if config.images else 1)
    return LearnerProcess(run, pretraining, inputs, device, started)


def agent_threads(config: RunConfig, threads: int) -> int:
    """Threads for the agent's own networks.

    A policy for vectors is so small that more than one only get in each other's way; one for images can use them all,
    but for one that an asynchronous learner needs.
    """
    if not config.images:
        return 1
    return max(1, threads - 1) if config.learns_reward and config.mode == "async" else threads


def recorder_inputs(config: RunConfig, env: SegmentRecorder) -> Inputs:
    """What the reward model reads of the recorder's steps."""
    return inputs_of(config, env.observation_space.shape or (), spaces.flatdim(env.action_space))


def _summarise(run: RunDirectory, callback: RoundsCallback, steps: int, seconds: float) -> Summary:
    config, row = run.config, callback.last_row
    counts = callback.counts
    return {
        "task": config.task,
        "algo": config.algo,
        "teacher": config.teacher,
        "mode": config.mode,
        "seed": config.seed,
        "steps": steps,
        "labels_requested": config.queries.labels if config.learns_reward else 0,
        "labels_answered": counts["answered"],
        "labels_equal": counts["equal"],
        "labels_incomparable": counts["incomparable"],
        "labels_unusable": callback.unusable_labels,
        "true_return_mean": row.get("true_return_mean"),
        "true_return_std": row.get("true_return_std"),
        "evaluation_return_mean": row.get("evaluation_return_mean"),
        "evaluation_return_std": row.get("evaluation_return_std"),
        "evaluation_episodes": int(row.get("evaluation_episodes") or 0),
        "reward_correlation": row.get("reward_correlation"),
        "reward_updates": int(row.get("reward_updates") or 0),
        "warnings": [symptom.line for symptom in callback.symptoms],
        "steps_per_second": steps / seconds,
        "wall_seconds": seconds,
        "version": version(),
        "commit": commit(),
    }


def _say_stopped(run: RunDirectory, state: str) -> None:
    with suppress(OSError, PrefrlError):  # the disk may be full: what stopped the run is said on the screen too
        run.write_progress(run.read_progress() | {"state": state, "updated_at": time.time()})


@contextmanager
def _no_longer_finite() -> Iterator[None]:
    """Turn Stable-Baselines3's and torch's reports of NaN or infinite values into one line."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        first = next(iter(str(error).splitlines()), "").rstrip(".")
        found = first.startswith("found ") and ("nan" in first or "inf" in first)
        diverged = first.startswith(("Expected parameter ", "probability tensor contains "))
        if diverged or (found and "actions" in first):
            raise PrefrlError(
                "the agent has diverged: its policy is not finite any more; a lower agent.learning_rate may help"
            ) from None
        if found:
            raise PrefrlError(f"the environment cannot be trained on: {first}") from None
        raise
