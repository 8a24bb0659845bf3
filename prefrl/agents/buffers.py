"""A rollout buffer whose rewards are added after the rollout."""

from __future__ import annotations

from typing import Any

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from prefrl.arrays import Floats


class DeferredRolloutBuffer(RolloutBuffer):
    """Computes returns and advantages once the rewards of the rollout are known.

    All rewards of a rollout then come from the newest reward model, in one forward pass. They are added to the stored
    rewards, because Stable-Baselines3 has already stored the bootstrap values of time limits there.
    """

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray[Any, Any]) -> None:
        """Store the arguments for `complete`."""
        self._end = (last_values, dones)

    def complete(self, rewards: Floats | None) -> None:
        """Add the rewards and compute returns and advantages.

        Args:
            rewards: (T, E); None to use the environments' rewards.
        """
        if rewards is not None:
            self.rewards += rewards
        super().compute_returns_and_advantage(*self._end)
