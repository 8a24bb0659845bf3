"""A rollout buffer that waits for its rewards."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from prefrl.arrays import Floats


class DeferredRolloutBuffer(RolloutBuffer):
    """Computes returns and advantages only once the rollout has its rewards.

    Rewards are then from the newest reward model and cost one forward pass a rollout. They are added to what is there,
    so that the bootstrap at a time limit, which Stable-Baselines3 has put into the rewards by then, stays in.
    """

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray[Any, Any]) -> None:
        """Keep the arguments for `complete`."""
        self._end = (last_values, dones)

    def complete(self, rewards: Floats | None) -> None:
        """Add the rollout's (T, E) rewards, None for those that the environments gave, and compute advantages."""
        if rewards is not None:
            self.rewards += rewards
        super().compute_returns_and_advantage(*self._end)
