"""A rollout buffer whose rewards are added after the rollout."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from prefrl.arrays import Floats


class DeferredRolloutBuffer(RolloutBuffer):
    """Computes returns and advantages once the rewards of the rollout are known.

    All rewards of a rollout then come from the newest reward model, in one forward pass. They are added to the stored
    rewards, because Stable-Baselines3 has already stored the bootstrap values of time limits there.

    Images are laid out for the network once per rollout, instead of in every epoch, and minibatches are copied once.
    """

    @staticmethod
    def swap_and_flatten(arr: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Turn (T, E, ...) into (E T, ...); images become channels last in memory."""
        if arr.ndim != 5:
            return RolloutBuffer.swap_and_flatten(arr)
        steps, envs, channels, *size = arr.shape
        images = np.empty((envs, steps, *size, channels), arr.dtype)
        for channel in range(channels):
            images[..., channel] = arr[:, :, channel].swapaxes(0, 1)
        return np.moveaxis(images.reshape(-1, *size, channels), -1, 1)

    def to_torch(self, array: np.ndarray[Any, Any], copy: bool = True) -> Tensor:
        """Turn a minibatch, which is a copy already, into a tensor of the same layout."""
        return torch.as_tensor(array, device=self.device)

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
