"""Losses and related functions for fitting a reward to labels (paper, sections 2.2.1 and 2.2.3).

All are pure functions. `prefrl.registry.LOSSES` lists the losses by name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from prefrl.arrays import Array
from prefrl.config import RewardConfig
from prefrl.reward.batch import Batch
from prefrl.seeding import stream


class Loss(Protocol):
    """A loss for the reward model."""

    def __call__(self, rewards: Tensor, batch: Batch, config: RewardConfig) -> Tensor:
        """Compute the loss of each label.

        Args:
            rewards: (K, B, A, L) each member's predictions for the steps of the batch.
            batch: The labels.
            config: The settings of the reward model.

        Returns:
            (K, B)
        """


def bradley_terry(rewards: Tensor, batch: Batch, config: RewardConfig) -> Tensor:
    """Return the `comparison_loss` of a batch of comparisons; a `Loss`."""
    return comparison_loss(preference_logit(rewards), batch.target, config.error)


def true_reward(rewards: Tensor, batch: Batch, config: RewardConfig) -> Tensor:
    """Return the `regression_loss` on a batch's true rewards, independent of the labels; a `Loss`."""
    return regression_loss(rewards, batch.true_rewards)


def preference_logit(rewards: Tensor) -> Tensor:
    """Return the log-odds that the first segment is preferred, the difference of the undiscounted sums of rewards.

    Args:
        rewards: (..., A, L) predicted rewards of the segments' steps. Of two segments, the left one is first. More
            than two: the first is compared with the mean of the others. A single segment is compared with zero.

    Returns:
        (...)
    """
    sums = rewards.sum(dim=-1)
    others = sums.shape[-1] - 1
    return sums[..., 0] - sums[..., 1:].sum(dim=-1) / max(1, others)


def comparison_loss(logit: Tensor, mu: Tensor, error: float) -> Tensor:
    """Return the cross-entropy of judgements under the Bradley-Terry model with a constant probability of error.

    With P = sigmoid(logit) and a teacher who answers at random with probability e, P' = (1 - e) P + e / 2 and
    loss = -mu log P' - (1 - mu) log(1 - P'). The error bounds the loss, and the gradient vanishes if a judgement
    contradicts a confident prediction.

    Args:
        logit: (...) log-odds that left is preferred.
        mu: (...) labels: 1 if left is preferred, 0 if right, 0.5 for a tie.
        error: e, the probability of a random answer, in [0, 1).

    Returns:
        (...) losses of the comparisons, in nats.
    """
    keep = math.log1p(-error)
    left, right = functional.logsigmoid(logit) + keep, functional.logsigmoid(-logit) + keep
    if error > 0:
        floor = torch.full_like(logit, math.log(error / 2))
        left, right = torch.logaddexp(left, floor), torch.logaddexp(right, floor)
    return -(mu * left + (1 - mu) * right)


def regression_loss(rewards: Tensor, true_rewards: Tensor) -> Tensor:
    """Return the mean squared error of the segments' total predicted rewards: the paper's ablation `target` (3.3).

    It is divided by L, so that its scale does not depend on the length of a clip: independent noise of variance v in
    the predictions of all steps costs v for any L.

    Args:
        rewards: (..., A, L) predicted rewards.
        true_rewards: (..., A, L) true rewards.

    Returns:
        (...)
    """
    totals = (rewards - true_rewards).sum(dim=-1)
    return totals.square().mean(dim=-1) / rewards.shape[-1]


def running_mean(mean: Tensor, newest: Tensor, decay: float) -> Tensor:
    """Update an exponential moving average.

    Args:
        mean: (K,) current averages; NaN before the first value.
        newest: (K,) new values; NaN for no value.
        decay: Weight of the current average.

    Returns:
        (K,)
    """
    mixed = decay * mean + (1 - decay) * newest
    return torch.where(newest.isnan(), mean, torch.where(mean.isnan(), newest, mixed))


def mixed_mean(means: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return each member's mean loss over the labels of several feedback kinds.

    Args:
        means: (K,) each member's mean loss for each kind; NaN for a member without labels of that kind.
        weights: The share of each kind among all labels.

    Returns:
        (K,) means weighted by the shares; NaN for a member without labels.
    """
    if len(means) == 1:
        return means[0]
    each = torch.stack(list(means))
    known = torch.tensor(weights, dtype=each.dtype, device=each.device)[:, None] * ~each.isnan()
    return (known * each.nan_to_num()).sum(dim=0) / known.sum(dim=0)


def multiplicity(seed: int, answer: int, members: int) -> Array:
    """Draw the multiplicity of a label in each member's bootstrap sample.

    It is Poisson(1), the limit of drawing |D| labels out of |D| with replacement. The draw depends only on the seed
    and the label, so it does not change as the data grow. With probability 1/e, as in the paper, it is zero, which
    holds the label out for validation.

    Args:
        seed: The run's seed.
        answer: Id of the label's answer.
        members: K, the number of members.

    Returns:
        (K,) integers.
    """
    return stream(seed, "bootstrap", answer).poisson(1.0, members)


def adapted_l2(coefficient: Tensor, ratio: Tensor, low: float, high: float, rate: float) -> Tensor:
    """Adapt L2 coefficients: raise them if validation loss exceeds `high` times training loss, lower them below `low`.

    Args:
        coefficient: (K,) current coefficients.
        ratio: (K,) validation loss over training loss; NaN leaves a coefficient unchanged.
        low: Lower limit of the ratio, 1.1 in the paper.
        high: Upper limit of the ratio, 1.5 in the paper.
        rate: Relative change of the coefficient.

    Returns:
        (K,)
    """
    factor = torch.ones_like(coefficient)
    factor = torch.where(ratio > high, factor * (1 + rate), factor)
    factor = torch.where(ratio < low, factor * (1 - rate), factor)
    return coefficient * factor
