"""The interface between the training loop and an agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from stable_baselines3.common.logger import Logger

from prefrl.agents.cloning import CloningSettings
from prefrl.agents.distributions import ActionDistribution
from prefrl.agents.kl_penalty import KLPenalty
from prefrl.agents.reward_terms import RewardTerm
from prefrl.arrays import Array, Floats
from prefrl.experience.demonstrations import Demonstrations
from prefrl.experience.recorder import Experience
from prefrl.storage.files import Tree


class Agent(Protocol):
    """A reinforcement-learning algorithm that collects experience and trains on a given reward."""

    episodes: int
    """Number of finished episodes."""
    asking: bool
    """Whether more labels will be asked for; set by the training loop."""

    @property
    def steps(self) -> int:
        """Steps taken so far, summed over all environments."""

    @property
    def logger(self) -> Logger:
        """Logger of the algorithm's own metrics."""

    @property
    def largest_pieces(self) -> int:
        """Bytes that all pieces of the state can have; see `pieces`."""

    def collect(self, each_step: Callable[[], None]) -> Experience | None:
        """Collect experience in the environments, e.g. one rollout.

        Args:
            each_step: Called after every step of the environments; may raise an exception to stop.

        Returns:
            The recorded experience; None if the agent trains on the true reward.
        """

    def improve(self, reward: RewardTerm | None) -> None:
        """Train on the collected experience.

        Args:
            reward: Computes the rewards; None to use the environments' rewards.
        """

    def fitted(self) -> None:
        """Note that the reward model may have changed; called at the end of each round."""

    def change_reward(self) -> None:
        """Prepare for another reward; called when the learned reward replaces that of exploration."""

    def clone(
        self,
        shown: Demonstrations,
        settings: CloningSettings,
        rng: np.random.Generator,
        tell: Callable[[], None],
        *,
        known: int = 0,
    ) -> None:
        """Imitate demonstrations by behaviour cloning. Their observations are added to the normalisation.

        Args:
            shown: The demonstrations.
            settings: How they are imitated.
            rng: Draws the batches.
            tell: Called after each gradient step; may raise an exception to stop.
            known: Number of episodes, of the first, whose observations the normalisation has already.
        """

    def act(self, observations: Array) -> Array:
        """Return the most likely actions, (N, *action), for raw observations, (N, *observation)."""

    def distribution(self, observations: Array) -> ActionDistribution:
        """Return the distribution of the actions taken in training, without gradients, for raw observations."""

    def penalise(self, penalty: KLPenalty) -> RewardTerm | None:
        """Hold the agent near a reference policy; called before the first step.

        Returns:
            A term to add to the reward; None if the penalty is a part of the agent's own loss.
        """

    def recent_returns(self) -> Floats:
        """Return the true returns of the last 100 finished episodes, at most (100,)."""

    def state_dict(self) -> Tree:
        """Return the complete state, including the global random states, but without the pieces."""

    def pieces(self) -> dict[str, Callable[[], Tree]]:
        """Return functions that make the large parts of the state that never change, e.g. of a replay memory.

        The names of pieces sort in the order in which they were made. Each is written to disk once.
        """

    def load_state_dict(self, state: Tree, *, exact: bool) -> None:
        """Restore a saved state.

        Args:
            state: From `state_dict`, and under `pieces` the content of its pieces by name.
            exact: Whether the environments were restored too. If not, they are reset.
        """
