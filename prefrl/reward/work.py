"""How much the reward model is fitted: a constant amount per agent step, or passes over the labels of each session."""

from __future__ import annotations

from collections import deque
from typing import Protocol

import torch
from torch import Tensor

from prefrl.config import RewardConfig
from prefrl.reward.batch import Batch
from prefrl.reward.loss import preference_logit
from prefrl.reward.mixture import Mixture
from prefrl.reward.trainer import Trainer
from prefrl.storage.files import Tree


class Work(Protocol):
    """Decides how much gradient work is due, and does it."""

    @property
    def pretrained(self) -> bool:
        """Whether pretraining is complete."""

    def due(self, agent_steps: int) -> int:
        """Return the labels that are due by an agent step and not fitted yet, counting repetitions."""

    @property
    def begins_with_labels(self) -> bool:
        """Whether new labels are work themselves, so that they are looked for even if nothing is due."""

    def begin(self) -> None:
        """Note that labels were added or removed."""

    def train(self, labels: int) -> None:
        """Fit at least one batch, and about the given number of labels, counting repetitions."""

    def state_dict(self) -> Tree:
        """Return the counters."""

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""


class StepWork:
    """Fits a constant number of labels per agent step, so that its cost does not depend on the number of labels."""

    def __init__(self, config: RewardConfig, trainer: Trainer) -> None:
        self._config, self._trainer = config, trainer

    @property
    def pretrained(self) -> bool:
        """Whether pretraining is complete."""
        return self._trainer.fitted + self._config.batch_size > self._pretraining

    @property
    def _pretraining(self) -> int:
        return max(self._config.pretrain_comparisons, self._config.batch_size)

    def due(self, agent_steps: int) -> int:
        """Return the labels that are due, including pretraining: a multiple of the batch size."""
        wanted = self._pretraining + self._config.comparisons_per_step * agent_steps
        batches = (wanted - self._trainer.fitted) // self._config.batch_size
        return max(0, int(batches)) * self._config.batch_size

    @property
    def begins_with_labels(self) -> bool:
        """Return False: the amount of work does not depend on the labels."""
        return False

    def begin(self) -> None:
        """Do nothing: the amount of work does not depend on the labels."""

    def train(self, labels: int) -> None:
        """Fit random batches, at least one."""
        self._trainer.train(labels)

    def state_dict(self) -> Tree:
        """Return no counters: the trainer counts."""
        return {"counters": {}}

    def load_state_dict(self, state: Tree) -> None:
        """Do nothing: the trainer counts."""


class SessionWork:
    """Passes over all labels whenever labels were added, until they are predicted well enough (PEBBLE's, QPA's code).

    Each member sees every label once in a pass, in an order of its own. A session ends after `reward.epochs` passes or
    `reward.session_steps` gradient steps per label, or after a pass when the training accuracy, averaged over the
    members and over the pass or the whole session (`reward.stop_over`), exceeds `reward.stop_accuracy`. Labels that
    are added during a session begin a new one.

    PEBBLE counts a tie as a wrong prediction. Here, ties do not count, and labels other than comparisons have no
    accuracy, so that all passes are made. With several feedback kinds, the accuracy is that of the first.
    """

    def __init__(self, config: RewardConfig, trainer: Trainer, dataset: Mixture) -> None:
        self._config, self._trainer, self._dataset = config, trainer, dataset
        self._left = 0
        """Passes that are left in this session."""
        self._sessions = 0
        """Sessions that have ended."""
        self._batches: deque[Batch] = deque()
        """Batches that are left of this pass."""
        self._agreed = self._before = torch.zeros(2)
        """See `agreement`: now, and before this pass."""

    @property
    def pretrained(self) -> bool:
        """Whether the first session has ended."""
        return self._sessions > 0

    def due(self, agent_steps: int) -> int:
        """Return the labels that are left in this session if it does not end early."""
        if not self._batches:
            return self._left * len(self._dataset)
        whole = (self._left - 1) * len(self._dataset)
        return whole + sum(batch.labels for batch in self._batches)

    @property
    def begins_with_labels(self) -> bool:
        """Return True: new labels begin a session."""
        return True

    def begin(self) -> None:
        """Begin a session."""
        self._left = self._config.session_passes(len(self._dataset))
        self._batches.clear()
        self._agreed = torch.zeros(2)

    def train(self, labels: int) -> None:
        """Fit batches of this session, at least one; fewer labels if the session ends."""
        with self._trainer.training():
            while labels > 0 and self._left:
                labels -= self._next()

    def _next(self) -> int:
        """Fit the next batch, and return its number of labels."""
        if not self._batches:
            self._trainer.filter_labels()
            self._batches.extend(self._dataset.epoch())
            if self._config.stop_over == "pass":
                self._agreed = torch.zeros(2)
            self._before = self._agreed
        batch = self._batches.popleft()
        rewards = self._trainer.advance(batch)
        self._agreed = self._agreed + agreement(rewards, batch.target).cpu()
        if not self._batches:
            right, decided = self._agreed.tolist()
            enough = decided and right > self._config.stop_accuracy * decided
            self._left = 0 if enough else self._left - 1
            self._sessions += not self._left
        return batch.labels

    def state_dict(self) -> Tree:
        """Return the counters. A pass that has begun is begun again."""
        before = (self._before if self._batches else self._agreed).tolist()
        return {"counters": {"sessions": self._sessions, "epochs_left": self._left}, "agreed": before}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        counters = state["counters"]
        self._sessions, self._left = counters["sessions"], counters["epochs_left"]
        self._agreed = torch.tensor(state.get("agreed", [0.0, 0.0]))  # missing in checkpoints of older versions
        self._batches.clear()


def agreement(rewards: Tensor, target: Tensor) -> Tensor:
    """Count the comparisons that prefer a side, and those of them whose preferred segment has the larger sum.

    Args:
        rewards: (K, B, A, L) predicted rewards.
        target: (K, B) labels: 1 if left is preferred, 0 if right; others do not count.

    Returns:
        (2,) the number of agreeing and of all these comparisons, over all members; zeros unless A is 2.
    """
    decided = ((target == 0) | (target == 1)) & (rewards.shape[2] == 2)
    right = (preference_logit(rewards) * (target - 0.5) > 0) & decided
    return torch.stack([right.sum(), decided.sum()]).double()


def make_work(config: RewardConfig, trainer: Trainer, dataset: Mixture) -> Work:
    """Return the work of a configuration."""
    return SessionWork(config, trainer, dataset) if config.session_passes(1) else StepWork(config, trainer)
