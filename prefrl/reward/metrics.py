"""Metrics of a reward model's predictions on labels, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prefrl.arrays import Array, Floats
from prefrl.reward.loss import comparison_loss
from prefrl.runs.metrics import correlation


@dataclass(frozen=True)
class RewardMetrics:
    """Metrics of a reward model's predictions on some comparisons."""

    right: int
    """Left/right labels for which the averaged model predicts the higher sum for the preferred segment."""
    decided: int
    """Number of left/right labels."""
    ties: int
    """Labels that judge both segments equal. They count only in the loss."""
    log_loss: float
    """Mean loss of the members in nats, as in training; ln 2 for a model that guesses."""
    correlation: float | None
    """Correlation of predicted and true sums over the segments; None if one of them does not vary."""

    @property
    def accuracy(self) -> float | None:
        """Fraction of the left/right labels that are predicted correctly; None if there are none."""
        return self.right / self.decided if self.decided else None


def reward_metrics(
    members: Tensor, averaged: Floats, true: Floats, pairs: Array, mu: Array, error: float
) -> RewardMetrics:
    """Compute metrics from the sums of rewards over each of S segments.

    Args:
        members: (K, S) sums of each member's predictions, before output normalisation.
        averaged: (S,) sums of the normalised reward.
        true: (S,) sums of the true reward.
        pairs: (B, 2) indices of the left and right segments.
        mu: (B,) labels: 1 if left is preferred, 0 if right, 0.5 for a tie.
        error: Assumed probability of a random answer.
    """
    decided = mu != 0.5
    difference = averaged[pairs[:, 0]] - averaged[pairs[:, 1]]
    right = decided & (difference * (mu - 0.5) > 0)  # equal sums are not a correct prediction
    logits = members[:, torch.from_numpy(pairs[:, 0])] - members[:, torch.from_numpy(pairs[:, 1])]
    loss = comparison_loss(logits.double(), torch.from_numpy(mu), error).mean()
    compared = sorted({int(segment) for segment in pairs.flat})
    correlated = correlation(averaged[compared], true[compared])
    return RewardMetrics(int(right.sum()), int(decided.sum()), int((~decided).sum()), float(loss), correlated)
