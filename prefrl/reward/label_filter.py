"""Leave out or reverse labels that contradict the reward model too much (RIME: Cheng et al., 2024, section 4.1).

People make mistakes. Once the model has learned from the other labels, a mistake contradicts a confident prediction.
The filter is applied to all labels before each pass over them, so a label that was left out can come back. The
statistics are those of the paper's code, except that a tie's divergence is zero if it is predicted as a tie, and the
variance is about the mean of all trusted divergences, rather than about a moving average.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from prefrl.config import RewardConfig
from prefrl.reward.dataset import Dataset
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.loss import preference_logit
from prefrl.storage.files import Tree

_SLOPE = 0.5
"""alpha."""
_FIRST_TOLERANCE, _LAST_TOLERANCE = 3.0, 1.0
"""beta at first and at last."""
_MOST_TOLERANCE = 3.0
_RATE = 0.1
"""Rate of the moving average x."""
_REVERSED = -math.log(0.001)
"""Divergence above which a label is reversed, tau_upper."""
_AT_ONCE = 256


def label_divergence(probability: Tensor, target: Tensor) -> Tensor:
    """Return the Kullback-Leibler divergence of predicted preferences from labels, D(label || P).

    D = mu ln(mu / P) + (1 - mu) ln((1 - mu) / (1 - P)), which is -ln P for left and -ln(1 - P) for right.

    Args:
        probability: (N,) predicted probabilities P that left is preferred.
        target: (N,) labels mu: 1 for left, 0 for right, 0.5 for a tie.

    Returns:
        (N,) in nats.
    """
    entropy = torch.special.entr(target) + torch.special.entr(1 - target)
    divergence: Tensor = -torch.xlogy(target, probability) - torch.xlogy(1 - target, 1 - probability) - entropy
    return divergence


@dataclass(frozen=True)
class Divergences:
    """Statistics of the divergences of trusted labels, over all applications of the filter."""

    largest: float = 0.0
    """x, moving average of the largest one."""
    count: int = 0
    mean: float = 0.0
    variance: float = 1.0

    def updated(self, trusted: Tensor) -> Divergences:
        """Add the (N,) divergences of labels that are trusted now."""
        if not (added := len(trusted)):
            return self
        largest = self.largest + _RATE * (float(trusted.max()) - self.largest)
        count, change = self.count + added, float(trusted.mean()) - self.mean
        squares = self.variance * self.count + float(trusted.var(correction=0)) * added
        squares += change**2 * self.count * added / count
        return Divergences(largest, count, self.mean + change * added / count, squares / count)


def trust_threshold(known: Divergences, beta: float) -> float:
    """Return the divergence below which a label is trusted: -ln x + x / 2 + min(beta * var, 3) (section 4.1, eq. 6).

    Args:
        known: Statistics of earlier applications, x and var.
        beta: Tolerance for labels that the model does not know yet.
    """
    return -math.log(known.largest + 1e-8) + _SLOPE * known.largest + min(beta * known.variance, _MOST_TOLERANCE)


def tolerance(application: int, applications: int) -> float:
    """Return beta, which falls linearly from 3 to 1 within so many applications of the filter, and then stays."""
    fallen = (_FIRST_TOLERANCE - _LAST_TOLERANCE) * application / applications
    return max(_LAST_TOLERANCE, _FIRST_TOLERANCE - fallen)


@dataclass(frozen=True)
class Verdict:
    """Which of N labels are trusted and which reversed; the others are left out."""

    trusted: Tensor
    """(N,)"""
    reversed: Tensor
    """(N,) none of them trusted."""


def verdict(divergence: Tensor, threshold: float) -> Verdict:
    """Judge labels by their (N,) divergences."""
    turned = divergence > _REVERSED
    return Verdict((divergence < threshold) & ~turned, turned)


class LabelFilter:
    """Applies the filter to a dataset. At first, x is zero, and only labels that are reversed are not trusted."""

    def __init__(self, config: RewardConfig, ensemble: RewardEnsemble, dataset: Dataset) -> None:
        self._config, self._ensemble, self._dataset = config, ensemble, dataset
        self._applied = 0
        self._known = Divergences()
        self._fitted = 0
        """Labels fitted at the last application."""

    def apply_after_a_pass(self, fitted: int) -> None:
        """Apply the filter if as many labels were fitted since the last time as a pass has: those not left out."""
        if not self._applied or fitted - self._fitted >= self._dataset.used:
            self._fitted = fitted
            self.apply()

    @torch.no_grad()
    def apply(self) -> None:
        """Judge every label by the current model; if it would leave out all of them, the last verdict stays."""
        data = self._dataset
        divergence = label_divergence(self._predicted(), data.given)
        beta = tolerance(self._applied, self._config.trust_passes)
        found = verdict(divergence, trust_threshold(self._known, beta))
        self._known = self._known.updated(divergence[found.trusted])
        self._applied += 1
        if (used := found.trusted | found.reversed).any():
            data.judge(~used, found.reversed)

    def _predicted(self) -> Tensor:
        """Return the probability that left is preferred for each label, averaged over the members: (N,)."""
        self._ensemble.eval()
        steps = (self._dataset.segments.steps(slots) for slots in torch.split(self._dataset.slots, _AT_ONCE))
        found = torch.cat([torch.sigmoid(preference_logit(self._ensemble(part))).mean(dim=0) for part in steps])
        self._ensemble.train()
        return found

    def state_dict(self) -> Tree:
        """Return the statistics, and which labels are left out or reversed, by their ids."""
        numbers = {"applied": self._applied, "fitted": self._fitted}
        return {"filter": {**numbers, "known": asdict(self._known), **self._dataset.judged()}}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        kept = state["filter"]
        self._applied, self._fitted = kept["applied"], kept["fitted"]
        self._known = Divergences(**kept["known"])
        self._dataset.judge_labels(kept["left_out"], kept["reversed"])
