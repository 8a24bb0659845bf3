"""Create a run's environments with their wrappers, and save and restore their state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space_channels_first
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnv,
    VecNormalize,
    VecTransposeImage,
)

from prefrl.arrays import Array
from prefrl.config import RunConfig
from prefrl.encoder import DRAWN, is_image
from prefrl.errors import UsageError
from prefrl.experience.action_spaces import numbers_shape
from prefrl.experience.engines import EngineVecEnv
from prefrl.experience.inputs import Inputs, Recorded, inputs_of
from prefrl.experience.make_env import RENDERED, make_engine, run_env
from prefrl.experience.monitor import EpisodeMonitor
from prefrl.experience.recorder import SegmentRecorder
from prefrl.experience.scenes import Scenes
from prefrl.experience.snapshots import load_env, save_env
from prefrl.experience.visited import VisitedStates
from prefrl.registry import ALGORITHMS
from prefrl.storage.files import Tree

OBSERVATION_CLIP = 10.0
STATES = 512
"""Number of visited states that each row of the metrics is about, at most."""
_NARROWEST = 0.2
"""Smallest range of a number of an action that is drawn beside images: it has about 25 shades."""


@dataclass(frozen=True)
class EnvStack:
    """The environments and their wrappers, from the simulators (innermost) to `top`, which the agent steps."""

    simulators: DummyVecEnv | EngineVecEnv
    monitor: EpisodeMonitor
    """Records the true returns of episodes, and their success."""
    visited: VisitedStates
    recorder: SegmentRecorder | None
    """None if the agent's reward is the environments' own."""
    normaliser: VecNormalize | None
    top: VecEnv

    def state_dict(self) -> Tree:
        """Return the state of all wrappers; `simulators` is None if the simulators cannot be saved."""
        simulators = [save_env(env) for env in _single(self.simulators)] or [None]
        whole = all(simulator is not None for simulator in simulators)
        state: Tree = {
            "simulators": {str(index): simulator for index, simulator in enumerate(simulators)} if whole else None,
            "monitor": self.monitor.state_dict(),
            "visited": self.visited.state_dict(),
        }
        if self.recorder:
            state["recorder"] = self.recorder.state_dict()
        if self.normaliser:
            state["normaliser"] = normaliser_state(self.normaliser) | {"returns": self.normaliser.returns}
        return state

    def load_state_dict(self, state: Tree) -> bool:
        """Restore a saved state.

        Returns:
            Whether the simulators were restored. If not, they must be reset; unfinished episodes and segments are lost.
        """
        if "visited" in state:  # missing in checkpoints of older versions
            self.visited.load_state_dict(state["visited"])
        if self.recorder:
            self.recorder.load_state_dict(state["recorder"])
        if self.normaliser:
            load_normaliser_state(self.normaliser, state["normaliser"])
        exact = state["simulators"] is not None
        self.monitor.load_state_dict(state["monitor"], exact=exact)
        if not exact:
            return False
        for index, env in enumerate(_single(self.simulators)):
            load_env(env, state["simulators"][str(index)])
        if self.normaliser:
            self.normaliser.returns = state["normaliser"]["returns"]
        return True


def ended_episodes(infos: list[dict[str, Any]]) -> int:
    """Return the number of real episodes that ended in a step, including ends that are hidden from the agent."""
    return sum("episode" in info for info in infos)


def make_stack(config: RunConfig, *, shown: bool | None = None) -> EnvStack:
    """Create the environments of a run.

    The monitor of true returns is the innermost wrapper. The recorder is inside the normalisation, so that the reward
    model's inputs do not depend on the agent's running statistics.

    Args:
        config: The run.
        shown: Whether what is needed to show its segments is recorded; default: if it asks people.
    """
    agent = config.agent
    shown = config.asks_people if shown is None else shown
    simulators = _make_simulators(config, agent.n_envs, show=shown)
    space = simulators.observation_space
    monitor = _monitored(simulators)
    top: VecEnv = monitor
    if observed_space(config, space) != space:
        top = VecTransposeImage(top)
    top = visited = VisitedStates(top, every=max(1, config.round_steps // STATES), most=STATES)
    recorder = None
    if config.computes_reward or config.imitates:
        queries = config.queries
        length, pool = queries.segment_length, queries.pool
        scenes = Scenes(_single(simulators), length) if shown else None
        top = recorder = SegmentRecorder(
            top,
            length,
            pool,
            stack=config.frame_stack,
            hide_endings=config.hide_endings,
            scenes=scenes,
            reads_actions=config.draws_actions,
        )
    normaliser = None
    scale_reward = agent.normalise_reward and not recorder
    if agent.normalise_observations or scale_reward:
        top = normaliser = VecNormalize(
            top,
            norm_obs=agent.normalise_observations,
            norm_reward=scale_reward,
            clip_obs=OBSERVATION_CLIP,
            gamma=agent.gamma,
        )
    return EnvStack(simulators, monitor, visited, recorder, normaliser, top)


def make_evaluation_envs(config: RunConfig, count: int) -> EpisodeMonitor:
    """Create environments for evaluating a policy. They return unnormalised observations and true rewards.

    Args:
        config: The run.
        count: Number of environments.

    Raises:
        UsageError: if they cannot be created.
    """
    simulators: VecEnv = _make_simulators(config, count)
    if observed_space(config, simulators.observation_space) != simulators.observation_space:
        simulators = VecTransposeImage(simulators)
    return _monitored(simulators)


def _make_simulators(config: RunConfig, count: int, *, show: bool = False) -> DummyVecEnv | EngineVecEnv:
    """Create copies of a run's environment; `show` enables rendering."""
    if config.native_engine:
        return EngineVecEnv(make_engine(config.env_id, count))
    return DummyVecEnv([partial(run_env, config, render_mode=RENDERED if show else None)] * count)


def _monitored(simulators: VecEnv) -> EpisodeMonitor:
    """Add a monitor of episodes and, for vectors, a check for NaN and infinite values."""
    space = simulators.observation_space
    images = is_image(space.shape or (), space.dtype)
    return EpisodeMonitor(simulators if images else VecCheckNan(simulators, raise_exception=True))


def reward_inputs(config: RunConfig) -> Inputs:
    """Return the input shape of a run's reward model; errors as for `recorded_step`."""
    recorded = recorded_step(config)
    return inputs_of(config, recorded.observation, math.prod(recorded.action))


def recorded_step(config: RunConfig) -> Recorded:
    """Return the shapes of what a run records. This creates an environment to inspect its spaces.

    Raises:
        UsageError: if the environment cannot be created.
    """
    env = run_env(config)
    env.close()
    space = observed_space(config, env.observation_space)
    assert space.shape is not None
    assert space.dtype is not None
    return Recorded(space.shape, numbers_shape(env.action_space), space.dtype.itemsize)


def check_actions(config: RunConfig) -> None:
    """Check that a run's algorithm can act in its environment, and that its reward model can read the actions.

    Raises:
        UsageError: if it cannot, or the environment cannot be created.
    """
    env = run_env(config)
    env.close()
    usable, found = ALGORITHMS[config.algo].actions, type(env.action_space).__name__
    if usable and found not in usable:
        others = [name for name, kind in ALGORITHMS.items() if not kind.actions or found in kind.actions]
        raise UsageError(
            f"{config.algo} needs actions of a {' or '.join(usable)} space, and those of {config.task} are {found}: "
            f"use --algo {' or '.join(others)}"
        )
    if config.draws_actions:
        _check_drawn(env.action_space)


def _check_drawn(space: spaces.Space[Any]) -> None:
    """Raise UsageError if actions cannot be told apart when they are drawn; see `prefrl.encoder.action_channel`."""
    if not isinstance(space, spaces.Box):
        return
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    if low.min() < -DRAWN or high.max() > DRAWN or (high - low).min() < _NARROWEST:
        raise UsageError(
            f"reward.reads_actions draws actions within {-DRAWN:g} and {DRAWN:g}, in ranges of {_NARROWEST:g} or more: "
            "wrap the environment in gymnasium's RescaleAction"
        )


def observed_space(config: RunConfig, space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space of recorded observations, which the agent also uses; images have channels first."""
    if not config.images or config.frame_stack > 1 or is_image_space_channels_first(space):  # type: ignore[arg-type]
        return space
    return VecTransposeImage.transpose_space(space)  # type: ignore[arg-type]


def _single(simulators: DummyVecEnv | EngineVecEnv) -> list[Any]:
    """Return the individual simulators; empty for an engine, whose environments are not Python objects."""
    return simulators.envs if isinstance(simulators, DummyVecEnv) else []


def standardised(observations: Array, state: Tree) -> Array:
    """Normalise raw observations by saved statistics, as `VecNormalize` does.

    Args:
        observations: One observation or a batch of them.
        state: From `normaliser_state`, or empty for observations that are not normalised.
    """
    if "observation" not in state:
        return observations
    statistics = state["observation"]
    scaled = (observations - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-8)
    return np.asarray(np.clip(scaled, -OBSERVATION_CLIP, OBSERVATION_CLIP), np.float32)


def normaliser_state(normaliser: VecNormalize) -> Tree:
    """Return the running statistics of observations and returns."""
    observation: Any = normaliser.obs_rms if normaliser.norm_obs else None
    parts = {"observation": observation, "return": normaliser.ret_rms}
    return {
        name: {"mean": np.asarray(rms.mean), "var": np.asarray(rms.var), "count": rms.count}
        for name, rms in parts.items()
        if rms is not None
    }


def load_normaliser_state(normaliser: VecNormalize, state: Tree) -> None:
    """Restore statistics from `normaliser_state`."""
    for name, rms in (("observation", getattr(normaliser, "obs_rms", None)), ("return", normaliser.ret_rms)):
        if name in state:
            assert rms is not None
            rms.mean, rms.var, rms.count = state[name]["mean"], state[name]["var"], state[name]["count"]
