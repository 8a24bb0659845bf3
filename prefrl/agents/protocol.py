"""What the training loop knows of an agent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from stable_baselines3.common.logger import Logger

from prefrl.agents.reward_terms import AgentReward
from prefrl.arrays import Array, Floats
from prefrl.experience.recorder import Experience
from prefrl.storage.files import Tree


class Agent(Protocol):
    """A reinforcement-learning algorithm that gathers experience and is told what it is worth."""

    episodes: int
    """Episodes that have ended so far."""

    @property
    def steps(self) -> int:
        """Steps taken so far, of all environments together."""

    @property
    def logger(self) -> Logger:
        """Where the algorithm writes its own figures."""

    def collect(self, each_step: Callable[[], None]) -> Experience | None:
        """Act in the environments for a while.

        Args:
            each_step: Called after every step of the environments; may raise to leave.

        Returns:
            What was recorded; None for an agent that trains on the true reward.
        """

    def improve(self, reward: AgentReward | None) -> None:
        """Train on what was collected; None for the true reward, which the environments gave."""

    def act(self, observations: Array) -> Array:
        """The most likely actions, (N, *action), for (N, *observation) as the environments give them."""

    def recent_returns(self) -> Floats:
        """True returns of the last 100 episodes that have ended."""

    def restart(self) -> None:
        """Start new episodes, where the environments could not be restored."""

    def state_dict(self) -> Tree:
        """Everything that the next step depends on, the global random states included."""

    def load_state_dict(self, state: Tree, *, exact: bool) -> None:
        """Go back to a saved state.

        Args:
            state: From `state_dict`.
            exact: Whether the environments stand where they stood.
        """
