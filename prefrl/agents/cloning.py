"""Behaviour cloning: fit a policy to demonstrated actions.

Each kind of policy has a loss of its own, which `prefrl.registry.ALGORITHMS` names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from prefrl.arrays import Array
from prefrl.experience.action_spaces import from_numbers


class CloningSettings(Protocol):
    """The settings of behaviour cloning."""

    @property
    def batches(self) -> int:
        """Number of gradient steps."""

    @property
    def batch_size(self) -> int:
        """Steps in a batch."""

    @property
    def learning_rate(self) -> float:
        """Learning rate of Adam."""

    @property
    def log_std_min(self) -> float:
        """Lower bound of the logarithm of an on-policy Gaussian policy's standard deviation."""


CloningLoss = Callable[[Any, Any, Tensor], Tensor]
"""(policy, preprocessed observations, (B, *action) actions of the agent's space) -> loss, a scalar."""
_MARGIN = 1.0
"""By how much the value of a demonstrated action exceeds that of any other (Ibarz et al., 2018)."""


def log_likelihood(policy: ActorCriticPolicy, observations: Any, actions: Tensor) -> Tensor:
    """Return the negative mean log-likelihood of actions under the policy of an on-policy algorithm."""
    return -policy.get_distribution(observations).log_prob(actions).mean()


def squashed_error(policy: Any, observations: Any, actions: Tensor) -> Tensor:
    """Return the mean squared error of the most likely action of a squashed Gaussian policy, e.g. of SAC.

    Actions are compared on the scale of [-1, 1]. A likelihood would be infinite for actions on the bounds.
    """
    chosen: Tensor = policy.actor(observations, deterministic=True)
    wanted = policy.scale_action(actions.cpu().numpy())
    return (chosen - torch.as_tensor(wanted, dtype=chosen.dtype, device=chosen.device)).square().mean()


def value_margin(policy: Any, observations: Any, actions: Tensor) -> Tensor:
    """Return the large-margin loss of DQN's values (Hester et al., 2018): max(Q(s, a) + margin) - Q(s, shown)."""
    return margin_loss(policy.q_net(observations), actions)


def quantile_margin(policy: Any, observations: Any, actions: Tensor) -> Tensor:
    """Return `value_margin` for the mean values of QR-DQN."""
    return margin_loss(policy.quantile_net(observations).mean(dim=1), actions)


def margin_loss(values: Tensor, actions: Tensor, margin: float = _MARGIN) -> Tensor:
    """Return the mean over steps of max over a of (Q(s, a) + margin where a was not shown) - Q(s, shown).

    Args:
        values: (B, A) action values.
        actions: (B,) demonstrated actions.
        margin: The margin.
    """
    shown = actions.reshape(-1, 1).long()
    others = values + margin * torch.ones_like(values).scatter(1, shown, 0.0)
    return (others.amax(dim=1) - values.gather(1, shown).squeeze(1)).mean()


def clone(
    policy: Any,
    loss: CloningLoss,
    take: Callable[[Array], tuple[Array, Array]],
    count: int,
    settings: CloningSettings,
    rng: np.random.Generator,
    tell: Callable[[], None] = lambda: None,
) -> list[float]:
    """Take gradient steps of behaviour cloning on batches that are drawn uniformly.

    Args:
        policy: A policy of Stable-Baselines3.
        loss: The policy's loss.
        take: Returns steps by their numbers: (B, *observation), normalised, and (B, *action), as numbers.
        count: Number of steps to draw from.
        settings: The settings.
        rng: Draws the batches.
        tell: Called after each gradient step; may raise an exception to stop.

    Returns:
        The loss of each gradient step.
    """
    losses = []
    optimiser = torch.optim.Adam(policy.parameters(), lr=settings.learning_rate)
    policy.set_training_mode(True)
    for _ in range(settings.batches):
        observations, numbers = take(rng.integers(count, size=settings.batch_size))
        seen, _ = policy.obs_to_tensor(observations)
        found = loss(policy, seen, _as_tensor(policy.action_space, numbers, policy.device))
        optimiser.zero_grad()
        found.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        _keep_exploring(policy, settings.log_std_min)
        losses.append(found.item())
        tell()
    policy.set_training_mode(False)
    optimiser.zero_grad(set_to_none=True)
    return losses


def _as_tensor(space: spaces.Space[Any], numbers: Array, device: torch.device) -> Tensor:
    actions = torch.as_tensor(from_numbers(space, numbers), device=device)
    return actions.float() if isinstance(space, spaces.Box) else actions


def _keep_exploring(policy: Any, log_std_min: float) -> None:
    """Limit the deviation of an on-policy Gaussian policy from below."""
    log_std = getattr(policy, "log_std", None)
    if isinstance(log_std, nn.Parameter):
        with torch.no_grad():
            log_std.clamp_(min=log_std_min)
