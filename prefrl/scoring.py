"""Gives the agent its reward: the newest ensemble, applied to what the recorder recorded."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from stable_baselines3.common.running_mean_std import RunningMeanStd
from torch import Tensor

from prefrl.files import Tree
from prefrl.reward.normalisation import RolloutNormalisation
from prefrl.reward.workers import RewardWorker
from prefrl.segments import SegmentRecorder
from prefrl.types import Array, Floats

_REWARD_CLIP = 10.0


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


class RolloutScorer:
    """Scores each rollout, and keeps predicted beside true rewards until they are taken.

    A rollout has all its rewards from one version of the reward model. Where they take long to predict, that begins on
    another core while the agent is still rolling; the parts are cut by steps, never by time, so that runs repeat
    themselves.
    """

    def __init__(
        self,
        recorder: SegmentRecorder,
        worker: RewardWorker,
        scaler: ReturnScaler | None,
        entropy: float = 0.0,
        ahead: int | None = None,
        normalisation: RolloutNormalisation | None = None,
    ) -> None:
        """Make a scorer.

        Args:
            recorder: Has the rollouts.
            worker: Has the reward model.
            scaler: The agent's own scaling of its reward; None for none.
            entropy: The bonus on the policy's entropy, for an algorithm whose objective has none: each step's reward
                gets -entropy times the action's log-probability, whose mean is the entropy.
            ahead: Steps of a part that is scored while the rollout goes on; None to score it whole when it has ended.
            normalisation: Of the predicted reward, by the newest rollouts; None for that which comes with the weights.
        """
        self._entropy, self._ahead = entropy, ahead
        self._thread = ThreadPoolExecutor(1, "prefrl-scorer")
        self._parts: list[Future[Tensor]] = []
        self._recorder, self._worker, self._started = recorder, worker, False
        self._scaler, self._normalisation = scaler, normalisation
        self._pairs: list[tuple[Floats, Floats]] = []

    def start(self) -> None:
        """From here on, rollouts are scored; before, when there is no reward model yet, their reward is zero."""
        self._started = True

    def look_ahead(self) -> None:
        """To be called at each step: begins to score what is recorded, once it is enough for a part."""
        if not self._started or self._ahead is None:
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

    def __call__(self, log_probs: Floats) -> Floats:
        """The (T, E) rewards of the rollout just recorded, whose actions had these (T, E) log-probabilities."""
        features, true, dones = self._recorder.take_rollout()
        if not self._started:
            return np.zeros_like(true)
        if not self._parts:
            self._worker.refresh()
        parts, self._parts = [part.result() for part in self._parts], []
        if len(rest := features[sum(part.shape[1] for part in parts) :]):
            parts.append(self._score(rest))
        normalise = self._normalisation or self._worker.ensemble.combine
        predicted = normalise(torch.cat(parts, dim=1).flatten(1)).cpu().numpy().reshape(true.shape)
        self._pairs.append((predicted, true))
        rewards = predicted - self._entropy * log_probs
        return self._scaler(rewards, dones) if self._scaler else rewards

    def take(self) -> tuple[Floats, Floats]:
        """Predicted and true rewards of the rollouts since the last call, flat."""
        pairs, self._pairs = self._pairs, []
        if not pairs:
            return np.zeros(0, np.float32), np.zeros(0, np.float32)
        predicted, true = zip(*pairs, strict=True)
        return np.concatenate(predicted, axis=None), np.concatenate(true, axis=None)

    def state_dict(self) -> Tree:
        """The statistics by which rewards are scaled and normalised."""
        parts = {"scaler": self._scaler, "normalisation": self._normalisation}
        return {name: part.state_dict() if part else {} for name, part in parts.items()}

    def load_state_dict(self, state: Tree) -> None:
        """Go back to a saved state."""
        if self._scaler:
            self._scaler.load_state_dict(state["scaler"])
        if self._normalisation:
            self._normalisation.load_state_dict(state["normalisation"])
