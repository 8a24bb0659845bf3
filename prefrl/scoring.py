"""Gives the agent its reward: the newest ensemble, applied to what the recorder recorded."""

from __future__ import annotations

import numpy as np

from prefrl.reward.workers import RewardWorker
from prefrl.segments import SegmentRecorder
from prefrl.types import Floats


class RolloutScorer:
    """Scores each rollout in one call, and keeps predicted beside true rewards until they are taken."""

    def __init__(self, recorder: SegmentRecorder, worker: RewardWorker) -> None:
        self._recorder, self._worker, self._started = recorder, worker, False
        self._pairs: list[tuple[Floats, Floats]] = []

    def start(self) -> None:
        """From here on, rollouts are scored; before, when there is no reward model yet, their reward is zero."""
        self._started = True

    def __call__(self) -> Floats:
        """The (T, E) rewards of the rollout just recorded."""
        features, true = self._recorder.take_rollout()
        if not self._started:
            return np.zeros_like(true)
        steps, envs, width = features.shape
        predicted = self._worker.ensemble.score(features.reshape(-1, width)).reshape(steps, envs)
        self._pairs.append((predicted, true))
        return predicted

    def take(self) -> tuple[Floats, Floats]:
        """Predicted and true rewards of the rollouts since the last call, flat."""
        pairs, self._pairs = self._pairs, []
        if not pairs:
            return np.zeros(0, np.float32), np.zeros(0, np.float32)
        predicted, true = zip(*pairs, strict=True)
        return np.concatenate(predicted, axis=None), np.concatenate(true, axis=None)
