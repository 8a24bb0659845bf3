"""The L2 penalty, adapted so that validation loss stays between 1.1 and 1.5 times training loss (paper, 2.2.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from prefrl.config import RewardConfig
from prefrl.reward.loss import adapted_l2
from prefrl.storage.files import Tree


class L2Controller:
    """Each member's coefficient."""

    def __init__(self, config: RewardConfig, device: str) -> None:
        self._config, self._device = config, device
        self.coefficients = torch.full((config.members,), config.l2, device=device)
        """(K,)"""

    def adapt(self, training: Tensor, validation: Tensor) -> None:
        """Move each coefficient by its member's losses, (K,) each."""
        config = self._config
        self.coefficients = adapted_l2(
            self.coefficients, validation / training, config.validation_low, config.validation_high, config.l2_rate
        )

    def state_dict(self) -> Tree:
        """The coefficients."""
        return {"l2": self.coefficients}

    def load_state_dict(self, state: Tree) -> None:
        """Go back to a saved state."""
        self.coefficients = torch.from_numpy(state["l2"]).to(self._device)
