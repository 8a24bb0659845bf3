"""What agents of Stable-Baselines3 share, whether on-policy or off-policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize

from prefrl.agents.cloning import CloningSettings, clone
from prefrl.agents.distributions import ActionDistribution
from prefrl.arrays import Array, Floats
from prefrl.config import RunConfig
from prefrl.experience.demonstrations import Demonstrations
from prefrl.experience.environments import EnvStack, ended_episodes
from prefrl.experience.recorder import Experience
from prefrl.experience.segment import Segment
from prefrl.registry import ALGORITHMS, located

Model = TypeVar("Model", bound=BaseAlgorithm)


class SB3Agent(Generic[Model]):
    """An algorithm of Stable-Baselines3. A subclass has the two halves of its `learn`: `collect` and `improve`."""

    def __init__(self, config: RunConfig, env: EnvStack, logger: Logger, model: Model) -> None:
        """Reset the environments.

        Args:
            config: The run.
            env: The run's environments.
            logger: Logger for the algorithm's own metrics.
            model: The algorithm.
        """
        self._config, self._env, self._model = config, env, model
        self._model.set_logger(logger)
        self._hook = StepHook()
        self._model._setup_learn(config.steps, self._hook, reset_num_timesteps=False)
        self._experience: Experience | None = None
        self.episodes, self.asking = 0, False

    @property
    def steps(self) -> int:
        """Steps taken so far, summed over all environments."""
        return self._model.num_timesteps

    @property
    def logger(self) -> Logger:
        """Logger of the algorithm's own metrics."""
        return self._model.logger

    def clone(
        self,
        shown: Demonstrations,
        settings: CloningSettings,
        rng: np.random.Generator,
        tell: Callable[[], None],
        *,
        known: int = 0,
    ) -> None:
        """Imitate demonstrations by behaviour cloning; see `Agent.clone`."""
        normaliser = self._env.normaliser if self._config.agent.normalise_observations else None
        if normaliser:
            _add_observations(normaliser, shown.episodes[known:])

        def take(places: Array) -> tuple[Array, Array]:
            observations, actions = shown.take(places)
            seen = np.asarray(normaliser.normalize_obs(observations)) if normaliser else observations
            return seen, actions

        loss = located(ALGORITHMS[self._config.algo].cloning)
        clone(self._model.policy, loss, take, len(shown), settings, rng, tell)
        self._cloned()

    def _cloned(self) -> None:
        """Follow the policy after it was cloned; called by `clone`."""

    def act(self, observations: Array) -> Array:
        """Return the most likely actions; see `Agent.act`. The statistics of the normalisation are not updated."""
        normaliser = self._env.normaliser
        seen = normaliser.normalize_obs(observations) if normaliser else observations
        return self._model.predict(seen, deterministic=True)[0]

    def distribution(self, observations: Array) -> ActionDistribution:
        """Return the distribution of the actions taken in training; see `Agent.distribution`."""
        normaliser = self._env.normaliser
        seen = normaliser.normalize_obs(observations) if normaliser else observations
        return self._distribution(np.asarray(seen), getattr(self._model, "exploration_rate", 0.0))

    def _distribution(self, seen: Array, exploration: float = 0.0) -> ActionDistribution:
        """Return the distribution of actions for (N, *observation) observations as the policy sees them."""
        policy = self._model.policy
        policy.set_training_mode(False)  # `train` sets it again
        tensor = torch.as_tensor(np.ascontiguousarray(seen), device=policy.device)
        with torch.no_grad():
            found: ActionDistribution = located(ALGORITHMS[self._config.algo].distribution)(policy, tensor, exploration)
        return found

    def recent_returns(self) -> Floats:
        """Return the true returns of the last 100 finished episodes."""
        return np.array([info["r"] for info in self._model.ep_info_buffer or ()], dtype=np.float64)

    def _each_step(self, tell: Callable[[], None]) -> StepHook:
        """Return the callback for a rollout, which counts episodes and calls `tell` after each step."""

        def step(ended: int) -> None:
            self.episodes += ended
            tell()

        self._hook.step = step
        return self._hook

    def _taken(self) -> Experience | None:
        """Return the experience of the rollout that has ended; None if the agent trains on the true reward."""
        self._experience = self._env.recorder.take() if self._env.recorder else None
        return self._experience


def _add_observations(normaliser: VecNormalize, episodes: Sequence[Segment]) -> None:
    """Add demonstrated observations to the running statistics."""
    assert isinstance(normaliser.obs_rms, RunningMeanStd)
    for episode in episodes:
        normaliser.obs_rms.update(episode.observations)


class StepHook(BaseCallback):
    """Calls `step` after each step of a rollout, with the number of episodes that ended in it."""

    def __init__(self) -> None:
        super().__init__()
        self.step: Callable[[int], None] = lambda ended: None

    def _on_step(self) -> bool:
        self.step(ended_episodes(self.locals["infos"]))
        return True
