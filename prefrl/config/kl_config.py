"""The settings of the KL penalty."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from prefrl.config.checks import at_most, require


@dataclass(frozen=True)
class KLConfig:
    """A penalty on the divergence from a reference policy: beta (log pi - log pi_ref) is subtracted from the reward.

    The coefficient beta is in units of the agent's reward per nat, before that reward is divided by the deviation of
    its discounted sum (`agent.normalise_reward`). A learned reward has the deviation `reward.target_std`.
    """

    reference: str | None = None
    """Run whose policy is the reference, from which it was copied; null for none. The divergence from it is measured
    even without a penalty."""
    policy: Literal["newest", "initial"] = "newest"
    """Which of that run's policies: its newest one, or the untrained one that it started from."""
    beta: float = 0.0
    """Fixed coefficient; 0 for no penalty."""
    target: float | None = None
    """Divergence per step, in nats, that an adaptive coefficient holds (Ziegler et al., 2019); null for a fixed one."""
    initial_beta: float = 0.2
    """Coefficient from which the adaptive one starts."""
    horizon: int = 10_000
    """Agent steps in which the integral part of the adaptive coefficient changes by at most a fifth."""
    proportional: float = 1.0
    """Exponent of the ratio of the divergence to its target, by which the integral part is multiplied, at most by two
    and at least by a half; 0 for the controller of Ziegler et al. alone, which overshoots where the agent is slow."""

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
        require(math.isfinite(self.beta) and self.beta >= 0, "--kl must not be negative")
        target = self.target
        require(target is None or (math.isfinite(target) and target > 0), "--kl-target must be positive")
        require(self.beta == 0 or target is None, ONE_COEFFICIENT)
        require(math.isfinite(self.initial_beta) and self.initial_beta > 0, "kl.initial_beta must be positive")
        require(0 <= self.proportional <= 10, "kl.proportional must be in [0, 10]")
        require(self.horizon >= 1, "kl.horizon must be at least 1")
        at_most("kl.horizon", self.horizon, 10**12)
        require(self.reference is not None or not self.penalises, NEEDS_REFERENCE)

    @property
    def penalises(self) -> bool:
        """Whether there is a penalty."""
        return self.beta > 0 or self.target is not None


ONE_COEFFICIENT = "--kl sets a fixed coefficient and --kl-target an adaptive one: leave one of them out"
NEEDS_REFERENCE = "--kl and --kl-target need --reference RUN, the run whose policy the agent is to stay near"
