"""On-policy agents (PPO, A2C, TRPO): each rollout is scored as a whole, then used for one call of `train`."""

from __future__ import annotations

from collections.abc import Callable

from stable_baselines3.common.logger import Logger
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from prefrl.agents.algorithms import make_algorithm
from prefrl.agents.buffers import DeferredRolloutBuffer
from prefrl.agents.distributions import ActionDistribution
from prefrl.agents.kl_penalty import KLPenalty, KLTerm
from prefrl.agents.reward_terms import RewardTerm
from prefrl.agents.sb3_agent import SB3Agent
from prefrl.agents.state import load_on_policy_state, on_policy_state
from prefrl.arrays import Array
from prefrl.config import RunConfig
from prefrl.experience.environments import EnvStack
from prefrl.experience.recorder import Experience
from prefrl.storage.files import Tree


class OnPolicyAgent(SB3Agent[OnPolicyAlgorithm]):
    """An on-policy algorithm of Stable-Baselines3."""

    def __init__(self, config: RunConfig, env: EnvStack, logger: Logger) -> None:
        """Build the algorithm and reset the environments.

        Args:
            config: The run.
            env: The run's environments.
            logger: Logger for the algorithm's own metrics.
        """
        super().__init__(config, env, logger, make_algorithm(config, env.top, DeferredRolloutBuffer))

    @property
    def largest_pieces(self) -> int:
        """0: there are no pieces."""
        return 0

    def collect(self, each_step: Callable[[], None]) -> Experience | None:
        """Collect one rollout: `agent.n_steps` steps of every environment; see `Agent.collect`."""
        model, hook = self._model, self._each_step(each_step)
        model.collect_rollouts(self._env.top, hook, model.rollout_buffer, n_rollout_steps=model.n_steps)
        return self._taken()

    def improve(self, reward: RewardTerm | None) -> None:
        """Score the last rollout and train on it."""
        buffer = self._model.rollout_buffer
        assert isinstance(buffer, DeferredRolloutBuffer)
        scored = reward(self._experience, buffer.log_probs) if reward and self._experience else None
        buffer.complete(scored)
        self._model._update_current_progress_remaining(self.steps, self._config.steps)
        self._model.train()

    def penalise(self, penalty: KLPenalty) -> RewardTerm:
        """Return the penalty as a term of the reward; see `Agent.penalise`."""
        return KLTerm(penalty, self.chosen)

    def chosen(self) -> tuple[Array, ActionDistribution]:
        """Return the (T E, *action) actions of the newest rollout as drawn, and the distribution they are from."""
        buffer = self._model.rollout_buffer
        seen = buffer.observations.reshape(-1, *buffer.obs_shape)
        return buffer.actions.reshape(len(seen), -1), self._distribution(seen)

    def fitted(self) -> None:
        """Do nothing: the next rollout has the newest weights; see `Agent.fitted`."""

    def change_reward(self) -> None:
        """Do nothing: the next rollout has the new rewards; see `Agent.change_reward`."""

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
