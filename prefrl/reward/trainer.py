"""The gradient step of the reward model (paper, section 2.2.3)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from prefrl.config import RewardConfig
from prefrl.machine.optimiser import load_optimiser_state, optimiser_state
from prefrl.registry import LOSSES, located
from prefrl.reward.batch import Batch
from prefrl.reward.crops import cropped, draw_crops
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.l2 import L2Controller
from prefrl.reward.label_filter import LabelFilter
from prefrl.reward.loss import Loss, mixed_mean, preference_logit, running_mean
from prefrl.reward.mixture import Mixture
from prefrl.reward.pseudo_labels import Unlabelled, pseudo_labels
from prefrl.seeding import stream
from prefrl.storage.files import Tree

_VALIDATION_STEPS = 4
"""Gradient steps per measurement of the validation loss, which costs a third of a gradient step."""
_LOSS_DECAY = 0.97
"""Decay per gradient step of the running means of training and validation loss, about the last 33 steps."""


class Trainer:
    """Fits an ensemble to a dataset."""

    def __init__(
        self,
        config: RewardConfig,
        ensemble: RewardEnsemble,
        dataset: Mixture,
        device: str,
        seed: int = 0,
        unlabelled: Unlabelled | None = None,
    ) -> None:
        """Initialise the trainer.

        Args:
            config: The settings of training.
            ensemble: The ensemble to train.
            dataset: The dataset.
            device: Torch's device.
            seed: Seed of the crops and of the unlabelled pairs.
            unlabelled: Segments for pseudo-labels; None to use only labels.
        """
        self._seed, self._unlabelled = seed, unlabelled
        self._config, self._ensemble, self._dataset, self._device = config, ensemble, dataset, device
        fitted = [*ensemble.network.parameters(), *ensemble.likelihoods.parameters()]
        self.optimiser = torch.optim.Adam(fitted, lr=config.learning_rate, fused=True)
        self.l2 = L2Controller(config, device)
        self.filter = LabelFilter(config, ensemble, dataset.first) if config.trust_filter else None
        """Leaves labels out or reverses them; None to take labels as they are."""
        self.losses = torch.full((2, config.members), torch.nan, device=device)
        """(2, K) running means of each member's training and validation loss."""
        self.updates = self.fitted = 0
        """Number of gradient steps, and of the labels that each member fitted in them."""
        self.confident = torch.full((config.members,), torch.nan, device=device)
        """(K,) running mean of the share of each member's unlabelled pairs that had a pseudo-label."""

    def train(self, labels: int) -> None:
        """Take gradient steps on random batches, until the given number of labels was fitted."""
        if not len(self._dataset):
            return
        with self.training():
            for _ in range(max(1, labels // self._config.batch_size)):
                self.filter_labels()
                self.advance(self._dataset.training_batch())

    @contextmanager
    def training(self) -> Iterator[None]:
        """Switch dropout and batch normalisation to training, for calls of `advance`."""
        self._ensemble.train()
        yield
        self._ensemble.eval()

    def filter_labels(self) -> None:
        """Apply the trust filter, if there is one and it is time."""
        if self.filter is not None:
            self.filter.apply_after_a_pass(self.fitted)

    def advance(self, batch: Batch) -> Tensor:
        """Take a gradient step on a batch, and measure the validation loss if it is time; result as for `step`."""
        rewards = self.step(batch)
        if self._config.bootstrap and self.updates % _VALIDATION_STEPS == 0:
            self.validate()
        return rewards

    def step(self, batch: Batch | None = None) -> Tensor:
        """Take a gradient step.

        Args:
            batch: The batch; None to draw it, for each member from its own bootstrap sample.

        Returns:
            (K, B, A, L) predicted rewards before the step; of several kinds, those of the first.
        """
        batch = self._dataset.training_batch() if batch is None else batch
        predicted = [self._ensemble.forward_each(part.steps) for part in batch.parts]
        means = [
            self._cropped_losses(rewards, part).mean(dim=1).where(part.drawn, torch.nan)
            for rewards, part in zip(predicted, batch.parts, strict=True)
        ]
        losses = mixed_mean(means, [part.weight for part in batch.parts])
        penalty = (self.l2.coefficients * self._ensemble.network.squared_norm()).sum()
        total = losses.nan_to_num().sum() + penalty
        if self._unlabelled is not None and len(self._unlabelled) > 1:
            total = total + self._config.pseudo_weight * self._pseudo_loss(self._unlabelled)
        self.optimiser.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.losses[0] = running_mean(self.losses[0], losses.detach(), _LOSS_DECAY)
        self.updates += 1
        self.fitted += batch.labels
        return predicted[0].detach()

    def _cropped_losses(self, rewards: Tensor, batch: Batch, purpose: int = 0) -> Tensor:
        """Return the losses of the labels, (K, B), or of their crops if segments are cropped, (K, B * C)."""
        config = self._config
        if config.crop:
            members, labels, arity, length = rewards.shape
            rng, (low, high) = stream(self._seed, "crops", self.updates, purpose), config.crop
            crops = draw_crops(rng, (members, labels, config.crop_copies), arity, length, low, high)
            rewards, batch = cropped(rewards, batch, crops)
        return self._loss(batch)(rewards, batch, config)

    def _loss(self, batch: Batch) -> Loss:
        """Return the loss of a batch's kind."""
        name = batch.loss or self._config.loss
        own: Loss = (
            self._ensemble.likelihoods[name] if name in self._ensemble.likelihoods else located(LOSSES[name].function)
        )
        return own

    def _pseudo_loss(self, unlabelled: Unlabelled) -> Tensor:
        """Return the loss of pseudo-labels, summed over the members; it is a mean over all pairs (SURF, eq. 4).

        A member's prediction for whole segments is the label, and its loss is that of crops, if segments are cropped.
        """
        config, rng = self._config, stream(self._seed, "pseudo-labels", self.updates)
        batch = unlabelled.pairs(rng, config.members, config.pseudo_ratio * config.batch_size)
        rewards = self._ensemble.forward_each(batch.steps)
        target, confident = pseudo_labels(preference_logit(rewards.detach()), config.pseudo_threshold or 0)
        losses = self._cropped_losses(rewards, replace(batch, target=target), purpose=1)
        losses = losses.reshape(*batch.target.shape, -1).mean(dim=2)  # over the crops of a pair
        self.confident = running_mean(self.confident, confident.float().mean(dim=1), _LOSS_DECAY)
        total: Tensor = (losses * confident).mean(dim=1).sum()
        return total

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
        means = [
            self._loss(part)(self._ensemble.forward_each(part.steps), part, self._config)
            .mean(dim=1)
            .where(part.drawn, torch.nan)
            for part in batch.parts
        ]
        return mixed_mean(means, [part.weight for part in batch.parts])

    def state_dict(self) -> Tree:
        """Return the ensemble, the optimiser's state, the L2 coefficients, the losses and the counters."""
        return (self.filter.state_dict() if self.filter is not None else {}) | {
            "ensemble": dict(self._ensemble.state_dict()),
            "optimizer": optimiser_state(self.optimiser),
            **self.l2.state_dict(),
            "losses": self.losses,
            "confident": self.confident,
            "counters": {"updates": self.updates, "fitted": self.fitted},
        }

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self._ensemble.load_arrays(state["ensemble"])
        load_optimiser_state(self.optimiser, state["optimizer"])
        self.l2.load_state_dict(state)
        self.losses = torch.from_numpy(state["losses"]).to(self._device)
        if self.filter is not None:
            self.filter.load_state_dict(state)
        if "confident" in state:  # missing in checkpoints of older versions
            self.confident = torch.from_numpy(state["confident"]).to(self._device)
        self.updates, self.fitted = (state["counters"][name] for name in ("updates", "fitted"))
