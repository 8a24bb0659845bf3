"""The reward model: an ensemble with its input and output normalisation (paper, section 2.2.3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from prefrl.config import RewardConfig
from prefrl.files import DamagedFileError, Tree, load_tree, taken_from
from prefrl.reading import MEBIBYTE
from prefrl.reward.inputs import Inputs
from prefrl.reward.loss import preference_logit
from prefrl.reward.networks import StackedCNN, StackedMLP
from prefrl.types import Array, Floats, Segment

_INPUT_CLIP = 10.0
_CHUNK_NUMBERS = 2**23
"""Numbers in the largest batch that is only predicted: 300 stacks of Atari frames, or every vector there will be."""


class RewardEnsemble(nn.Module):
    """K predictors; their outputs are normalised separately, averaged, and the average scaled to one deviation.

    Vectors are normalised by statistics of the labelled segments that travel with the weights, never by the agent's own
    running normalisation, which would drift under the model; images go in as they are.
    """

    input_mean: Tensor
    input_std: Tensor
    member_mean: Tensor
    member_std: Tensor
    scale: Tensor

    network: StackedMLP | StackedCNN

    def __init__(self, config: RewardConfig, inputs: Inputs) -> None:
        super().__init__()
        self.inputs = inputs
        self.target_std = config.target_std
        if inputs.images:
            channels, height, width = inputs.step
            size = (channels, height, width)
            self.network = StackedCNN(config.members, size, config.negative_slope, config.dropout)
        else:
            self.network = StackedMLP(config.members, inputs.step[0], config.hidden, config.negative_slope)
        self.register_buffer("input_mean", torch.zeros(1 if inputs.images else inputs.step))
        self.register_buffer("input_std", torch.ones(1 if inputs.images else inputs.step))
        self.register_buffer("member_mean", torch.zeros(config.members, 1))
        self.register_buffer("member_std", torch.ones(config.members, 1))
        self.register_buffer("scale", torch.tensor(config.target_std))

    def forward(self, steps: Tensor) -> Tensor:
        """Each member's reward before output normalisation.

        Args:
            steps: (..., *step).

        Returns:
            (K, ...)
        """
        shape = steps.shape[: -len(self.inputs.step)]
        outputs: Tensor = self.network(self._normalised(steps.reshape(-1, *self.inputs.step)))
        return outputs.reshape(-1, *shape)

    def forward_each(self, steps: Tensor) -> Tensor:
        """Each member's reward, before output normalisation, for steps of its own.

        Args:
            steps: (K, ..., *step).

        Returns:
            (K, ...)
        """
        shape = steps.shape[: -len(self.inputs.step)]
        outputs: Tensor = self.network(self._normalised(steps.reshape(len(steps), -1, *self.inputs.step)))
        return outputs.reshape(shape)

    def _normalised(self, steps: Tensor) -> Tensor:
        if self.inputs.images:
            return steps
        return ((steps - self.input_mean) / self.input_std).clamp(-_INPUT_CLIP, _INPUT_CLIP)

    @torch.no_grad()
    def predict(self, steps: Tensor) -> Tensor:
        """`forward` without gradients and dropout, in batches that fit into memory: (N, *step) to (K, N)."""
        training = self.training
        self.eval()
        size = max(1, _CHUNK_NUMBERS // steps[0].numel())
        outputs = torch.cat([self(chunk.to(self.scale.device)) for chunk in torch.split(steps, size)], dim=1)
        self.train(training)
        return outputs

    @torch.no_grad()
    def reward(self, steps: Tensor) -> Tensor:
        """The reward that the agent gets.

        Args:
            steps: (N, *step).

        Returns:
            (N,) mean zero and the target deviation over the segments that the normalisation was fitted to.
        """
        return self.combine(self.predict(steps))

    @torch.no_grad()
    def combine(self, outputs: Tensor) -> Tensor:
        """`reward` from what `predict` gave: (K, N) to (N,)."""
        return self._average(outputs) * self.scale

    @torch.no_grad()
    def fit_output_normalisation(self, steps: Tensor) -> None:
        """Set each member's mean and deviation, then the scale of their average, from a sample of steps (N, *step)."""
        outputs = self.predict(steps)
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
        kept = torch.from_numpy(np.stack([segments[index].features for index in used]))
        steps = self.inputs.steps(kept)
        outputs = self.predict(steps.flatten(0, 1)).reshape(-1, *steps.shape[:2])
        sums = outputs.sum(dim=-1, keepdim=True)  # before pairs are made: a segment is in many
        logits = preference_logit(sums[:, torch.as_tensor(places.reshape(pairs.shape))])
        return np.asarray(torch.sigmoid(logits).cpu().numpy())

    def score(self, steps: Array) -> Floats:
        """`reward` from and to NumPy: (N, *step) to (N,)."""
        rewards = self.reward(torch.from_numpy(steps))
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
            tree = load_tree(self._path, largest_weights(self.ensemble))
        except DamagedFileError:
            return False  # the learner replaces it whole
        with taken_from(self._path):
            load_weights(self.ensemble, tree)
            self._stamp, self.metrics = stamp, {name: value + 0 for name, value in tree["metrics"].items()}
        return True


def largest_weights(ensemble: RewardEnsemble) -> int:
    """Bytes that a file of its weights may have; it has half as many, and figures beside."""
    return 2 * sum(int(tensor.nbytes) for tensor in ensemble.state_dict().values()) + MEBIBYTE


def load_weights(ensemble: RewardEnsemble, tree: Tree) -> None:
    """Copy published weights into an ensemble of the same shape."""
    ensemble.load_state_dict({name: torch.from_numpy(array) for name, array in tree["weights"].items()})
