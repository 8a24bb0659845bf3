"""The KL penalty, which holds the agent near a reference policy, and the coefficient that adapts to a target."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from prefrl.agents.distributions import ActionDistribution, divergence, log_ratio
from prefrl.agents.reference import Reference
from prefrl.agents.reward_terms import RolloutTerm
from prefrl.arrays import Array, Floats
from prefrl.config import KLConfig
from prefrl.experience.recorder import Experience
from prefrl.storage.files import Tree

_LARGEST_ERROR = 0.2
"""Largest relative change of the coefficient within the horizon."""


def adapted(beta: float, kl: float, target: float, steps: int, horizon: int) -> float:
    """Adapt the coefficient to the divergence measured (Ziegler et al., 2019, section 2.2).

    beta (1 + clip(kl / target - 1, -0.2, 0.2) n / horizon), with at most the whole horizon at once.

    Args:
        beta: The coefficient so far.
        kl: The mean divergence per step, in nats.
        target: The divergence to hold.
        steps: n, the steps over which it was measured.
        horizon: Steps in which the coefficient changes by at most a fifth.
    """
    error = min(max(kl / target - 1, -_LARGEST_ERROR), _LARGEST_ERROR)
    return beta * (1 + error * min(1.0, steps / horizon))


def damped(beta: float, kl: float, target: float, exponent: float) -> float:
    """Return the coefficient with a proportional part: beta clip(kl / target, 1/2, 2)^exponent.

    The agent follows the coefficient with a delay, so that the integral part, `adapted`, alone overshoots; a
    proportional part damps this (Stooke et al., 2020, for Lagrange multipliers).
    """
    return float(beta * min(max(kl / target, 0.5), 2.0) ** exponent)


class KLPenalty:
    """A penalty on the divergence from a reference policy, with a fixed or adaptive coefficient beta.

    On-policy, it is a term of the reward, `KLTerm`. Off-policy, the actions of a memory are from older policies, whose
    log-ratios say nothing of the divergence of the current one. There, like SAC's entropy bonus, it is a part of the
    value of the current policy: `charge` is subtracted from the values of next states and from the actor's objective
    (the value penalty of BRAC, Wu et al., 2019).
    """

    def __init__(self, config: KLConfig, reference: Reference) -> None:
        """Initialise the penalty.

        Args:
            config: The coefficient, or its target.
            reference: The reference policy.
        """
        self._config, self.reference = config, reference
        self.beta = config.beta if config.target is None else config.initial_beta
        """The current coefficient, in reward per nat."""
        self._integral = self.beta

    def charge(self, policy: ActionDistribution, observations: Array) -> Tensor:
        """Return beta times the divergence of a policy, with gradients: (N,) for (N, *observation) raw observations."""
        return self.beta * divergence(policy, self.reference.distribution(observations))

    @property
    def adapts(self) -> bool:
        """Whether the coefficient is adaptive."""
        return self._config.target is not None

    def adapt(self, policy: ActionDistribution, reference: ActionDistribution) -> None:
        """Adapt the coefficient, if it is adaptive, to the divergence of two distributions in the newest states."""
        if self._config.target is not None:
            found, target = divergence(policy, reference), self._config.target
            kl = float(found.mean())
            self._integral = adapted(self._integral, kl, target, len(found), self._config.horizon)
            self.beta = damped(self._integral, kl, target, self._config.proportional)

    def state_dict(self) -> Tree:
        """Return the coefficient and its integral part."""
        return {"beta": self.beta, "integral": self._integral}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self.beta, self._integral = float(state["beta"]), float(state["integral"])


class KLTerm(RolloutTerm):
    """The penalty as a term of an on-policy agent's reward: -beta (log pi(a) - log pi_ref(a)) of the actions taken."""

    def __init__(self, penalty: KLPenalty, chosen: Callable[[], tuple[Array, ActionDistribution]]) -> None:
        """Initialise the term.

        Args:
            penalty: The penalty.
            chosen: Returns the (T E, *action) actions of the newest rollout as they were drawn, before clipping, and
                the distribution that they were drawn from.
        """
        self._penalty, self._chosen = penalty, chosen

    def __call__(self, experience: Experience, log_probs: Floats) -> Floats:
        """Return the (T, E) penalties of a rollout, and adapt the coefficient for the next one."""
        actions, policy = self._chosen()
        observations = experience.observations.reshape(-1, *experience.observations.shape[2:])
        reference = self._penalty.reference.distribution(observations)
        device = self._penalty.reference.network.device
        drawn, logs = (torch.as_tensor(array, device=device) for array in (actions, log_probs.ravel()))
        with torch.no_grad():
            ratios = log_ratio(policy, reference, drawn, logs).cpu().numpy()
            penalties = np.asarray(-self._penalty.beta * ratios, np.float32).reshape(log_probs.shape)
            self._penalty.adapt(policy, reference)
        return penalties

    def state_dict(self) -> Tree:
        """Return the state of the penalty."""
        return self._penalty.state_dict()

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self._penalty.load_state_dict(state)
