"""The mathematics of fitting a reward to labels, as pure functions (paper, sections 2.2.1 and 2.2.3).

What a reward model can be fitted by is in `prefrl.registry.LOSSES`, by name.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from prefrl.arrays import Array
from prefrl.config import RewardConfig
from prefrl.reward.batch import Batch
from prefrl.seeding import stream


class Loss(Protocol):
    """What a reward model is fitted by."""

    def __call__(self, rewards: Tensor, batch: Batch, config: RewardConfig) -> Tensor:
        """Each label's loss.

        Args:
            rewards: (K, B, A, L) what each member predicts for the steps of the batch.
            batch: The labels.
            config: How the reward is fitted.

        Returns:
            (K, B)
        """


def bradley_terry(rewards: Tensor, batch: Batch, config: RewardConfig) -> Tensor:
    """`comparison_loss` of a batch of comparisons; a `Loss`."""
    return comparison_loss(preference_logit(rewards), batch.target, config.error)


def true_reward(rewards: Tensor, batch: Batch, config: RewardConfig) -> Tensor:
    """`regression_loss` on a batch's own rewards, whatever its labels say; a `Loss`."""
    return regression_loss(rewards, batch.true_rewards)


def preference_logit(rewards: Tensor) -> Tensor:
    """The log-odds that the first segment is preferred: the difference of the undiscounted sums of predicted reward.

    Args:
        rewards: (..., A, L) predicted rewards of the segments' steps. Of two, the left one comes first; with more, the
            first is measured against the mean of the others; a single one against a sum of zero.

    Returns:
        (...)
    """
    sums = rewards.sum(dim=-1)
    others = sums.shape[-1] - 1
    return sums[..., 0] - sums[..., 1:].sum(dim=-1) / max(1, others)


def comparison_loss(logit: Tensor, mu: Tensor, error: float) -> Tensor:
    """Cross-entropy of a judgement under the Bradley-Terry model with a constant probability of error.

    With P = sigmoid(logit) and a teacher who answers at random with probability e, P' = (1 - e) P + e / 2 and
    loss = -mu log P' - (1 - mu) log(1 - P'). The error bounds the loss, and its gradient vanishes for a confidently
    contradicted judgement: it changes learning, not only the reported loss.

    Args:
        logit: (...) log-odds of left.
        mu: (...) share of the preference that left got: 1, 0, or one half for a tie.
        error: e, the probability of a random answer, in [0, 1).

    Returns:
        (...) one loss a comparison, in nats.
    """
    keep = math.log1p(-error)
    left, right = functional.logsigmoid(logit) + keep, functional.logsigmoid(-logit) + keep
    if error > 0:
        floor = torch.full_like(logit, math.log(error / 2))
        left, right = torch.logaddexp(left, floor), torch.logaddexp(right, floor)
    return -(mu * left + (1 - mu) * right)


def regression_loss(rewards: Tensor, true_rewards: Tensor) -> Tensor:
    """Mean squared error of a segment's total predicted reward: the paper's ablation `target` (section 3.3).

    Divided by L, so that its scale does not depend on the length of a clip: noise of variance v in every step's
    prediction costs v whatever L is.

    Args:
        rewards: (..., A, L) predicted.
        true_rewards: (..., A, L) the task's own.

    Returns:
        (...)
    """
    totals = (rewards - true_rewards).sum(dim=-1)
    return totals.square().mean(dim=-1) / rewards.shape[-1]


def running_mean(mean: Tensor, newest: Tensor, decay: float) -> Tensor:
    """The next exponentially weighted mean, where NaN stands for "not yet" (the mean) or "none this time" (the newest).

    Args:
        mean: (K,) so far.
        newest: (K,) values.
        decay: Weight of what was there.

    Returns:
        (K,)
    """
    mixed = decay * mean + (1 - decay) * newest
    return torch.where(newest.isnan(), mean, torch.where(mean.isnan(), newest, mixed))


def multiplicity(seed: int, answer: int, members: int) -> Array:
    """How often each member's bootstrap holds a label: Poisson(1), the limit of drawing |D| out of |D|.

    Keyed by the answer, so that it is drawn once and never again however the data grow; it is zero, and the
    label thus held out for validation, with probability 1/e as in the paper.

    Args:
        seed: The run's seed.
        answer: The answer's id.
        members: K.

    Returns:
        (K,) whole numbers.
    """
    return stream(seed, "bootstrap", answer).poisson(1.0, members)


def adapted_l2(coefficient: Tensor, ratio: Tensor, low: float, high: float, rate: float) -> Tensor:
    """The next L2 coefficient: up where validation loss exceeds `high` times training loss, down under `low` times.

    Args:
        coefficient: (K,).
        ratio: (K,) validation over training loss; NaN leaves a coefficient as it is.
        low: The paper's 1.1.
        high: The paper's 1.5.
        rate: Relative change.

    Returns:
        (K,)
    """
    factor = torch.ones_like(coefficient)
    factor = torch.where(ratio > high, factor * (1 + rate), factor)
    factor = torch.where(ratio < low, factor * (1 - rate), factor)
    return coefficient * factor
