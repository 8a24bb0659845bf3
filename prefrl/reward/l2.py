"""The adaptive L2 penalty, which keeps validation loss between 1.1 and 1.5 times training loss (paper, 2.2.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from prefrl.config import RewardConfig
from prefrl.reward.loss import adapted_l2
from prefrl.storage.files import Tree


class L2Controller:
    """Adapts the L2 coefficient of each member."""

    def __init__(self, config: RewardConfig, device: str) -> None:
        self._config, self._device = config, device
        self.coefficients = torch.full((config.members,), config.l2, device=device)
        """(K,) coefficients."""

    def adapt(self, training: Tensor, validation: Tensor) -> None:
        """Adapt each coefficient to its member's losses.

        Args:
            training: (K,) training losses.
            validation: (K,) validation losses.
        """
        config = self._config
        self.coefficients = adapted_l2(
            self.coefficients, validation / training, config.validation_low, config.validation_high, config.l2_rate
        )

    def state_dict(self) -> Tree:
        """Return the coefficients."""
        return {"l2": self.coefficients}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self.coefficients = torch.from_numpy(state["l2"]).to(self._device)
