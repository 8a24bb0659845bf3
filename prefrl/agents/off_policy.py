"""Off-policy agents (SAC, DQN, QR-DQN), which train on a replay memory whose rewards follow the newest reward model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from prefrl.agents.off_policy_algorithms import copy_to_targets, forget_values, make_algorithm
from prefrl.agents.replay import MemorySteps, ReplayMemory
from prefrl.agents.reward_terms import RewardTerm
from prefrl.agents.sb3_agent import SB3Agent
from prefrl.agents.state import load_off_policy_state, off_policy_state
from prefrl.config import RunConfig
from prefrl.experience.demonstrations import Demonstrations
from prefrl.experience.environments import EnvStack
from prefrl.experience.recorder import Experience
from prefrl.storage.files import Tree
from prefrl.storage.reading import MEBIBYTE

_KEPT = ("relabel_at", "updates_due", "fresh_due")
"""Counters in a checkpoint."""


class OffPolicyAgent(SB3Agent[OffPolicyAlgorithm]):
    """An off-policy algorithm of Stable-Baselines3.

    When the reward model changes, the rewards of the whole memory are computed again with the newest weights (PEBBLE,
    Lee et al., 2021), at most once a round.
    """

    def __init__(self, config: RunConfig, env: EnvStack, logger: Logger) -> None:
        """Build the algorithm and reset the environments; arguments as for `OnPolicyAgent`."""
        super().__init__(config, env, logger, make_algorithm(config, env.top))
        assert isinstance(self._model.replay_buffer, ReplayMemory)
        self._memory, settings = self._model.replay_buffer, config.off_policy
        self._memory.recent, self._memory.recent_fraction = settings.recent_steps, settings.recent_fraction
        self._steps_of_memory = MemorySteps(self._memory)
        self._relabel_at, self._updates_due, self._collected = 0, 0.0, 0
        self._fresh_due = False

    @property
    def largest_pieces(self) -> int:
        """Twice the bytes of the memory, which leaves room for the files' headers."""
        return 2 * self._memory.nbytes + MEBIBYTE

    def collect(self, each_step: Callable[[], None]) -> Experience | None:
        """Take `agent.n_steps` steps in every environment, and store them; see `Agent.collect`."""
        model, before = self._model, self.steps
        model.collect_rollouts(
            self._env.top,
            self._each_step(each_step),
            TrainFreq(self._config.agent.n_steps, TrainFrequencyUnit.STEP),
            self._memory,
            model.action_noise,
            learning_starts=model.learning_starts,
        )
        self._collected = self.steps - before
        return self._taken()

    def improve(self, reward: RewardTerm | None) -> None:
        """Compute the rewards of the newest steps, relabel the memory if they changed, and train on samples of it."""
        if reward and self._experience:
            self._reward(reward, self._experience)
        if self._fresh_due:
            self._fresh_due = False
            forget_values(self._model, self._config)
            self._updates_due += self._config.off_policy.fresh_updates
        if self.steps <= self._model.learning_starts:
            return
        self._updates_due += self._collected * self._config.off_policy.updates_per_step
        due = int(self._updates_due)
        self._updates_due -= due
        if due:
            self._model.train(gradient_steps=due, batch_size=self._model.batch_size)

    def _reward(self, reward: RewardTerm, experience: Experience) -> None:
        if self.steps >= self._relabel_at and reward.renew():
            self._steps_of_memory.write(reward.relabel(self._steps_of_memory))
            self._relabel_at = self.steps + self._config.round_steps
        newest = reward(experience, np.zeros_like(experience.rewards))
        self._memory.rewards[self._memory.newest(len(newest))] = newest

    def clone(self, shown: Demonstrations, tell: Callable[[], None], *, known: int = 0) -> None:
        """Imitate demonstrations; the targets of value networks become copies of them. See `Agent.clone`."""
        super().clone(shown, tell, known=known)
        copy_to_targets(self._model)

    def change_reward(self) -> None:
        """Train the critics anew on the new rewards, if the run is configured so; see `Agent.change_reward`."""
        self._relabel_at = 0
        self._fresh_due = self._config.off_policy.fresh_critic

    def state_dict(self) -> Tree:
        """Return the state without the pieces of the memory, including the global random states of torch and NumPy."""
        kept = {name: getattr(self, f"_{name}") for name in _KEPT}
        return off_policy_state(self._model) | {"memory": self._memory.state_dict(), "off_policy": kept}

    def pieces(self) -> dict[str, Callable[[], Tree]]:
        """Return the pieces of the replay memory; see `Agent.pieces`."""
        return self._memory.pieces()

    def load_state_dict(self, state: Tree, *, exact: bool) -> None:
        """Restore a saved state; see `Agent.load_state_dict`."""
        if not exact:
            self._model._last_obs = self._env.top.reset()  # type: ignore[assignment]
        load_off_policy_state(self._model, state, simulators_restored=exact)
        self._memory.load_state_dict(state["memory"], state["pieces"])
        for name in _KEPT:
            setattr(self, f"_{name}", state["off_policy"][name])
