"""Losses with parameters, which are fitted, saved and published together with the networks of the ensemble."""

from __future__ import annotations

from torch import Tensor, nn

from prefrl.config import RewardConfig, RunConfig
from prefrl.feedback.kinds import kinds_of
from prefrl.registry import LOSSES, located
from prefrl.reward.batch import Batch


class Likelihood(nn.Module):
    """Base class of losses whose answers have a likelihood of their own, which may have parameters for each member."""

    def forward(self, rewards: Tensor, batch: Batch, config: RewardConfig) -> Tensor:
        """Compute the loss of each label; see `prefrl.reward.loss.Loss`."""
        raise NotImplementedError

    def expectation(self, rewards: Tensor) -> Tensor:
        """Return the expected answer, from which query rules derive how much the members disagree.

        Args:
            rewards: (K, S, L) predicted rewards of S segments.

        Returns:
            (K, S) from 0, the worst answer, to 1, the best.
        """
        raise NotImplementedError


def likelihoods_of(config: RunConfig) -> dict[str, Likelihood]:
    """Create the likelihoods of a run's losses and of its feedback kinds, by their names in `registry.LOSSES`."""
    names = {*config.losses.values(), *(kind.likelihood for kind in kinds_of(config).values())}
    made = {name: located(LOSSES[name].function)(config) for name in sorted(names) if LOSSES[name].is_likelihood}
    assert all(isinstance(likelihood, Likelihood) for likelihood in made.values())
    return made
