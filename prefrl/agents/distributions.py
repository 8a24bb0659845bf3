"""The distributions of a policy's actions: log-probabilities, entropies and Kullback-Leibler divergences, in nats."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common import distributions as sb3
from torch import Tensor, distributions
from torch.distributions.kl import kl_divergence
from torch.special import log_ndtr

BINS = 64
"""Bins per action dimension for policies of different families."""
_NODES = 32
"""Nodes of the Gauss-Hermite quadrature in the entropy of a squashed Gaussian."""
_LARGEST_TANH = 1 - 1e-6
"""Actions of a squashed Gaussian are clipped here before the inverse of tanh, as in Stable-Baselines3."""
_LEAST_SLOPE = 1e-6
"""Added to the slope of tanh before its logarithm, as in Stable-Baselines3."""


class ActionDistribution(Protocol):
    """The distribution of a policy's action in each of N states."""

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return the (N,) log-probabilities, or log-densities, of (N, *action) actions."""

    def entropy(self) -> Tensor:
        """Return the (N,) entropies; differential ones for continuous actions."""

    def divergence(self, reference: Any) -> Tensor:
        """Return the (N,) divergences KL(self || reference) from a distribution of the same class."""


class Executed(Protocol):
    """A distribution whose actions are executed in a box, so that those of different families can be compared."""

    def log_masses(self, edges: Tensor) -> Tensor:
        """Return the log-probabilities of bins of the executed action, per dimension.

        Args:
            edges: (B - 1,) inner edges of B bins, in (-1, 1), where -1 and 1 are the bounds of the box.

        Returns:
            (N, D, B)
        """

    def places(self, actions: Tensor) -> Tensor:
        """Return where in [-1, 1] (N, D) actions are executed: (N, D)."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A diagonal Gaussian of actions in the environment's units, which are clipped to the action space when executed.

    Like the policy gradient of PPO, log-probabilities, entropy and divergence are those of the actions before clipping.
    """

    mean: Tensor
    """(N, D)"""
    log_std: Tensor
    """(N, D)"""
    low: Tensor
    """(D,) lower bounds of the action space."""
    high: Tensor
    """(D,)"""

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return the (N,) log-densities of (N, D) actions before clipping."""
        return _gaussian_log_prob(actions, self.mean, self.log_std)

    def entropy(self) -> Tensor:
        """Return the (N,) entropies of the actions before clipping."""
        return _gaussian_entropy(self.log_std)

    def divergence(self, reference: Gaussian) -> Tensor:
        """Return KL(self || reference), (N,), of the actions before clipping."""
        return gaussian_kl(self.mean, self.log_std, reference.mean, reference.log_std)

    def log_masses(self, edges: Tensor) -> Tensor:
        """Return the log-probabilities of bins; actions beyond a bound are in the outermost bin."""
        actions = self.low[:, None] + (edges + 1) / 2 * (self.high - self.low)[:, None]
        return _log_masses((actions - self.mean[..., None]) / self.log_std.exp()[..., None])

    def places(self, actions: Tensor) -> Tensor:
        """Return where in [-1, 1] (N, D) actions are executed: (N, D)."""
        return (2 * (actions - self.low) / (self.high - self.low) - 1).clamp(-1, 1)


@dataclass(frozen=True, eq=False)
class SquashedGaussian:
    """The distribution of tanh(x), with x from a diagonal Gaussian, as in SAC. Its actions are in [-1, 1]."""

    mean: Tensor
    """(N, D), of x."""
    log_std: Tensor
    """(N, D), of x."""

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return the (N,) log-densities of (N, D) actions in [-1, 1]."""
        before = torch.atanh(actions.clamp(-_LARGEST_TANH, _LARGEST_TANH))
        return _gaussian_log_prob(before, self.mean, self.log_std) - _log_slope(before).sum(dim=-1)

    def entropy(self) -> Tensor:
        """Return the (N,) entropies in [-1, 1]^D: that of x, plus the mean of log(1 - tanh(x)^2) by quadrature."""
        nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
        steps = torch.as_tensor(nodes, dtype=self.mean.dtype, device=self.mean.device)
        shares = torch.as_tensor(weights / weights.sum(), dtype=self.mean.dtype, device=self.mean.device)
        before = self.mean[..., None] + self.log_std.exp()[..., None] * steps
        return _gaussian_entropy(self.log_std) + (_log_slope(before) * shares).sum(dim=(-2, -1))

    def divergence(self, reference: SquashedGaussian) -> Tensor:
        """Return KL(self || reference), (N,), which is that of x, because tanh is invertible."""
        return gaussian_kl(self.mean, self.log_std, reference.mean, reference.log_std)

    def log_masses(self, edges: Tensor) -> Tensor:
        """Return the log-probabilities of bins; see `Executed.log_masses`."""
        return _log_masses((torch.atanh(edges) - self.mean[..., None]) / self.log_std.exp()[..., None])

    def places(self, actions: Tensor) -> Tensor:
        """Return the actions."""
        return actions


@dataclass(frozen=True, eq=False)
class Factored:
    """Independent discrete actions: one for Discrete spaces, several for MultiDiscrete and MultiBinary ones."""

    parts: Sequence[distributions.Distribution]
    """Distributions with batch shape (N,), one for each dimension of the action."""

    def log_prob(self, actions: Tensor) -> Tensor:
        """Return the (N,) log-probabilities of (N, D) or, for a single part, (N,) actions."""
        columns = actions.reshape(len(actions), -1).unbind(dim=1)
        return torch.stack([part.log_prob(taken) for part, taken in zip(self.parts, columns, strict=True)]).sum(dim=0)

    def entropy(self) -> Tensor:
        """Return the (N,) entropies."""
        return torch.stack([part.entropy() for part in self.parts]).sum(dim=0)

    def divergence(self, reference: Factored) -> Tensor:
        """Return KL(self || reference), (N,)."""
        pairs = zip(self.parts, reference.parts, strict=True)
        return torch.stack([kl_divergence(own, other) for own, other in pairs]).sum(dim=0)


def squashed_draw(mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
    """Draw an action of a squashed Gaussian in each state, with gradients (Haarnoja et al., 2018, appendix C).

    The random numbers and results are those of Stable-Baselines3, in three quarters of the time: the standard score of
    what is drawn is the noise itself, of which nothing has to be differentiated.

    Args:
        mean: (N, D), before tanh.
        log_std: (N, D)

    Returns:
        The actions, (N, D), and their log-probabilities, (N,).
    """
    noise = torch.randn_like(mean)
    actions = torch.tanh(mean + noise * log_std.exp())
    slope = torch.log(1 - actions.square() + _LEAST_SLOPE)
    constant = 0.5 * math.log(2 * math.pi) * mean.shape[1]
    return actions, -(0.5 * noise.square() + log_std + slope).sum(dim=1) - constant


def gaussian_kl(mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor) -> Tensor:
    """Compute KL(N(mean, std^2) || N(other_mean, other_std^2)) of diagonal Gaussians: (N, D) each, to (N,)."""
    ratio = (2 * (log_std - other_log_std)).exp()
    moved = ((mean - other_mean) / other_log_std.exp()).square()
    return 0.5 * (ratio + moved - 1 - ratio.log()).sum(dim=-1)


def divergence(policy: ActionDistribution, reference: ActionDistribution) -> Tensor:
    """Compute KL(policy || reference) in each state, (N,).

    It is exact for distributions of one family. A Gaussian that is clipped and a squashed Gaussian have no finite
    divergence, because only the first has actions exactly at a bound. Theirs is the divergence of the bins in which the
    executed action is, a lower bound at a resolution of 1/64 of the action's range.
    """
    if type(policy) is type(reference):
        return policy.divergence(reference)
    own, other = _binned(policy), _binned(reference)
    return (own.exp() * (own - other)).sum(dim=(-2, -1))


def log_ratio(policy: ActionDistribution, reference: ActionDistribution, actions: Tensor, log_probs: Tensor) -> Tensor:
    """Compute log pi(a) - log pi_ref(a) of the actions taken, whose expectation is `divergence`.

    Args:
        policy: pi, in N states.
        reference: pi_ref, in the same states.
        actions: (N, *action) actions that were drawn from the policy.
        log_probs: (N,) their log-probabilities; only used for distributions of one family.

    Returns:
        (N,)
    """
    if type(policy) is type(reference):
        return log_probs - reference.log_prob(actions)
    places = policy.places(actions)  # type: ignore[attr-defined]
    bins = torch.bucketize(places.contiguous(), _edges(places))[..., None]
    ratios = (_binned(policy) - _binned(reference)).gather(-1, bins)
    return ratios.sum(dim=(-2, -1))


def executed_entropy(policy: ActionDistribution) -> Tensor:
    """Return the (N,) differential entropies of actions executed in [-1, 1]^D, at the resolution of `BINS`."""
    masses = _binned(policy)
    return (masses.exp() * (math.log(2 / BINS) - masses)).sum(dim=(-2, -1))


def _binned(policy: Any) -> Tensor:
    masses: Tensor = policy.log_masses(_edges(policy.mean))
    return masses


def _edges(like: Tensor) -> Tensor:
    return torch.linspace(-1, 1, BINS + 1, dtype=like.dtype, device=like.device)[1:-1]


def _log_masses(z: Tensor) -> Tensor:
    """Return the log-probabilities of the intervals between (..., B - 1) increasing standard scores: (..., B)."""
    below, above = z[..., :-1], z[..., 1:]
    mirrored = below + above > 0  # in the lower tail, differences of probabilities are precise
    near = torch.where(mirrored, -below, above)
    far = torch.where(mirrored, -above, below)
    largest = log_ndtr(near)
    inner = largest + torch.log(-torch.expm1((log_ndtr(far) - largest).clamp(max=-1e-12)))
    return torch.cat([log_ndtr(z[..., :1]), inner, log_ndtr(-z[..., -1:])], dim=-1)


def _gaussian_log_prob(values: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    scores = (values - mean) / log_std.exp()
    return -(0.5 * scores.square() + log_std + 0.5 * math.log(2 * math.pi)).sum(dim=-1)


def _gaussian_entropy(log_std: Tensor) -> Tensor:
    return (log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(dim=-1)


def _log_slope(before: Tensor) -> Tensor:
    """Return log(1 - tanh(x)^2), in a form that is precise for large x."""
    return 2 * (math.log(2) - before - torch.nn.functional.softplus(-2 * before))


def of_actor_critic(policy: Any, observations: Tensor, exploration: float = 0.0) -> ActionDistribution:
    """Return the distribution of a policy of Stable-Baselines3's on-policy algorithms.

    Args:
        policy: The policy.
        observations: (N, *observation), normalised as the policy was trained.
        exploration: Ignored: the policy itself explores.
    """
    found = policy.get_distribution(observations)
    return _CONVERTED[type(found)](found.distribution, policy.action_space)


def of_actor(policy: Any, observations: Tensor, exploration: float = 0.0) -> ActionDistribution:
    """Return the distribution of a policy with a squashed actor, as SAC's; arguments as for `of_actor_critic`."""
    mean, log_std, _ = policy.actor.get_action_dist_params(observations)
    return SquashedGaussian(mean, log_std)


def of_values(policy: Any, observations: Tensor, exploration: float = 0.0) -> ActionDistribution:
    """Return the distribution of DQN's policy: the best action, or with probability `exploration` any one."""
    return _greedy(policy.q_net(observations), exploration)


def of_quantiles(policy: Any, observations: Tensor, exploration: float = 0.0) -> ActionDistribution:
    """Return the distribution of QR-DQN's policy; arguments as for `of_values`."""
    return _greedy(policy.quantile_net(observations).mean(dim=1), exploration)


def _greedy(values: Tensor, exploration: float) -> Factored:
    best = torch.nn.functional.one_hot(values.argmax(dim=1), values.shape[1])
    return Factored([distributions.Categorical(probs=(1 - exploration) * best + exploration / values.shape[1])])


def _gaussian(found: distributions.Normal, space: spaces.Box) -> Gaussian:
    low, high = (
        torch.as_tensor(bound, dtype=found.mean.dtype, device=found.mean.device).flatten()
        for bound in (space.low, space.high)
    )
    return Gaussian(found.mean, found.stddev.log(), low, high)


_CONVERTED: dict[type[sb3.Distribution], Callable[[Any, Any], ActionDistribution]] = {
    sb3.DiagGaussianDistribution: _gaussian,
    sb3.CategoricalDistribution: lambda found, space: Factored([found]),
    sb3.MultiCategoricalDistribution: lambda found, space: Factored(found),
    sb3.BernoulliDistribution: lambda found, space: Factored(
        [distributions.Bernoulli(logits=logits) for logits in found.logits.unbind(dim=1)]
    ),
}
"""Ours of Stable-Baselines3's distributions of actions."""
