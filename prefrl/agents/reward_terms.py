"""What the agent is rewarded with: a sum of terms, each a number a step, scaled as the algorithm needs it.

A term is a class with `RewardTerm`'s methods. Its state is a part of every checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch import Tensor

from prefrl.arrays import Array, Floats
from prefrl.experience.recorder import Experience, SegmentRecorder
from prefrl.reward.normalisation import RolloutNormalisation
from prefrl.reward.workers import RewardWorker
from prefrl.storage.files import Tree

_REWARD_CLIP = 10.0


class RewardTerm(Protocol):
    """A part of the agent's reward."""

    def __call__(self, experience: Experience, log_probs: Floats) -> Floats:
        """The term's (T, E) rewards of the rollout just recorded, whose actions had these (T, E) log-probabilities."""

    def state_dict(self) -> Tree:
        """What it keeps from one rollout to the next."""

    def load_state_dict(self, state: Tree) -> None:
        """Go back to a saved state."""


class ReturnScaler:
    """Divides rewards by the running deviation of their discounted sum, as `VecNormalize` does, a rollout at a time."""

    def __init__(self, envs: int, gamma: float) -> None:
        """Make a scaler.

        Args:
            envs: E.
            gamma: The agent's discount.
        """
        self._gamma = gamma
        self._sums = np.zeros(envs)
        self._statistics = RunningMeanStd(shape=())

    def __call__(self, rewards: Floats, dones: Array) -> Floats:
        """Scale a rollout's (T, E) rewards; (T, E) dones end a discounted sum."""
        sums = np.empty(rewards.shape)
        for step, (reward, done) in enumerate(zip(rewards, dones, strict=True)):
            self._sums = self._sums * self._gamma + reward
            sums[step] = self._sums
            self._sums[done] = 0.0
        self._statistics.update(sums.ravel())
        scaled = rewards / np.sqrt(self._statistics.var + 1e-8)
        return np.clip(scaled, -_REWARD_CLIP, _REWARD_CLIP).astype(np.float32)

    def state_dict(self) -> Tree:
        """Running sums and statistics."""
        statistics = self._statistics
        return {"sums": self._sums, "mean": statistics.mean, "var": statistics.var, "count": statistics.count}

    def load_state_dict(self, state: Tree) -> None:
        """Go back to a saved state."""
        self._sums = state["sums"]
        for name in ("mean", "var", "count"):
            setattr(self._statistics, name, state[name])


class PredictedReward:
    """The reward model's prediction. Keeps predicted beside true rewards until they are taken.

    A rollout has all its rewards from one version of the reward model. Where they take long to predict, that begins on
    another core while the agent is still rolling; the parts are cut by steps, never by time, so that runs repeat
    themselves.
    """

    def __init__(
        self,
        recorder: SegmentRecorder,
        worker: RewardWorker,
        ahead: int | None = None,
        normalisation: RolloutNormalisation | None = None,
    ) -> None:
        """Make the term.

        Args:
            recorder: Has the rollouts.
            worker: Has the reward model.
            ahead: Steps of a part that is scored while the rollout goes on; None to score it whole when it has ended.
            normalisation: Of the predicted reward, by the newest rollouts; None for that which comes with the weights.
        """
        self._ahead, self._normalisation = ahead, normalisation
        self._thread = ThreadPoolExecutor(1, "prefrl-scorer")
        self._parts: list[Future[Tensor]] = []
        self._recorder, self._worker = recorder, worker
        self._pairs: list[tuple[Floats, Floats]] = []

    def look_ahead(self) -> None:
        """To be called at each step: begins to score what is recorded, once it is enough for a part."""
        if self._ahead is None:
            return
        scored = len(self._parts) * self._ahead
        if self._recorder.rolled - scored < self._ahead:
            return
        if not self._parts:
            self._worker.refresh()
        self._parts.append(self._thread.submit(self._score, self._recorder.look(scored)))

    def _score(self, features: Array) -> Tensor:
        """Each member's output: (T, E, *step) to (K, T, E)."""
        outputs = self._worker.ensemble.predict(torch.from_numpy(features.reshape(-1, *features.shape[2:])))
        return outputs.reshape(-1, *features.shape[:2])

    def __call__(self, experience: Experience, log_probs: Floats) -> Floats:
        """The (T, E) predicted rewards of the rollout just recorded."""
        features = experience.features
        if not self._parts:
            self._worker.refresh()
        parts, self._parts = [part.result() for part in self._parts], []
        if len(rest := features[sum(part.shape[1] for part in parts) :]):
            parts.append(self._score(rest))
        normalise = self._normalisation or self._worker.ensemble.combine
        outputs = torch.cat(parts, dim=1).flatten(1)
        predicted: Floats = normalise(outputs).cpu().numpy().reshape(experience.rewards.shape)
        self._pairs.append((predicted, experience.rewards))
        return predicted

    def take(self) -> tuple[Floats, Floats]:
        """Predicted and true rewards of the rollouts since the last call, flat."""
        pairs, self._pairs = self._pairs, []
        if not pairs:
            return np.zeros(0, np.float32), np.zeros(0, np.float32)
        predicted, true = zip(*pairs, strict=True)
        return np.concatenate(predicted, axis=None), np.concatenate(true, axis=None)

    def state_dict(self) -> Tree:
        """The statistics by which predictions are normalised."""
        return self._normalisation.state_dict() if self._normalisation else {}

    def load_state_dict(self, state: Tree) -> None:
        """Go back to a saved state."""
        if self._normalisation:
            self._normalisation.load_state_dict(state)


class EntropyBonus:
    """A bonus on the policy's entropy, for an algorithm whose objective has none.

    Each step gets -coefficient times the action's log-probability, whose mean is the entropy.
    """

    def __init__(self, coefficient: float) -> None:
        self._coefficient = coefficient

    def __call__(self, experience: Experience, log_probs: Floats) -> Floats:
        """The (T, E) bonuses."""
        return -self._coefficient * log_probs

    def state_dict(self) -> Tree:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Tree) -> None:
        """Nothing."""


class AgentReward:
    """The sum of the terms, divided by the running deviation of its discounted sum where the agent wants that."""

    def __init__(
        self, predicted: PredictedReward, others: Mapping[str, RewardTerm], scaler: ReturnScaler | None
    ) -> None:
        """Put the terms together.

        Args:
            predicted: The reward model's.
            others: Further terms, by their names in checkpoints.
            scaler: The agent's own scaling of its reward; None for none.
        """
        self.predicted, self._scaler = predicted, scaler
        self._terms: dict[str, RewardTerm] = {"predicted": predicted, **others}

    def __call__(self, experience: Experience, log_probs: Floats) -> Floats:
        """The agent's (T, E) rewards of the rollout just recorded."""
        first, *others = (term(experience, log_probs) for term in self._terms.values())
        rewards = sum(others, start=first)
        return self._scaler(rewards, experience.dones) if self._scaler else rewards

    def state_dict(self) -> Tree:
        """The state of every term, and the statistics by which their sum is scaled."""
        terms = {name: term.state_dict() for name, term in self._terms.items()}
        return {"terms": terms, "scaler": self._scaler.state_dict() if self._scaler else {}}

    def load_state_dict(self, state: Tree) -> None:
        """Go back to a saved state."""
        for name, term in self._terms.items():
            term.load_state_dict(state["terms"][name])
        if self._scaler:
            self._scaler.load_state_dict(state["scaler"])
