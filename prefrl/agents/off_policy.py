"""Off-policy agents (SAC, DQN, QR-DQN), which train on a replay memory whose rewards follow the newest reward model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.type_aliases import TrainFreq, TrainFrequencyUnit

from prefrl.agents.kl_penalty import KLPenalty
from prefrl.agents.off_policy_algorithms import copy_to_targets, forget_values, make_algorithm
from prefrl.agents.relabelling import RELABELLINGS
from prefrl.agents.replay import ReplayMemory
from prefrl.agents.reward_terms import RewardTerm
from prefrl.agents.sb3_agent import SB3Agent
from prefrl.agents.soft_actor_critic import SoftActorCritic
from prefrl.agents.state import load_off_policy_state, off_policy_state
from prefrl.config import RunConfig
from prefrl.experience.environments import EnvStack
from prefrl.experience.recorder import Experience
from prefrl.storage.files import Tree
from prefrl.storage.reading import MEBIBYTE

_NOT_YET = 0
"""Agent steps of the next relabelling while no step has a reward of the present terms."""
_KEPT = ("relabel_at", "relabelled", "updates_due", "fresh_due")
"""Counters in a checkpoint; those that older versions did not write begin at 0."""


class OffPolicyAgent(SB3Agent[OffPolicyAlgorithm]):
    """An off-policy algorithm of Stable-Baselines3.

    When the reward model changes, the rewards of the memory are computed again with the newest weights (PEBBLE, Lee et
    al., 2021), at most once a round; see `off_policy.relabel`.
    """

    def __init__(self, config: RunConfig, env: EnvStack, logger: Logger) -> None:
        """Build the algorithm and reset the environments; arguments as for `OnPolicyAgent`."""
        super().__init__(config, env, logger, make_algorithm(config, env.top))
        assert isinstance(self._model.replay_buffer, ReplayMemory)
        self._memory, settings = self._model.replay_buffer, config.off_policy
        self._memory.recent_fraction = settings.recent_fraction
        self._relabelling = RELABELLINGS[settings.relabel]
        self._relabel_at, self._updates_due, self._collected = _NOT_YET, 0.0, 0
        self._relabelled = 0
        """Steps of each environment that the memory had when its rewards were computed the last time."""
        self._fresh_due = False
        self._penalty: KLPenalty | None = None

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
        if self._penalty and self._penalty.adapts:
            self._adapt(self._penalty)
        if self._fresh_due:
            self._fresh_due = False
            forget_values(self._model, self._config)
            self._updates_due += self._config.off_policy.fresh_updates
        if self.steps <= self._model.learning_starts:
            return
        self._updates_due += self._collected * self._config.off_policy.updates_per_step
        due = int(self._updates_due)
        self._updates_due -= due
        self._memory.recent = self._config.off_policy.recent_steps if self.asking else 0
        if due:
            self._model.train(gradient_steps=due, batch_size=self._model.batch_size)

    def _reward(self, reward: RewardTerm, experience: Experience) -> None:
        # Rewards that are normalised over a memory that is half as large are not those of now.
        if self.steps >= self._relabel_at and (reward.renew() or self._memory.added >= 2 * self._relabelled):
            self._relabelling.renew(reward, self._memory, self._relabel_at == _NOT_YET)
            self._relabel_at, self._relabelled = self.steps + self._config.round_steps, self._memory.added
        newest = reward(experience, np.zeros_like(experience.rewards))
        self._memory.rewards[self._memory.newest(len(newest))] = newest
        self._memory.score = reward.score if self._relabelling.of_batches else None

    def penalise(self, penalty: KLPenalty) -> None:
        """Add the penalty to the loss; see `Agent.penalise`.

        The entropy that SAC's coefficient aims at is at most the reference's. A higher one would raise the coefficient
        without end, because no policy near the reference has it.
        """
        assert isinstance(self._model, SoftActorCritic)
        self._penalty = self._model.penalty = penalty
        assert isinstance(self._model.target_entropy, float)
        self._model.target_entropy = min(self._model.target_entropy, penalty.reference.entropy)

    def _adapt(self, penalty: KLPenalty) -> None:
        """Adapt the coefficient of the penalty to the states of the newest steps."""
        memory = self._memory
        newest = memory.observations[memory.newest(self._collected // memory.n_envs)]
        raw = newest.reshape(-1, *newest.shape[2:])
        penalty.adapt(self.distribution(raw), penalty.reference.distribution(raw))

    def _cloned(self) -> None:
        """Make the targets of value networks copies of them."""
        copy_to_targets(self._model)

    def fitted(self) -> None:
        """Relabel before the next training, so that no step is rewarded by weights that the others have not seen."""
        if self._relabel_at != _NOT_YET:
            self._relabel_at = min(self._relabel_at, self.steps)

    def change_reward(self) -> None:
        """Train the critics anew on the new rewards, if the run is configured so; see `Agent.change_reward`."""
        self._relabel_at = _NOT_YET
        self._fresh_due = self._config.off_policy.fresh_critic

    def state_dict(self) -> Tree:
        """Return the state without the pieces of the memory, including the global random states of torch and NumPy."""
        kept = {name: getattr(self, f"_{name}") for name in _KEPT}
        return (
            off_policy_state(self._model)
            | {"memory": self._memory.state_dict(), "off_policy": kept}
            | ({"penalty": self._penalty.state_dict()} if self._penalty else {})
        )

    def pieces(self) -> dict[str, Callable[[], Tree]]:
        """Return the pieces of the replay memory; see `Agent.pieces`."""
        return self._memory.pieces()

    def load_state_dict(self, state: Tree, *, exact: bool) -> None:
        """Restore a saved state; see `Agent.load_state_dict`."""
        if not exact:
            self._model._last_obs = self._env.top.reset()  # type: ignore[assignment]
            if normaliser := self._model._vec_normalize_env:
                self._model._last_original_obs = normaliser.get_original_obs()
        load_off_policy_state(self._model, state, simulators_restored=exact)
        self._memory.load_state_dict(state["memory"], state["pieces"])
        for name in _KEPT:
            setattr(self, f"_{name}", state["off_policy"].get(name, 0))
        if self._penalty:
            self._penalty.load_state_dict(state["penalty"])
