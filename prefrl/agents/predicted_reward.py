"""The reward model's prediction as a term of the agent's reward."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from prefrl.arrays import Array, Floats
from prefrl.experience.recorder import Experience, SegmentRecorder
from prefrl.reward.normalisation import ComparisonNormalisation, Normalisation
from prefrl.reward.workers import RewardWorker
from prefrl.storage.files import Tree


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
        self._scored.append(self._thread.submit(self._outputs, self._recorder.look(scored)))

    def _outputs(self, features: Array) -> Tensor:
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
            parts.append(self._outputs(rest))
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
        outputs = torch.cat([ensemble.predict(torch.from_numpy(part)) for part in steps], dim=1)
        self._normalise.fit(outputs)
        return self._normalised(outputs)

    def score(self, steps: Array) -> Floats:
        """Return the (N,) predicted rewards of (N, *step) steps, normalised over those of the last `relabel`."""
        return self._normalised(self._worker.ensemble.predict(torch.from_numpy(steps)))

    def _normalised(self, outputs: Tensor) -> Floats:
        rewards: Floats = self._normalise(outputs, self._worker.ensemble.output_normaliser).cpu().numpy()
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
