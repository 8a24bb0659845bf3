"""The environments of a run: made, stacked under the agent, and saved with it."""

from __future__ import annotations

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
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from prefrl.config import RunConfig
from prefrl.encoder import is_image
from prefrl.experience.engines import EngineVecEnv
from prefrl.experience.inputs import Inputs, inputs_of
from prefrl.experience.make_env import RENDERED, make_engine, run_env
from prefrl.experience.recorder import SegmentRecorder
from prefrl.experience.scenes import Scenes
from prefrl.experience.snapshots import load_env, save_env
from prefrl.storage.files import Tree

OBSERVATION_CLIP = 10.0


@dataclass(frozen=True)
class EnvStack:
    """The wrappers around the environments, from the simulators up to what the agent steps."""

    simulators: DummyVecEnv | EngineVecEnv
    monitor: VecMonitor
    """True returns of whole episodes."""
    recorder: SegmentRecorder | None
    """None when training on the true reward."""
    normaliser: VecNormalize | None
    top: VecEnv

    def state_dict(self) -> Tree:
        """All of the stack's state; `simulators` is null where the simulators cannot be saved."""
        simulators = [save_env(env) for env in _single(self.simulators)] or [None]
        whole = all(simulator is not None for simulator in simulators)
        state: Tree = {
            "simulators": {str(index): simulator for index, simulator in enumerate(simulators)} if whole else None,
            "monitor": {"returns": self.monitor.episode_returns, "lengths": self.monitor.episode_lengths},
        }
        if self.recorder:
            state["recorder"] = self.recorder.state_dict()
        if self.normaliser:
            state["normaliser"] = normaliser_state(self.normaliser) | {"returns": self.normaliser.returns}
        return state

    def load_state_dict(self, state: Tree) -> bool:
        """Go back to a saved state.

        Returns:
            Whether the simulators stand where they stood; if not, they are to be reset, and episodes and segments that
            were under way are gone.
        """
        if self.recorder:
            self.recorder.load_state_dict(state["recorder"])
        if self.normaliser:
            load_normaliser_state(self.normaliser, state["normaliser"])
        if state["simulators"] is None:
            return False
        for index, env in enumerate(_single(self.simulators)):
            load_env(env, state["simulators"][str(index)])
        self.monitor.episode_returns = state["monitor"]["returns"]
        self.monitor.episode_lengths = state["monitor"]["lengths"]
        if self.normaliser:
            self.normaliser.returns = state["normaliser"]["returns"]
        return True


def ended_episodes(infos: list[dict[str, Any]]) -> int:
    """Episodes that ended with a step: real ones, also where the agent is not told."""
    return sum("episode" in info for info in infos)


def make_stack(config: RunConfig) -> EnvStack:
    """The environments of a run.

    True returns are counted below everything; the recorder sits under the normalisation, since the reward model must
    not drift with the agent's running statistics.
    """
    agent = config.agent
    simulators = _make_simulators(config, agent.n_envs, show=config.asks_people)
    space = simulators.observation_space
    monitor = _monitored(simulators)
    top: VecEnv = monitor
    if observed_space(config, space) != space:
        top = VecTransposeImage(top)
    recorder = None
    if config.learns_reward:
        queries = config.queries
        length, pool = queries.segment_length, queries.pool
        scenes = Scenes(_single(simulators), length) if config.asks_people else None
        top = recorder = SegmentRecorder(
            top, length, pool, stack=config.frame_stack, hide_endings=config.hide_endings, scenes=scenes
        )
    normaliser = None
    scale_reward = agent.normalise_reward and not config.learns_reward
    if agent.normalise_observations or scale_reward:
        top = normaliser = VecNormalize(
            top,
            norm_obs=agent.normalise_observations,
            norm_reward=scale_reward,
            clip_obs=OBSERVATION_CLIP,
            gamma=agent.gamma,
        )
    return EnvStack(simulators, monitor, recorder, normaliser, top)


def make_evaluation_envs(config: RunConfig, count: int) -> VecMonitor:
    """Environments to evaluate a policy in: they give what the agent sees before it is normalised, and true returns.

    Args:
        config: The run.
        count: How many.

    Raises:
        UsageError: if they cannot be made.
    """
    simulators: VecEnv = _make_simulators(config, count)
    if observed_space(config, simulators.observation_space) != simulators.observation_space:
        simulators = VecTransposeImage(simulators)
    return _monitored(simulators)


def _make_simulators(config: RunConfig, count: int, *, show: bool = False) -> DummyVecEnv | EngineVecEnv:
    """Copies of a run's environment; `show` for those whose clips people are to see."""
    if config.native_engine:
        return EngineVecEnv(make_engine(config.env_id, count))
    return DummyVecEnv([partial(run_env, config, render_mode=RENDERED if show else None)] * count)


def _monitored(simulators: VecEnv) -> VecMonitor:
    """The same, whose true returns of whole episodes are counted, and whose numbers are checked."""
    space = simulators.observation_space
    images = is_image(space.shape or (), space.dtype)
    return VecMonitor(simulators if images else VecCheckNan(simulators, raise_exception=True))


def reward_inputs(config: RunConfig) -> Inputs:
    """What a run's reward model reads of a step; makes an environment to ask it.

    Raises:
        UsageError: if the environment cannot be made.
    """
    env = run_env(config)
    env.close()
    observations = observed_space(config, env.observation_space).shape or ()
    return inputs_of(config, observations, spaces.flatdim(env.action_space))


def observed_space(config: RunConfig, space: spaces.Space[Any]) -> spaces.Space[Any]:
    """The space of observations as they are recorded and as the agent gets them: of images, channels come first."""
    if not config.images or config.frame_stack > 1 or is_image_space_channels_first(space):  # type: ignore[arg-type]
        return space
    return VecTransposeImage.transpose_space(space)  # type: ignore[arg-type]


def _single(simulators: DummyVecEnv | EngineVecEnv) -> list[Any]:
    """The simulators one by one; none where an engine has them inside."""
    return simulators.envs if isinstance(simulators, DummyVecEnv) else []


def normaliser_state(normaliser: VecNormalize) -> Tree:
    """Running statistics of observations and returns."""
    observation: Any = normaliser.obs_rms if normaliser.norm_obs else None
    parts = {"observation": observation, "return": normaliser.ret_rms}
    return {
        name: {"mean": np.asarray(rms.mean), "var": np.asarray(rms.var), "count": rms.count}
        for name, rms in parts.items()
        if rms is not None
    }


def load_normaliser_state(normaliser: VecNormalize, state: Tree) -> None:
    """Restore what `normaliser_state` gave."""
    for name, rms in (("observation", getattr(normaliser, "obs_rms", None)), ("return", normaliser.ret_rms)):
        if name in state:
            assert rms is not None
            rms.mean, rms.var, rms.count = state[name]["mean"], state[name]["var"], state[name]["count"]
