"""The likelihood of marks: the log-odds that a step is good are its predicted reward."""

from __future__ import annotations

import torch
from torch import Tensor

from prefrl.config import RewardConfig, RunConfig
from prefrl.reward.batch import Batch
from prefrl.reward.likelihood import Likelihood
from prefrl.reward.loss import comparison_loss


def mark_loss(rewards: Tensor, signs: Tensor, error: float) -> Tensor:
    """Return the negative log-likelihood of a segment's marks, with a constant probability of a random mark.

    P(good) = sigmoid(r_t), and P' = (1 - e) P + e / 2. Steps without a mark tell nothing: people do not mark everything
    that they find good.

    Args:
        rewards: (..., L) predicted rewards.
        signs: (..., L) 1 for good, -1 for bad, 0 for no mark.
        error: e.

    Returns:
        (...) sums over the marks, in nats.
    """
    return (comparison_loss(rewards, (signs > 0).to(rewards.dtype), error) * (signs != 0)).sum(dim=-1)


class StepOdds(Likelihood):
    """The likelihood of marks, which has no parameters: the sign of the reward is that of the marks."""

    @classmethod
    def from_config(cls, config: RunConfig) -> StepOdds:
        """Create the likelihood."""
        return cls()

    def forward(self, rewards: Tensor, batch: Batch, config: RewardConfig) -> Tensor:
        """Return the `mark_loss` of each label."""
        return mark_loss(rewards[:, :, 0], batch.target, config.error)

    def expectation(self, rewards: Tensor) -> Tensor:
        """Return the expected share of good steps."""
        return torch.sigmoid(rewards).mean(dim=-1)
