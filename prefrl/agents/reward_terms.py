"""The agent's reward: a sum of terms, scaled if the algorithm needs it.

A term implements the protocol `RewardTerm`: one number per step. Checkpoints contain the state of every term.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
from stable_baselines3.common.running_mean_std import RunningMeanStd

from prefrl.arrays import Array, Floats
from prefrl.experience.recorder import Experience
from prefrl.storage.files import Tree

_REWARD_CLIP = 10.0


class RewardTerm(Protocol):
    """One term of the agent's reward. `prefrl.assembly` selects the terms of a run."""

    def __call__(self, experience: Experience, log_probs: Floats) -> Floats:
        """Compute the term for a rollout.

        Args:
            experience: The rollout.
            log_probs: (T, E) log-probabilities of its actions.

        Returns:
            (T, E) rewards.
        """

    def relabel(self, steps: Iterable[Array]) -> Floats:
        """Compute the term for all steps of a replay memory.

        Args:
            steps: Parts of the memory, (N, *step) each, as a reward model reads them. May be iterated over repeatedly.

        Returns:
            (N,) rewards of the steps of all parts.
        """

    def score(self, steps: Array) -> Floats:
        """Compute the term for single steps of a replay memory, with the statistics of the last `relabel`.

        Args:
            steps: (N, *step), as a reward model reads them.

        Returns:
            (N,) rewards.
        """

    def renew(self) -> bool:
        """Use the newest model; called by agents with a replay memory, at most once a round.

        Returns:
            Whether the term has changed for steps whose rewards were computed before.
        """

    def state_dict(self) -> Tree:
        """Return the state that lasts from one rollout to the next."""

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""


class RewardSource(RewardTerm, Protocol):
    """The term that comes from the task or from a reward model, and its predictions for the metrics."""

    def score_ahead(self) -> None:
        """Start to predict the next part of a rollout, if it is complete; called after every step."""

    def take(self) -> tuple[Floats, Floats]:
        """Return the predicted and the true rewards since the last call, each (N,); empty without predictions."""


class RolloutTerm:
    """What terms have in common that depend on no model, and are for rollouts alone, not for a replay memory."""

    def relabel(self, steps: Iterable[Array]) -> Floats:
        """Raise NotImplementedError."""
        raise NotImplementedError

    def score(self, steps: Array) -> Floats:
        """Raise NotImplementedError."""
        raise NotImplementedError

    def renew(self) -> bool:
        """Return False: there is no model that could be newer."""
        return False

    def state_dict(self) -> Tree:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: Tree) -> None:
        """Do nothing: there is no state."""


class TaskReward(RolloutTerm):
    """The task's own reward, which a replay memory holds already."""

    def __call__(self, experience: Experience, log_probs: Floats) -> Floats:
        """Return the (T, E) rewards of a rollout."""
        return experience.rewards

    def score_ahead(self) -> None:
        """Do nothing: there is nothing to predict."""

    def take(self) -> tuple[Floats, Floats]:
        """Return nothing: there are no predictions."""
        return np.zeros(0, np.float32), np.zeros(0, np.float32)


class ReturnScaler:
    """Divides rewards by the running standard deviation of their discounted sum.

    This is the reward scaling of Stable-Baselines3's `VecNormalize`, updated once per rollout.
    """

    def __init__(self, envs: int, gamma: float) -> None:
        """Initialise the scaler.

        Args:
            envs: E, the number of environments.
            gamma: The agent's discount factor.
        """
        self._gamma = gamma
        self._sums = np.zeros(envs)
        self._statistics = RunningMeanStd(shape=())

    def __call__(self, rewards: Floats, dones: Array) -> Floats:
        """Scale the rewards of a rollout.

        Args:
            rewards: (T, E).
            dones: (T, E); True resets the discounted sum.

        Returns:
            (T, E) scaled rewards, clipped to [-10, 10].
        """
        sums = np.empty(rewards.shape)
        for step, (reward, done) in enumerate(zip(rewards, dones, strict=True)):
            self._sums = self._sums * self._gamma + reward
            sums[step] = self._sums
            self._sums[done] = 0.0
        self._statistics.update(sums.ravel())
        scaled = rewards / np.sqrt(self._statistics.var + 1e-8)
        return np.clip(scaled, -_REWARD_CLIP, _REWARD_CLIP).astype(np.float32)

    def state_dict(self) -> Tree:
        """Return the running sums and statistics."""
        statistics = self._statistics
        return {"sums": self._sums, "mean": statistics.mean, "var": statistics.var, "count": statistics.count}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self._sums = state["sums"]
        for name in ("mean", "var", "count"):
            setattr(self._statistics, name, state[name])


class EntropyBonus(RolloutTerm):
    """An entropy bonus, for algorithms without one in their objective.

    The bonus of a step is -coefficient * log_prob. Its expectation is the coefficient times the policy's entropy.
    """

    def __init__(self, coefficient: float) -> None:
        self._coefficient = coefficient

    def __call__(self, experience: Experience, log_probs: Floats) -> Floats:
        """Return the (T, E) bonuses."""
        return -self._coefficient * log_probs


class AgentReward:
    """The sum of the reward terms, optionally scaled by `ReturnScaler`. It is a `RewardTerm` itself."""

    def __init__(self, source: RewardSource, others: Mapping[str, RewardTerm], scaler: ReturnScaler | None) -> None:
        """Initialise the reward.

        Args:
            source: The term of the reward model, or of the task.
            others: Further terms, by their names in checkpoints.
            scaler: Scales the sum; None for no scaling.
        """
        self.source, self._scaler = source, scaler
        self._terms: dict[str, RewardTerm] = {"predicted": source, **others}

    def score_ahead(self) -> None:
        """Start to predict the next part of a rollout, if it is complete; called after every step."""
        self.source.score_ahead()

    def take_predictions(self) -> tuple[Floats, Floats]:
        """Return the predicted and the true rewards since the last call; see `RewardSource.take`."""
        return self.source.take()

    def __call__(self, experience: Experience, log_probs: Floats) -> Floats:
        """Return the agent's (T, E) rewards for the last rollout; arguments as for `RewardTerm`."""
        first, *others = (term(experience, log_probs) for term in self._terms.values())
        rewards = sum(others, start=first)
        return self._scaler(rewards, experience.dones) if self._scaler else rewards

    def relabel(self, steps: Iterable[Array]) -> Floats:
        """Return the agent's (N,) rewards for all steps of a replay memory; see `RewardTerm.relabel`."""
        first, *others = (term.relabel(steps) for term in self._terms.values())
        return np.asarray(sum(others, start=first))

    def score(self, steps: Array) -> Floats:
        """Return the agent's (N,) rewards for (N, *step) steps of a replay memory; see `RewardTerm.score`."""
        first, *others = (term.score(steps) for term in self._terms.values())
        return np.asarray(sum(others, start=first))

    def renew(self) -> bool:
        """Let every term use its newest model, and return whether any has changed; see `RewardTerm.renew`."""
        changed = [term.renew() for term in self._terms.values()]  # of all, not only up to the first
        return any(changed)

    def state_dict(self) -> Tree:
        """Return the state of every term and of the scaler."""
        terms = {name: term.state_dict() for name, term in self._terms.items()}
        return {"terms": terms, "scaler": self._scaler.state_dict() if self._scaler else {}}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        for name, term in self._terms.items():
            term.load_state_dict(state["terms"][name])
        if self._scaler:
            self._scaler.load_state_dict(state["scaler"])
