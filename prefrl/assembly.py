"""Build the parts of a training from its run directory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger, TensorBoardOutputFormat
from torch.distributions import Distribution

from prefrl.agents.agent import Agent
from prefrl.agents.exploration import Disagreement, StateEntropy
from prefrl.agents.kl_penalty import KLPenalty
from prefrl.agents.predicted_reward import PredictedReward
from prefrl.agents.reference import Reference, load_reference
from prefrl.agents.reward_terms import AgentReward, EntropyBonus, ReturnScaler, RewardSource, RewardTerm, TaskReward
from prefrl.arrays import Floats
from prefrl.config import RunConfig
from prefrl.experience.clips import ClipFolder
from prefrl.experience.demonstrations import Demonstrations
from prefrl.experience.environments import EnvStack, make_stack
from prefrl.experience.episodes import Episodes
from prefrl.experience.inputs import Inputs, inputs_of
from prefrl.experience.recorder import SegmentRecorder
from prefrl.feedback.kinds import kinds_of
from prefrl.feedback.notes import Notes
from prefrl.feedback.run_store import run_store
from prefrl.feedback.store import LabelStore
from prefrl.feedback.waiting import Waiting, wait_on
from prefrl.imitation.learner import ImitationLearner
from prefrl.machine.devices import choose_device
from prefrl.machine.memory import keep_freed_memory
from prefrl.machine.processes import WorkerProcess
from prefrl.parts import Feedback, Parts
from prefrl.registry import ALGORITHMS, located
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.image_networks import IMAGES_AT_ONCE
from prefrl.reward.learner import RewardLearner
from prefrl.reward.normalisation import NORMALISATIONS
from prefrl.reward.published import load_published
from prefrl.reward.workers import FrozenReward, InlineLearner, Learner, LearnerProcess, RewardModel, RewardWorker
from prefrl.runs.control import Control, StopTraining
from prefrl.runs.directory import RunDirectory
from prefrl.selection.asker import Asker
from prefrl.selection.automatic_labels import AutomaticLabels
from prefrl.teachers import make_teacher


def assemble(run: RunDirectory, control: Control, cleanup: ExitStack) -> Parts:
    """Build the parts of a training.

    Args:
        run: A new or unfinished run.
        control: Stops the training and receives its progress and warnings.
        cleanup: Receives the callbacks that close the parts.

    Raises:
        PrefrlError: for errors that a user can cause.
    """
    config, threads = run.config, torch.get_num_threads()
    keep_freed_memory()
    torch.set_num_threads(agent_threads(config, threads))
    if not config.images:  # `VecCheckNan` already checks actions; torch's own validation costs 3 %
        Distribution.set_default_validate_args(False)
        cleanup.callback(Distribution.set_default_validate_args, __debug__)
    env = make_stack(config)
    cleanup.callback(env.top.close)
    shown = Demonstrations.load(run.demonstrations) if config.demonstrations.source is not None else None
    feedback = None
    if config.takes_labels:
        feedback = _make_feedback(run, env, threads, control, cleanup, shown, lambda: agent)
    logger = Logger(str(run.tensorboard), [TensorBoardOutputFormat(str(run.tensorboard))])
    cleanup.callback(logger.close)
    agent: Agent = located(ALGORITHMS[config.algo].family.agent)(config, env, logger)
    reference = _load_reference(run, env) if config.kl.reference is not None else None
    penalty = KLPenalty(config.kl, reference) if reference and config.kl.penalises else None
    near = agent.penalise(penalty) if penalty else None
    reward = _make_reward(run, env, feedback, {"kl": near} if near else {}) if config.computes_reward else None
    return Parts(run, control, env, agent, reward, reference, penalty, feedback, shown)


def _load_reference(run: RunDirectory, env: EnvStack) -> Reference:
    config = run.config
    on_gpu = config.images or ALGORITHMS[config.algo].family.replays  # as the agent's own networks
    device = choose_device(config.device) if on_gpu else "cpu"
    return load_reference(run, env.visited.observation_space, env.top.action_space, device)


def _make_feedback(
    run: RunDirectory,
    env: EnvStack,
    threads: int,
    control: Control,
    cleanup: ExitStack,
    shown: Demonstrations | None,
    agent: Callable[[], Agent],
) -> Feedback:
    config, recorder = run.config, env.recorder
    assert recorder is not None

    def episodes() -> Episodes | None:
        return recorder.episodes.newest

    def watched(kind: str) -> Floats:
        return asker.watched(kind)

    opened = run_store(run, create=not run.begun, waiting=waiting_for_others(run, control))
    store = cleanup.enter_context(opened)
    if run.begun:
        store.check()
    notes = Notes(store, "the teacher")
    teacher = make_teacher(config.teacher, config.seed, episodes, kinds_of(config), watched, run=run, notes=notes)
    model = _make_model(run, store, recorder, threads, control.learner) if config.learns_reward else None
    learner: Learner = model or ImitationLearner(run, store, recorder_inputs(config, recorder), agent)
    cleanup.callback(learner.close)
    clips = ClipFolder(run.clips)
    asker = Asker(
        config, store, clips, recorder.pool, teacher, lambda: model.ensemble if model and model.ready else None
    )
    automatic = AutomaticLabels(config, store, clips, recorder.pool, shown) if shown else None
    renderer = None
    if config.asks_people:
        from prefrl.rendering.renderer import RendererProcess  # noqa: PLC0415 - only people need the video library

        renderer = RendererProcess(run)
        cleanup.callback(renderer.close)
    exploration = _state_entropy(config, recorder, 1.0, _VISITED) if config.exploration.steps else None
    return Feedback(recorder, asker, learner, model, exploration, automatic, renderer)


def _make_reward(
    run: RunDirectory, env: EnvStack, feedback: Feedback | None, extra: dict[str, RewardTerm]
) -> AgentReward:
    """Build the agent's reward from its terms.

    Args:
        run: The run.
        env: Its environments.
        feedback: Its parts that learn the reward.
        extra: Terms of the agent itself, by their names in checkpoints.
    """
    config, recorder = run.config, env.recorder
    agent, replays = config.agent, ALGORITHMS[config.algo].family.replays
    assert recorder is not None
    source = SOURCES[config.reward_source](run, recorder, feedback)
    terms: dict[str, RewardTerm] = {}
    if agent.ent_coef and not ALGORITHMS[config.algo].has_entropy_bonus:
        terms["entropy"] = EntropyBonus(agent.ent_coef)
    explored = config.exploration
    if explored.state_entropy:
        terms["state_entropy"] = _state_entropy(config, recorder, explored.state_entropy, _VISITED_LATER)
    if explored.disagreement and feedback and feedback.model:
        coefficients = explored.disagreement, explored.disagreement_decay
        terms["disagreement"] = Disagreement(*coefficients, feedback.model, explored.steps)
    scaler = ReturnScaler(agent.n_envs, agent.gamma) if agent.normalise_reward and not replays else None
    return AgentReward(source, terms | extra, scaler)


def _learned(run: RunDirectory, recorder: SegmentRecorder, feedback: Feedback | None) -> RewardSource:
    assert feedback is not None
    assert feedback.model is not None
    return _predicted(run.config, recorder, feedback.model)


def _frozen(run: RunDirectory, recorder: SegmentRecorder, feedback: Feedback | None) -> RewardSource:
    ensemble = RewardEnsemble(run.config.reward, recorder_inputs(run.config, recorder))
    load_published(run.weights, ensemble)
    return _predicted(run.config, recorder, FrozenReward(ensemble.to(choose_device(run.config.device))))


def _of_task(run: RunDirectory, recorder: SegmentRecorder, feedback: Feedback | None) -> RewardSource:
    return TaskReward()


SOURCES: dict[str, Callable[[RunDirectory, SegmentRecorder, Feedback | None], RewardSource]] = {
    "labels": _learned,
    "model": _frozen,
    "task": _of_task,
}
"""Where the agent's reward comes from, by `RunConfig.reward_source`: a reward model that learns from labels, one of
another run that never changes, or the task."""


def _predicted(config: RunConfig, recorder: SegmentRecorder, model: RewardModel) -> PredictedReward:
    replays = ALGORITHMS[config.algo].family.replays
    # Scoring in the background would slow down a synchronous agent, which already uses every core.
    in_background = config.images and not config.synchronous and not replays
    ahead = max(1, IMAGES_AT_ONCE // config.agent.n_envs) if in_background else None
    normalisation = NORMALISATIONS[config.reward.normalise_over](config.reward.target_std)
    return PredictedReward(recorder, model, ahead, normalisation, replayed=replays)


_VISITED, _VISITED_LATER = 10_000, 1000
"""States that are compared with, while exploring and afterwards: then, a whole replay memory is, once a round."""


def _state_entropy(config: RunConfig, recorder: SegmentRecorder, coefficient: float, references: int) -> StateEntropy:
    observation = spaces.flatdim(recorder.observation_space)
    return StateEntropy(coefficient, config.exploration.neighbours, observation, references)


def _make_model(
    run: RunDirectory, store: LabelStore, recorder: SegmentRecorder, threads: int, started: WorkerProcess | None
) -> RewardWorker:
    config, device = run.config, choose_device(run.config.device)
    inputs, pool = recorder_inputs(config, recorder), recorder.pool
    learner = RewardLearner.of_run(config, inputs, device)
    if config.synchronous:
        return InlineLearner(run, store, learner, threads, pool)
    # With vectors, one thread: the learner's process starts at the same time and needs the other core.
    pretraining = InlineLearner(run, store, learner, threads if config.images else 1, pool)
    return LearnerProcess(run, pretraining, inputs, device, started)


def waiting_for_others(run: RunDirectory, control: Control) -> Waiting:
    """Return a callback for waits on another program's transaction; it lets the run be stopped meanwhile."""
    wait = wait_on(run.labels, control.warn)

    def waiting(seconds: float) -> None:
        if control.stop:
            raise StopTraining
        wait(seconds)

    return waiting


def agent_threads(config: RunConfig, threads: int) -> int:
    """Return the number of threads for the agent's networks.

    A policy for vectors is too small to gain from several threads. A policy for images uses all threads but the one
    that an asynchronous learner needs.

    Args:
        config: The run.
        threads: Threads that torch uses by default.
    """
    if not config.images:
        return 1
    return max(1, threads - 1) if config.learns_reward and not config.synchronous else threads


def recorder_inputs(config: RunConfig, env: SegmentRecorder) -> Inputs:
    """Return the reward model's input shape for the recorder's steps."""
    return inputs_of(config, env.observation_space.shape or (), spaces.flatdim(env.action_space))
