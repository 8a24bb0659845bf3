"""The likelihood of ratings: proportional odds with learned, ordered thresholds (McCullagh, 1980)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from prefrl.config import RewardConfig, RunConfig
from prefrl.reward.batch import Batch
from prefrl.reward.likelihood import Likelihood


def rating_log_probabilities(sums: Tensor, gaps: Tensor) -> Tensor:
    """Return the log-probability of each rating under the proportional-odds model.

    P(rating <= k) = sigmoid(theta_k - s), where s is the segment's sum of rewards, and theta_1 < ... < theta_{C-1} are
    the thresholds. Their mean is zero, so that a segment whose sum is zero lies in the middle of the scale: unlike
    comparisons, ratings determine the offset of the sums. With a = theta_k - s > b = theta_{k-1} - s,
    log(sigmoid(a) - sigmoid(b)) = log sigmoid(a) + log sigmoid(-b) + log(1 - exp(b - a)), which does not cancel.

    Args:
        sums: (K, B) each member's sums.
        gaps: (K, C - 2) positive differences between neighbouring thresholds.

    Returns:
        (K, B, C)
    """
    above = thresholds_of(gaps)[:, None] - sums[..., None]
    none, gap = torch.zeros_like(sums)[..., None], torch.log(-torch.expm1(-gaps))[:, None].expand(*sums.shape, -1)
    upper = torch.cat([functional.logsigmoid(above), none], dim=-1)
    lower = torch.cat([none, functional.logsigmoid(-above)], dim=-1)
    return upper + lower + torch.cat([none, gap, none], dim=-1)


def thresholds_of(gaps: Tensor) -> Tensor:
    """Return thresholds with these differences, (K, C - 2), and mean zero: (K, C - 1)."""
    raised = torch.cat([torch.zeros_like(gaps[:, :1]) if gaps.shape[1] else gaps.new_zeros(len(gaps), 1), gaps], dim=1)
    ordered = raised.cumsum(dim=1)
    return ordered - ordered.mean(dim=1, keepdim=True)


def rating_loss(sums: Tensor, gaps: Tensor, ratings: Tensor, error: float) -> Tensor:
    """Return the negative log-likelihood of ratings, with a constant probability of a random answer.

    Args:
        sums: (K, B) each member's sums of rewards.
        gaps: (K, C - 2) see `rating_log_probabilities`.
        ratings: (K, B) ratings from 1 to C.
        error: e, the probability that the rating is drawn uniformly: P' = (1 - e) P + e / C.

    Returns:
        (K, B) in nats.
    """
    each = rating_log_probabilities(sums, gaps)
    said = each.gather(-1, (ratings.long() - 1)[..., None]).squeeze(-1)
    kept = said + math.log1p(-error)
    if error > 0:
        kept = torch.logaddexp(kept, torch.full_like(kept, math.log(error / each.shape[-1])))
    return -kept


class ProportionalOdds(Likelihood):
    """Fits each member's thresholds together with its network.

    The gaps between thresholds are softplus of the parameters. At first, each rating is equally likely for a sum of
    zero, so that a model that guesses has the loss log C.
    """

    def __init__(self, members: int, steps: int) -> None:
        """Create the thresholds.

        Args:
            members: K, the number of members.
            steps: C, the number of steps on the scale.
        """
        super().__init__()
        first = torch.logit(torch.arange(1, steps, dtype=torch.float64) / steps).diff()
        self.raw_gaps = nn.Parameter(torch.log(torch.expm1(first)).float().expand(members, -1).clone())
        """(K, C - 2)"""

    @classmethod
    def from_config(cls, config: RunConfig) -> ProportionalOdds:
        """Create the likelihood of a run's ratings."""
        return cls(config.reward.members, config.queries.rating_steps)

    @property
    def gaps(self) -> Tensor:
        """(K, C - 2) differences between neighbouring thresholds."""
        return functional.softplus(self.raw_gaps)

    def forward(self, rewards: Tensor, batch: Batch, config: RewardConfig) -> Tensor:
        """Return the `rating_loss` of the sums over the segments."""
        return rating_loss(rewards.sum(dim=(2, 3)), self.gaps, batch.target, config.error)

    def expectation(self, rewards: Tensor) -> Tensor:
        """Return the expected rating, from 0 for the lowest to 1 for the highest."""
        probabilities = rating_log_probabilities(rewards.sum(dim=-1), self.gaps).exp()
        count = probabilities.shape[-1]
        return probabilities @ torch.linspace(0, 1, count, dtype=rewards.dtype, device=rewards.device)
