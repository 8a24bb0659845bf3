"""Metrics of a reward model's predictions on labels, as pure functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from prefrl.arrays import Floats
from prefrl.config import RewardConfig
from prefrl.feedback.kinds import FeedbackKind
from prefrl.registry import LOSSES, located
from prefrl.reward.batch import Batch
from prefrl.reward.loss import Loss
from prefrl.runs.metrics import correlation


@dataclass(frozen=True)
class RewardMetrics:
    """Metrics of a reward model's predictions on some labels."""

    right: int
    """Decided labels with which the averaged model agrees; see `FeedbackKind.correct`."""
    decided: int
    """Number of labels that a prediction can agree with; of comparisons, those that prefer a side."""
    ties: int
    """Number of the other labels, e.g. comparisons that judge both segments equal. They count only in the loss."""
    loss: float
    """Mean loss of the members by the feedback kind's likelihood. Of comparisons in nats, and ln 2 for a guess."""
    correlation: float | None
    """Correlation of predicted and true sums over the segments; None if one of them does not vary."""
    members_right: tuple[int, ...] = ()
    """Decided labels with which each member alone agrees."""

    @property
    def labels(self) -> int:
        """Number of all labels."""
        return self.decided + self.ties

    @property
    def accuracy(self) -> float | None:
        """Fraction of the decided labels that are predicted correctly; None if there are none."""
        return self.right / self.decided if self.decided else None


def reward_metrics(
    kind: FeedbackKind,
    members: Tensor,
    averaged: Floats,
    true: Floats,
    batch: Batch,
    config: RewardConfig,
    loss: Loss | None = None,
) -> RewardMetrics:
    """Compute metrics from the predicted rewards of S segments.

    Args:
        kind: The labels' feedback kind.
        members: (K, S, L) predictions of each member, before output normalisation.
        averaged: (S, L) normalised rewards.
        true: (S,) sums of the true reward.
        batch: The labels, the same for each member. The slot of a segment is its index.
        config: The training of the reward model.
        loss: The fitted likelihood of the kind; None if it has no parameters.
    """
    slots, targets = batch.slots[0].numpy(), batch.target[0].numpy()
    correct = kind.correct(averaged[slots], targets)
    loss = loss or located(LOSSES[kind.likelihood].function)
    mean = loss(members[:, batch.slots[0]].double(), batch, config).mean()
    used, decided = np.unique(slots), int(np.isfinite(correct).sum())
    correlated = correlation(averaged.sum(axis=1)[used], true[used])
    alone = (kind.correct(member[slots], targets) for member in members.numpy())
    right, *each = (int(np.nansum(found)) for found in (correct, *alone))
    return RewardMetrics(right, decided, len(targets) - decided, float(mean.detach()), correlated, tuple(each))
