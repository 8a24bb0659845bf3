"""On-policy agents (PPO, A2C, TRPO): each rollout is scored as a whole, then used for one call of `train`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from stable_baselines3.common.logger import Logger

from prefrl.agents.algorithms import make_algorithm
from prefrl.agents.buffers import DeferredRolloutBuffer
from prefrl.agents.reward_terms import RewardTerm
from prefrl.agents.state import load_on_policy_state, on_policy_state
from prefrl.agents.step_hook import StepHook
from prefrl.arrays import Array, Floats
from prefrl.config import RunConfig
from prefrl.experience.environments import EnvStack
from prefrl.experience.recorder import Experience
from prefrl.storage.files import Tree


class OnPolicyAgent:
    """An on-policy algorithm of Stable-Baselines3. `collect` and `improve` are the two halves of its `learn`."""

    def __init__(self, config: RunConfig, env: EnvStack, logger: Logger) -> None:
        """Build the algorithm and reset the environments.

        Args:
            config: The run.
            env: The run's environments.
            logger: Logger for the algorithm's own metrics.
        """
        self._env, self._total = env, config.steps
        self._model = make_algorithm(config, env.top, DeferredRolloutBuffer)
        self._model.set_logger(logger)
        self._hook = StepHook()
        self._model._setup_learn(config.steps, self._hook, reset_num_timesteps=False)
        self._experience: Experience | None = None
        self.episodes = 0

    @property
    def steps(self) -> int:
        """Steps taken so far, summed over all environments."""
        return self._model.num_timesteps

    @property
    def logger(self) -> Logger:
        """Logger of the algorithm's own metrics."""
        return self._model.logger

    @property
    def largest_pieces(self) -> int:
        """0: there are no pieces."""
        return 0

    def collect(self, each_step: Callable[[], None]) -> Experience | None:
        """Collect one rollout: `agent.n_steps` steps of every environment; see `Agent.collect`."""
        model = self._model

        def step(ended: int) -> None:
            self.episodes += ended
            each_step()

        self._hook.step = step
        model.collect_rollouts(self._env.top, self._hook, model.rollout_buffer, n_rollout_steps=model.n_steps)
        self._experience = self._env.recorder.take() if self._env.recorder else None
        return self._experience

    def improve(self, reward: RewardTerm | None) -> None:
        """Score the last rollout and train on it."""
        buffer = self._model.rollout_buffer
        assert isinstance(buffer, DeferredRolloutBuffer)
        scored = reward(self._experience, buffer.log_probs) if reward and self._experience else None
        buffer.complete(scored)
        self._model._update_current_progress_remaining(self.steps, self._total)
        self._model.train()

    def change_reward(self) -> None:
        """Do nothing: the next rollout has the new rewards; see `Agent.change_reward`."""

    def act(self, observations: Array) -> Array:
        """Return the most likely actions; see `Agent.act`. The statistics of the normalisation are not updated."""
        normaliser = self._env.normaliser
        seen = normaliser.normalize_obs(observations) if normaliser else observations
        return self._model.predict(seen, deterministic=True)[0]

    def recent_returns(self) -> Floats:
        """Return the true returns of the last 100 finished episodes."""
        return np.array([info["r"] for info in self._model.ep_info_buffer or ()], dtype=np.float64)

    def state_dict(self) -> Tree:
        """Return the complete state, including the global random states of torch and NumPy."""
        return on_policy_state(self._model)

    def pieces(self) -> dict[str, Callable[[], Tree]]:
        """Return nothing; see `Agent.pieces`."""
        return {}

    def load_state_dict(self, state: Tree, *, exact: bool) -> None:
        """Restore a saved state; see `Agent.load_state_dict`."""
        if not exact:
            self._model._last_obs = self._env.top.reset()  # type: ignore[assignment]
        load_on_policy_state(self._model, state, simulators_restored=exact)
