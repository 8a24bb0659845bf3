"""How well a reward model predicts labels, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from prefrl.arrays import Array, Floats
from prefrl.reward.loss import comparison_loss
from prefrl.runs.metrics import correlation


@dataclass(frozen=True)
class Figures:
    """How well a reward model predicts some comparisons."""

    right: int
    """Left/right labels whose preferred segment the averaged model gives the higher sum."""
    decided: int
    """Left/right labels."""
    ties: int
    """Labels that call both segments equal; in the loss only."""
    log_loss: float
    """The members' mean loss in nats, as it is trained on; chance is ln 2."""
    correlation: float | None
    """Of predicted and true sums of the segments compared; None where one of them does not vary."""

    @property
    def accuracy(self) -> float | None:
        """Share of the left/right labels that is predicted; None where there are none."""
        return self.right / self.decided if self.decided else None


def figures(members: Tensor, averaged: Floats, true: Floats, pairs: Array, mu: Array, error: float) -> Figures:
    """Figures from the sums of reward over each of S segments.

    Args:
        members: (K, S) sums that each member predicts, before output normalisation.
        averaged: (S,) sums that the agent gets.
        true: (S,) sums of the task's own reward.
        pairs: (B, 2) the segments compared, left and right.
        mu: (B,) share of the preference that left got: 1, 0, or one half for a tie.
        error: The probability of a random answer that the loss assumes.
    """
    decided = mu != 0.5
    difference = averaged[pairs[:, 0]] - averaged[pairs[:, 1]]
    right = decided & (difference * (mu - 0.5) > 0)  # two equal sums predict nothing
    logits = members[:, torch.from_numpy(pairs[:, 0])] - members[:, torch.from_numpy(pairs[:, 1])]
    loss = comparison_loss(logits.double(), torch.from_numpy(mu), error).mean()
    compared = sorted({int(segment) for segment in pairs.flat})
    correlated = correlation(averaged[compared], true[compared])
    return Figures(int(right.sum()), int(decided.sum()), int((~decided).sum()), float(loss), correlated)
