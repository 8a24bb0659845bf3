"""The reward model: an ensemble with its input and output normalisation (paper, section 2.2.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from prefrl.arrays import Array, Floats
from prefrl.config import RewardConfig
from prefrl.experience.inputs import Inputs
from prefrl.experience.segment import Segment
from prefrl.reward.input_normalisation import InputNormaliser
from prefrl.reward.loss import preference_logit
from prefrl.reward.networks import make_network
from prefrl.reward.normalisation import OutputNormaliser
from prefrl.storage.files import Tree

_CHUNK_NUMBERS = 2**23
"""Numbers in the largest batch that is only predicted: 300 stacks of Atari frames, or every vector there will be."""


class RewardEnsemble(nn.Module):
    """K predictors; their outputs are normalised separately, averaged, and the average scaled to one deviation.

    Vectors are normalised by statistics of the labelled segments that travel with the weights, never by the agent's own
    running normalisation, which would drift under the model; images go in as they are.
    """

    def __init__(self, config: RewardConfig, inputs: Inputs) -> None:
        """Make an untrained ensemble.

        Args:
            config: Its network, K, and the deviation of its reward.
            inputs: What it reads of a step.

        Raises:
            UsageError: if the network cannot read these inputs.
        """
        super().__init__()
        self.inputs = inputs
        self.network = make_network(config, inputs)
        self.input_normaliser = InputNormaliser(inputs)
        self.output_normaliser = OutputNormaliser(config.members, config.target_std)

    def forward(self, steps: Tensor) -> Tensor:
        """Each member's reward before output normalisation.

        Args:
            steps: (..., *step).

        Returns:
            (K, ...)
        """
        shape = steps.shape[: -len(self.inputs.step)]
        outputs: Tensor = self.network(self.input_normaliser(steps.reshape(-1, *self.inputs.step)))
        return outputs.reshape(-1, *shape)

    def forward_each(self, steps: Tensor) -> Tensor:
        """Each member's reward, before output normalisation, for steps of its own.

        Args:
            steps: (K, ..., *step).

        Returns:
            (K, ...)
        """
        shape = steps.shape[: -len(self.inputs.step)]
        outputs: Tensor = self.network(self.input_normaliser(steps.reshape(len(steps), -1, *self.inputs.step)))
        return outputs.reshape(shape)

    @torch.no_grad()
    def predict(self, steps: Tensor) -> Tensor:
        """`forward` without gradients and dropout, in batches that fit into memory: (N, *step) to (K, N)."""
        training = self.training
        self.eval()
        size = max(1, _CHUNK_NUMBERS // steps[0].numel())
        device = self.output_normaliser.scale.device
        device = self.output_normaliser.scale.device
        outputs = torch.cat([self(chunk.to(device)) for chunk in torch.split(steps, size)], dim=1)
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
        rewards: Tensor = self.output_normaliser(outputs)
        return rewards

    @torch.no_grad()
    def fit_output_normalisation(self, steps: Tensor) -> None:
        """Set each member's mean and deviation, then the scale of their average, from a sample of steps (N, *step)."""
        self.output_normaliser.fit(self.predict(steps))

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

    def load_arrays(self, arrays: Tree) -> None:
        """Take weights and statistics from arrays: those of `state_dict`, of this version or an older one."""
        self.load_state_dict({_OLDER.get(name, name): torch.from_numpy(array) for name, array in arrays.items()})


_OLDER = {
    "input_mean": "input_normaliser.mean",
    "input_std": "input_normaliser.std",
    "member_mean": "output_normaliser.mean",
    "member_std": "output_normaliser.std",
    "scale": "output_normaliser.scale",
}
"""What older versions called the statistics."""
