"""The reward model: an ensemble with its input and output normalisation (paper, section 2.2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from prefrl.config import RewardConfig
from prefrl.files import DamagedFileError, Tree, load_tree
from prefrl.reward.loss import preference_logit
from prefrl.reward.networks import StackedMLP
from prefrl.types import Array, Floats, Segment

_INPUT_CLIP = 10.0


class RewardEnsemble(nn.Module):
    """K predictors; their outputs are normalised separately, averaged, and the average scaled to one deviation.

    Inputs are normalised by statistics of the labelled segments that travel with the weights, never by the agent's own
    running normalisation, which would drift under the model.
    """

    input_mean: Tensor
    input_std: Tensor
    member_mean: Tensor
    member_std: Tensor
    scale: Tensor

    def __init__(self, config: RewardConfig, features: int) -> None:
        super().__init__()
        self.features = features
        self.target_std = config.target_std
        self.network = StackedMLP(config.members, features, config.hidden, config.negative_slope)
        self.register_buffer("input_mean", torch.zeros(features))
        self.register_buffer("input_std", torch.ones(features))
        self.register_buffer("member_mean", torch.zeros(config.members, 1))
        self.register_buffer("member_std", torch.ones(config.members, 1))
        self.register_buffer("scale", torch.tensor(config.target_std))

    def forward(self, features: Tensor) -> Tensor:
        """Each member's reward before output normalisation.

        Args:
            features: (..., F).

        Returns:
            (K, ...)
        """
        rows = self._normalised(features).reshape(-1, self.features)
        outputs: Tensor = self.network(rows)
        return outputs.reshape(-1, *features.shape[:-1])

    def forward_each(self, features: Tensor) -> Tensor:
        """Each member's reward, before output normalisation, for features of its own.

        Args:
            features: (K, ..., F).

        Returns:
            (K, ...)
        """
        rows = self._normalised(features).reshape(len(features), -1, self.features)
        outputs: Tensor = self.network(rows)
        return outputs.reshape(features.shape[:-1])

    def _normalised(self, features: Tensor) -> Tensor:
        return ((features - self.input_mean) / self.input_std).clamp(-_INPUT_CLIP, _INPUT_CLIP)

    @torch.no_grad()
    def reward(self, features: Tensor) -> Tensor:
        """The reward that the agent gets.

        Args:
            features: (N, F).

        Returns:
            (N,) mean zero and the target deviation over the segments that the normalisation was fitted to.
        """
        return self._average(self(features)) * self.scale

    @torch.no_grad()
    def fit_output_normalisation(self, features: Tensor) -> None:
        """Set each member's mean and deviation, then the scale of their average, from a sample of steps (N, F)."""
        outputs = self(features)
        self.member_mean.copy_(outputs.mean(dim=1, keepdim=True))
        self.member_std.copy_(outputs.std(dim=1, keepdim=True).clamp(min=1e-6))
        # Averaging members that disagree shrinks the deviation; the agent is promised a fixed one.
        self.scale.copy_(self.target_std / self._average(outputs).std().clamp(min=1e-6))

    def _average(self, outputs: Tensor) -> Tensor:
        return ((outputs - self.member_mean) / self.member_std).mean(dim=0)

    @torch.no_grad()
    def predict_preferences(self, segments: Sequence[Segment], pairs: Array) -> Array:
        """Each member's probability that the left segment of a pair is preferred.

        Args:
            segments: The segments that pairs point into; only those that occur are evaluated.
            pairs: (B, 2) indices.

        Returns:
            (K, B)
        """
        used, places = np.unique(pairs, return_inverse=True)
        features = np.stack([segments[index].features for index in used])
        outputs = self(torch.as_tensor(features, device=self.scale.device))
        logits = preference_logit(outputs[:, torch.as_tensor(places.reshape(pairs.shape))])
        return np.asarray(torch.sigmoid(logits).cpu().numpy())

    def score(self, features: Floats) -> Floats:
        """`reward` from and to NumPy: (N, F) to (N,)."""
        rewards = self.reward(torch.as_tensor(features, device=self.scale.device))
        return np.asarray(rewards.cpu().numpy())


class PublishedReward:
    """A reader's view of the weights that a learner publishes: the newest ensemble, and what the learner said of it."""

    def __init__(self, path: Path, ensemble: RewardEnsemble) -> None:
        self._path, self._stamp = path, (0, 0)
        self.ensemble = ensemble
        self.metrics: dict[str, float] = {}

    @property
    def version(self) -> int:
        """How often weights had been published when these were; 0 before the first."""
        return int(self.metrics.get("version", 0))

    def refresh(self) -> bool:
        """Load the published weights if they are newer than those here; whether they were."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return False
        if (stamp := (stat.st_mtime_ns, stat.st_ino)) == self._stamp:
            return False
        try:
            tree = load_tree(self._path)
        except DamagedFileError:
            return False  # the learner replaces it whole
        load_weights(self.ensemble, tree)
        self._stamp, self.metrics = stamp, tree["metrics"]
        return True


def load_weights(ensemble: RewardEnsemble, tree: Tree) -> None:
    """Copy published weights into an ensemble of the same shape."""
    ensemble.load_state_dict({name: torch.from_numpy(array) for name, array in tree["weights"].items()})
