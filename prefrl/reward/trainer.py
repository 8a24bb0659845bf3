"""The gradient step of the reward model (paper, section 2.2.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from prefrl.config import RewardConfig
from prefrl.machine.optimiser import load_optimiser_state, optimiser_state
from prefrl.registry import LOSSES, located
from prefrl.reward.batch import Batch
from prefrl.reward.dataset import Dataset
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.l2 import L2Controller
from prefrl.reward.loss import Loss, running_mean
from prefrl.storage.files import Tree

_VALIDATION_STEPS = 4
"""Gradient steps per measurement of the validation loss, which costs a third of a gradient step."""
_LOSS_DECAY = 0.97
"""Decay per gradient step of the running means of training and validation loss, about the last 33 steps."""


class Trainer:
    """Fits an ensemble to a dataset."""

    def __init__(self, config: RewardConfig, ensemble: RewardEnsemble, dataset: Dataset, device: str) -> None:
        """Initialise the trainer.

        Args:
            config: The settings of training.
            ensemble: The ensemble to train.
            dataset: The dataset.
            device: Torch's device.
        """
        self._config, self._ensemble, self._dataset, self._device = config, ensemble, dataset, device
        self._loss: Loss = located(LOSSES[config.loss].function)
        self.optimiser = torch.optim.Adam(ensemble.network.parameters(), lr=config.learning_rate, fused=True)
        self.l2 = L2Controller(config, device)
        self.losses = torch.full((2, config.members), torch.nan, device=device)
        """(2, K) running means of each member's training and validation loss."""
        self.updates = self.fitted = 0
        """Number of gradient steps, and of the labels that each member fitted in them."""

    def train(self, labels: int) -> None:
        """Take gradient steps on random batches, until the given number of labels was fitted."""
        if not len(self._dataset):
            return
        self._ensemble.train()
        for _ in range(max(1, labels // self._config.batch_size)):
            self.step()
            if self.updates % _VALIDATION_STEPS == 0:
                self.validate()
        self._ensemble.eval()

    def step(self) -> None:
        """Take a gradient step, in which each member has a batch of its own bootstrap sample."""
        losses = self._losses(self._dataset.training_batch())
        penalty = (self.l2.coefficients * self._ensemble.network.squared_norm()).sum()
        self.optimiser.zero_grad()
        (losses.nan_to_num().sum() + penalty).backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.losses[0] = running_mean(self.losses[0], losses.detach(), _LOSS_DECAY)
        self.updates += 1
        self.fitted += self._config.batch_size

    @torch.no_grad()
    def validate(self) -> None:
        """Measure each member's loss on the labels that it does not train on, and adapt its L2 penalty."""
        self._ensemble.eval()
        losses = self._losses(self._dataset.validation_batch())
        self._ensemble.train()
        self.losses[1] = running_mean(self.losses[1], losses, _LOSS_DECAY**_VALIDATION_STEPS)
        self.l2.adapt(*self.losses)

    def _losses(self, batch: Batch) -> Tensor:
        """Return each member's mean loss over its batch, (K,); NaN for a member without labels."""
        rewards = self._ensemble.forward_each(batch.steps)
        return self._loss(rewards, batch, self._config).mean(dim=1).where(batch.drawn, torch.nan)

    def state_dict(self) -> Tree:
        """Return the ensemble, the optimiser's state, the L2 coefficients, the losses and the counters."""
        return {
            "ensemble": dict(self._ensemble.state_dict()),
            "optimizer": optimiser_state(self.optimiser),
            **self.l2.state_dict(),
            "losses": self.losses,
            "counters": {"updates": self.updates, "fitted": self.fitted},
        }

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self._ensemble.load_arrays(state["ensemble"])
        load_optimiser_state(self.optimiser, state["optimizer"])
        self.l2.load_state_dict(state)
        self.losses = torch.from_numpy(state["losses"]).to(self._device)
        self.updates, self.fitted = (state["counters"][name] for name in ("updates", "fitted"))
