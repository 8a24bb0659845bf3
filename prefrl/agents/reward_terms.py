"""The agent's reward: a sum of terms, scaled if the algorithm needs it.

A term implements the protocol `RewardTerm`: one number per step. Checkpoints contain the state of every term.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

import numpy as np
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch import Tensor

from prefrl.arrays import Array, Floats
from prefrl.experience.recorder import Experience, SegmentRecorder
from prefrl.reward.normalisation import ComparisonNormalisation, Normalisation
from prefrl.reward.workers import RewardWorker
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

    def state_dict(self) -> Tree:
        """Return the state that lasts from one rollout to the next."""

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""


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


class PredictedReward:
    """The reward model's prediction. Stores pairs of predicted and true rewards until `take` is called.

    All rewards of a rollout come from one version of the reward model. If prediction is slow, a background thread
    scores parts of the rollout while the agent continues to act.
    """

    def __init__(
        self,
        recorder: SegmentRecorder,
        worker: RewardWorker,
        ahead: int | None = None,
        normalisation: Normalisation | None = None,
        *,
        replayed: bool = False,
    ) -> None:
        """Initialise the term.

        Args:
            recorder: Provides the rollouts.
            worker: Provides the reward model.
            ahead: Steps per part that is scored during the rollout; None to score the rollout once, at its end.
            normalisation: Normalises the predictions; None for the normalisation that is published with the weights.
            replayed: Whether the agent has a replay memory. Newer weights are then loaded only by `renew`, so that all
                rewards of the memory are from the same weights.
        """
        self._ahead, self._normalise = ahead, normalisation or ComparisonNormalisation()
        self._thread = ThreadPoolExecutor(1, "prefrl-scorer")
        self._scored: list[Future[Tensor]] = []
        self._recorder, self._worker, self._replayed = recorder, worker, replayed
        self._version = 0
        self._pairs: list[tuple[Floats, Floats]] = []

    def score_ahead(self) -> None:
        """Start to score the next part if it is complete; called after every step."""
        if self._ahead is None:
            return
        scored = len(self._scored) * self._ahead
        if self._recorder.rolled - scored < self._ahead:
            return
        if not self._scored:
            self._worker.refresh()
        self._scored.append(self._thread.submit(self._score, self._recorder.look(scored)))

    def _score(self, features: Array) -> Tensor:
        """Compute each member's output: (T, E, *step) to (K, T, E)."""
        outputs = self._worker.ensemble.predict(torch.from_numpy(features.reshape(-1, *features.shape[2:])))
        return outputs.reshape(-1, *features.shape[:2])

    def __call__(self, experience: Experience, log_probs: Floats) -> Floats:
        """Return the (T, E) predicted rewards of the last rollout."""
        features = experience.features
        if not (self._scored or self._replayed):
            self._worker.refresh()
        parts, self._scored = [part.result() for part in self._scored], []
        if len(rest := features[sum(part.shape[1] for part in parts) :]):
            parts.append(self._score(rest))
        normalised = self._normalise(torch.cat(parts, dim=1).flatten(1), self._worker.ensemble.output_normaliser)
        predicted: Floats = normalised.cpu().numpy().reshape(experience.rewards.shape)
        self._pairs.append((predicted, experience.rewards))
        return predicted

    def renew(self) -> bool:
        """Load newer weights, and return whether the weights are newer than at the last call."""
        self._worker.refresh()
        before, self._version = self._version, self._worker.version
        return self._version != before

    def relabel(self, steps: Iterable[Array]) -> Floats:
        """Return the (N,) predicted rewards of a memory, over which they are normalised."""
        ensemble = self._worker.ensemble
        outputs = torch.cat([ensemble.predict(torch.from_numpy(part)).cpu() for part in steps], dim=1)
        self._normalise.fit(outputs)
        rewards: Floats = self._normalise(outputs, ensemble.output_normaliser).cpu().numpy()
        return rewards

    def take(self) -> tuple[Floats, Floats]:
        """Return the predicted and the true rewards of the rollouts since the last call, each flattened to (N,)."""
        pairs, self._pairs = self._pairs, []
        if not pairs:
            return np.zeros(0, np.float32), np.zeros(0, np.float32)
        predicted, true = zip(*pairs, strict=True)
        return np.concatenate(predicted, axis=None), np.concatenate(true, axis=None)

    def state_dict(self) -> Tree:
        """Return the statistics of the normalisation, and the version of the weights of a memory's rewards."""
        return self._normalise.state_dict() | ({"version": self._version} if self._replayed else {})

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        state = dict(state)
        self._version = state.pop("version", 0)
        self._normalise.load_state_dict(state)


class EntropyBonus:
    """An entropy bonus, for algorithms without one in their objective.

    The bonus of a step is -coefficient * log_prob. Its expectation is the coefficient times the policy's entropy.
    """

    def __init__(self, coefficient: float) -> None:
        self._coefficient = coefficient

    def __call__(self, experience: Experience, log_probs: Floats) -> Floats:
        """Return the (T, E) bonuses."""
        return -self._coefficient * log_probs

    def relabel(self, steps: Iterable[Array]) -> Floats:
        """Raise NotImplementedError: off-policy algorithms have an entropy bonus of their own."""
        raise NotImplementedError

    def state_dict(self) -> Tree:
        """Return an empty state."""
        return {}

    def load_state_dict(self, state: Tree) -> None:
        """Do nothing: there is no state."""


class AgentReward:
    """The sum of the reward terms, optionally scaled by `ReturnScaler`."""

    def __init__(
        self, predicted: PredictedReward, others: Mapping[str, RewardTerm], scaler: ReturnScaler | None
    ) -> None:
        """Initialise the reward.

        Args:
            predicted: The reward model's term.
            others: Further terms, by their names in checkpoints.
            scaler: Scales the sum; None for no scaling.
        """
        self.predicted, self._scaler = predicted, scaler
        self._terms: dict[str, RewardTerm] = {"predicted": predicted, **others}

    def __call__(self, experience: Experience, log_probs: Floats) -> Floats:
        """Return the agent's (T, E) rewards for the last rollout; arguments as for `RewardTerm`."""
        first, *others = (term(experience, log_probs) for term in self._terms.values())
        rewards = sum(others, start=first)
        return self._scaler(rewards, experience.dones) if self._scaler else rewards

    def relabel(self, steps: Iterable[Array]) -> Floats:
        """Return the agent's (N,) rewards for all steps of a replay memory; see `RewardTerm.relabel`."""
        first, *others = (term.relabel(steps) for term in self._terms.values())
        return np.asarray(sum(others, start=first))

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
