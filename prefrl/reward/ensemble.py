"""The reward model: an ensemble with its input and output normalisation (paper, section 2.2.3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from prefrl.arrays import Array, Floats
from prefrl.config import RewardConfig
from prefrl.experience.inputs import Inputs
from prefrl.experience.segment import Segment
from prefrl.reward.input_normalisation import InputNormaliser
from prefrl.reward.likelihood import Likelihood
from prefrl.reward.loss import preference_logit
from prefrl.reward.networks import make_network
from prefrl.reward.normalisation import PUBLISHED
from prefrl.storage.files import Tree

OUTPUTS: dict[str, Callable[[Tensor], Tensor]] = {"identity": lambda outputs: outputs, "tanh": torch.tanh}
"""Functions of a network's output by `reward.output`."""
_CHUNK_NUMBERS = 2**23
"""Numbers in the largest batch of a prediction: 300 stacks of Atari frames, or any number of vectors in practice."""


class RewardEnsemble(nn.Module):
    """An ensemble of K predictors. Their outputs are normalised separately and averaged, and the average is rescaled.

    Input vectors are normalised by statistics of the labelled segments, which are saved with the weights. The agent's
    running normalisation is not used, because its drift would change the predictions. Images are not normalised.
    """

    def __init__(
        self, config: RewardConfig, inputs: Inputs, likelihoods: Mapping[str, Likelihood] = MappingProxyType({})
    ) -> None:
        """Create an untrained ensemble.

        Args:
            config: The network, K, and the standard deviation of the reward.
            inputs: The inputs of a step.
            likelihoods: Losses with parameters, by their names in `registry.LOSSES`.

        Raises:
            UsageError: if the network cannot read these inputs.
        """
        super().__init__()
        self.inputs = inputs
        self.network = make_network(config, inputs.read)
        self.likelihoods = nn.ModuleDict(dict(likelihoods))
        """Losses that are saved and published with the networks."""
        self._output = OUTPUTS[config.output]
        self.input_normaliser = InputNormaliser(inputs, enabled=config.normalise_inputs)
        self.output_normaliser = PUBLISHED[config.normalise_over](config.members, config.target_std)

    def forward(self, steps: Tensor) -> Tensor:
        """Predict each member's reward before output normalisation, on the same steps.

        Args:
            steps: (..., *step)

        Returns:
            (K, ...)
        """
        shape = steps.shape[: -len(self.inputs.step)]
        outputs = self._output(self.network(self.input_normaliser(steps.reshape(-1, *self.inputs.step))))
        return outputs.reshape(-1, *shape)

    def forward_each(self, steps: Tensor) -> Tensor:
        """Predict each member's reward before output normalisation, on its own steps.

        Args:
            steps: (K, ..., *step)

        Returns:
            (K, ...)
        """
        shape = steps.shape[: -len(self.inputs.step)]
        outputs = self._output(self.network(self.input_normaliser(steps.reshape(len(steps), -1, *self.inputs.step))))
        return outputs.reshape(shape)

    @torch.no_grad()
    def predict(self, steps: Tensor) -> Tensor:
        """Predict without gradients and dropout, in batches that fit into memory.

        Args:
            steps: (N, *step)

        Returns:
            (K, N) rewards before output normalisation.
        """
        training = self.training
        self.eval()
        size = max(1, _CHUNK_NUMBERS // steps[0].numel())
        device = self.output_normaliser.scale.device
        outputs = torch.cat([self(chunk.to(device)) for chunk in torch.split(steps, size)], dim=1)
        self.train(training)
        return outputs

    @torch.no_grad()
    def reward(self, steps: Tensor) -> Tensor:
        """Predict the normalised reward.

        Args:
            steps: (N, *step)

        Returns:
            (N,) rewards with mean zero and the target deviation over the steps on which the normalisation was fitted.
        """
        return self.combine(self.predict(steps))

    @torch.no_grad()
    def combine(self, outputs: Tensor) -> Tensor:
        """Compute `reward` from the result of `predict`: (K, N) to (N,)."""
        rewards: Tensor = self.output_normaliser(outputs)
        return rewards

    @torch.no_grad()
    def mean_and_deviation(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Predict the normalised reward, and how much the members differ in it (RUNE: Liang et al., 2022).

        Args:
            steps: (N, *step)

        Returns:
            (N,) `reward`, and the (N,) standard deviation over the members of what each of them alone predicts, in the
            same unit. It is divided by K, and is thus zero for a single member.
        """
        return self.output_normaliser.mean_and_deviation(self.predict(steps))

    @torch.no_grad()
    def fit_output_normalisation(self, steps: Tensor) -> None:
        """Fit the output normalisation to a sample of steps, (N, *step)."""
        self.output_normaliser.fit(self.predict(steps))

    @torch.no_grad()
    def predict_preferences(self, segments: Sequence[Segment], queries: Array) -> Array:
        """Predict each member's probability that the first segment of a query is preferred; see `preference_logit`.

        Args:
            segments: Segments; only those that occur in `queries` are evaluated.
            queries: (B, A) indices of segments.

        Returns:
            (K, B)
        """
        used, places = np.unique(queries, return_inverse=True)
        kept = torch.from_numpy(np.stack([self.inputs.features(segments[index]) for index in used]))
        steps = self.inputs.steps(kept)
        outputs = self.predict(steps.flatten(0, 1)).reshape(-1, *steps.shape[:2])
        sums = outputs.sum(dim=-1, keepdim=True)  # once per segment, because a segment is in many queries
        logits = preference_logit(sums[:, torch.as_tensor(places.reshape(queries.shape))])
        return np.asarray(torch.sigmoid(logits).cpu().numpy())

    def predictor(self, loss: str) -> Callable[[Sequence[Segment], Array], Array]:
        """Return the function that predicts the answers to queries whose labels have a loss, by its name.

        For a `Likelihood`, it returns each member's expected answer, from 0 to 1; otherwise, `predict_preferences`.
        """
        return partial(self._predict_answers, loss) if loss in self.likelihoods else self.predict_preferences

    @torch.no_grad()
    def _predict_answers(self, loss: str, segments: Sequence[Segment], queries: Array) -> Array:
        used, places = np.unique(queries, return_inverse=True)
        steps = self.inputs.steps(torch.from_numpy(np.stack([self.inputs.features(segments[index]) for index in used])))
        outputs = self.predict(steps.flatten(0, 1)).reshape(-1, *steps.shape[:2])
        likelihood = self.likelihoods[loss]
        assert isinstance(likelihood, Likelihood)
        expected = likelihood.expectation(outputs)
        return np.asarray(expected.cpu().numpy())[:, places.reshape(-1)]

    def score(self, steps: Array) -> Floats:
        """Compute `reward` on NumPy arrays: (N, *step) to (N,)."""
        rewards = self.reward(torch.from_numpy(steps))
        return np.asarray(rewards.cpu().numpy())

    def load_arrays(self, arrays: Tree) -> None:
        """Load weights and statistics from the arrays of a `state_dict` of this or an older version.

        Likelihoods that this ensemble does not have are left out: the reward does not depend on them.
        """
        named = {_OLDER.get(name, name): array for name, array in arrays.items()}
        kept = (name for name in named if not name.startswith("likelihoods.") or name.split(".")[1] in self.likelihoods)
        self.load_state_dict({name: torch.from_numpy(named[name]) for name in kept})


_OLDER = {
    "input_mean": "input_normaliser.mean",
    "input_std": "input_normaliser.std",
    "member_mean": "output_normaliser.mean",
    "member_std": "output_normaliser.std",
    "scale": "output_normaliser.scale",
}
"""Older names of the statistics."""
