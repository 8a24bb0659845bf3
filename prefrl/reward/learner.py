"""The reward learner: comparisons in, versioned weights out (paper, section 2.2.3).

The same object runs inline in a synchronous run and in a process of its own in an asynchronous one. Its work is set in
comparisons per agent step, so its cost does not grow with the labels that are already there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prefrl.chance import stream
from prefrl.config import RewardConfig
from prefrl.errors import PrefrlError
from prefrl.files import Tree, save_tree
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.inputs import Inputs
from prefrl.reward.loss import (
    adapted_l2,
    comparison_loss,
    multiplicity,
    preference_logit,
    regression_loss,
    running_mean,
)
from prefrl.reward.rows import FIRST, with_room
from prefrl.torch_chance import OwnChance
from prefrl.types import Array, Comparison, Floats, Undone

ReadSegment = Callable[[int], tuple[Array, Floats]]
"""segment id -> its features as they are kept, true rewards (L,)"""

_CHUNK_BATCHES, _CHUNK_IMAGE_BATCHES = 8, 1
"""Gradient steps that take some hundredths of a second, or a second or two."""
_VALIDATION_STEPS = 4
"""Gradient steps between two looks at the validation loss, which costs a third of a gradient step."""
_LOSS_DECAY = 0.97
"""Of the running means of training and validation loss, per gradient step: about the last 33 steps."""
_ANY_PLACE = np.zeros(1, dtype=np.int64)
_NORMALISATION_COMPARISONS, _NORMALISATION_IMAGES = 64, 8
"""The newest comparisons whose steps set the output normalisation: near the agent's present behaviour, and cheap."""


class RewardLearner:
    """Fits an ensemble to the newest comparisons."""

    def __init__(self, config: RewardConfig, inputs: Inputs, length: int, seed: int, device: str = "cpu") -> None:
        """Make an untrained learner.

        Args:
            config: The reward model and how to fit it.
            inputs: What it reads of a step.
            length: L, of a segment.
            seed: Of initial weights, batches and bootstraps.
            device: Where torch computes.
        """
        self._chance = OwnChance(seed, device)  # leaves the agent's random state alone
        with self._chance.drawn():
            self.ensemble = RewardEnsemble(config, inputs).to(device)
        self.config, self.seed, self.device = config, seed, device
        self.optimizer = torch.optim.Adam(self.ensemble.network.parameters(), lr=config.learning_rate, fused=True)
        self.l2 = torch.full((config.members,), config.l2, device=device)
        self.losses = torch.full((2, config.members), torch.nan, device=device)
        self.updates = self.fitted = self.version = self.last_id = 0
        self._standing: list[Comparison] = []
        """All that stand, by their ids; the newest are in the buffer, the n-th at place n modulo its capacity."""
        self._rng = stream(seed, "batches")
        self._moments = np.zeros((2, *inputs.step)) if not inputs.images else np.zeros(0)
        capacity = config.buffer
        self._make_features: Callable[[int], Tensor] = lambda rows: inputs.empty(rows, length, device)
        self._make_true: Callable[[int], Tensor] = lambda rows: torch.empty(rows, 2, length, device=device)
        self._features = self._make_features(min(FIRST, capacity))
        self._true = self._make_true(min(FIRST, capacity))
        self._mu = torch.empty(capacity, device=device)
        self._multiplicity = np.zeros((config.members, capacity), dtype=np.int64)
        self._bags: list[Array] = []
        """Each member's bootstrap, as places in the buffer: a comparison of multiplicity m is there m times."""
        self._held_out: list[Array] = []
        """Each member's out-of-bag comparisons: its validation set."""

    def __len__(self) -> int:
        """Comparisons in the buffer."""
        return min(self.seen, self.config.buffer)

    @property
    def seen(self) -> int:
        """Comparisons that stand, those that are in the buffer no more included."""
        return len(self._standing)

    def add(self, changes: Iterable[Comparison | Undone], read: ReadSegment) -> int:
        """Take in comparisons, and give up those that were taken back, in the order of the history.

        The newest that stand are in the buffer: the oldest make room, and come back where newer ones are given up. What
        is learned from depends on which stand, and not on what else was said meanwhile.

        Returns:
            How many changes there were.
        """
        count = 0
        for change in changes:
            if isinstance(change, Undone):
                self._give_up(change.comparison, read)
            else:
                for features in self._put(self.seen, change, read):
                    self._moments += self._moments_of(features)
                self._standing.append(change)
            self.last_id = change.id
            count += 1
        if count:
            self._draw_bags()
            self._normalise_inputs()
        return count

    def _put(self, number: int, comparison: Comparison, read: ReadSegment) -> list[Array]:
        """Put the comparison of this number at its place in the buffer; both segments' features."""
        place, sides = number % self.config.buffer, [read(comparison.left), read(comparison.right)]
        capacity = self.config.buffer
        self._features = with_room(self._features, place + 1, capacity, self._make_features)
        self._true = with_room(self._true, place + 1, capacity, self._make_true)
        for side, (features, true_rewards) in enumerate(sides):
            self._features[place, side] = torch.from_numpy(features)
            self._true[place, side] = torch.from_numpy(true_rewards)
        self._mu[place] = comparison.mu
        self._multiplicity[:, place] = multiplicity(self.seed, comparison.id, self.config.members)
        return [features for features, _ in sides]

    def _give_up(self, answer: int, read: ReadSegment) -> None:
        """Forget an answer; nothing where it was no comparison, or left out as damaged."""
        number = next((n for n in reversed(range(self.seen)) if self._standing[n].id == answer), None)
        if number is not None:
            self._forget_moments(self._standing.pop(number), read)
            self._close_gap(number, read)

    def _forget_moments(self, comparison: Comparison, read: ReadSegment) -> None:
        if not self.seen:
            self._moments[...] = 0
        elif self._moments.size:
            try:
                for segment in (comparison.left, comparison.right):
                    self._moments -= self._moments_of(read(segment)[0])
            except PrefrlError:  # its clip was damaged since: it is taken for an average one
                self._moments *= self.seen / (self.seen + 1)

    def _close_gap(self, number: int, read: ReadSegment) -> None:
        """Move every newer comparison to the place of the one before it, and take the newest of the older ones back."""
        capacity, count = self.config.buffer, self.seen
        oldest = max(0, count - capacity)
        moved = np.arange(max(number, oldest), count)
        to, source = moved % capacity, (moved + 1) % capacity
        for part in (*self._features.flatten(1, 2).unbind(1), self._true, self._mu):  # so that no copy is large
            part[torch.from_numpy(to)] = part[torch.from_numpy(source)]
        self._multiplicity[:, to] = self._multiplicity[:, source]
        if count >= capacity and number > oldest:
            try:
                self._put(oldest, self._standing[oldest], read)
            except PrefrlError:  # its clip was damaged since
                self._give_up(self._standing[oldest].id, read)

    def _draw_bags(self) -> None:
        counts, places = self._multiplicity[:, : len(self)], np.arange(len(self))
        self._bags = [np.repeat(places, count) for count in counts]
        self._held_out = [places[count == 0] for count in counts]

    def _moments_of(self, features: Array) -> Array:
        """A segment's mean and mean square of each feature, (2, F); nothing of images."""
        if not self._moments.size:
            return np.zeros(0)
        return np.stack([features.mean(axis=0), np.square(features, dtype=np.float64).mean(axis=0)])

    def _normalise_inputs(self) -> None:
        """Set the input normalisation to the statistics of the comparisons that stand."""
        if not self._moments.size:
            return
        mean, square = self._moments / (2 * max(1, self.seen))
        std = np.sqrt(np.maximum(square - mean**2, 1e-8)) if self.seen else np.ones_like(mean)
        self.ensemble.input_mean.copy_(torch.from_numpy(mean))
        self.ensemble.input_std.copy_(torch.from_numpy(std))

    @property
    def pretrained(self) -> bool:
        """Whether the work before the agent's training is done."""
        return self.fitted + self.config.batch_size > self._pretraining

    @property
    def _pretraining(self) -> int:
        return max(self.config.pretrain_comparisons, self.config.batch_size)

    @property
    def chunk(self) -> int:
        """Comparisons to be fitted between two looks at whether to stop."""
        return self.config.batch_size * (_CHUNK_IMAGE_BATCHES if self.ensemble.inputs.images else _CHUNK_BATCHES)

    def due(self, agent_steps: int) -> int:
        """Comparisons still to be fitted by an agent step, pretraining included; whole batches."""
        wanted = self._pretraining + self.config.comparisons_per_step * agent_steps
        batches = (wanted - self.fitted) // self.config.batch_size
        return max(0, int(batches)) * self.config.batch_size

    def train(self, comparisons: int) -> None:
        """Take gradient steps over random batches until this many comparisons were fitted."""
        if not len(self):
            return
        with self._chance.drawn():  # for dropout
            self.ensemble.train()
            for _ in range(max(1, comparisons // self.config.batch_size)):
                self._step()
                if self.updates % _VALIDATION_STEPS == 0:
                    self._validate()
            self.ensemble.eval()

    def _step(self) -> None:
        """One gradient step, for each member on a batch from its own bootstrap."""
        losses = self._losses(self._bags)
        penalty = (self.l2 * self.ensemble.network.squared_norm()).sum()
        self.optimizer.zero_grad()
        (losses.nan_to_num().sum() + penalty).backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.losses[0] = running_mean(self.losses[0], losses.detach(), _LOSS_DECAY)
        self.updates += 1
        self.fitted += self.config.batch_size

    @torch.no_grad()
    def _validate(self) -> None:
        """Measure the loss on comparisons that a member does not train on, and adapt its L2 penalty to it."""
        config = self.config
        self.ensemble.eval()
        self.losses[1] = running_mean(self.losses[1], self._losses(self._held_out), _LOSS_DECAY**_VALIDATION_STEPS)
        self.ensemble.train()
        ratio = self.losses[1] / self.losses[0]
        self.l2 = adapted_l2(self.l2, ratio, config.validation_low, config.validation_high, config.l2_rate)

    def _losses(self, places: list[Array]) -> Tensor:
        """(K,) each member's mean loss over a batch drawn from its own places; NaN for a member that has none."""
        size = self.config.batch_size
        drawn = [self._rng.choice(own if len(own) else _ANY_PLACE, size) for own in places]
        batch = torch.from_numpy(np.stack(drawn)).to(self.device)
        rewards = self.ensemble.forward_each(self.ensemble.inputs.steps(self._features[batch]))
        if self.config.loss == "true-reward":
            losses = regression_loss(rewards, self._true[batch])
        else:
            losses = comparison_loss(preference_logit(rewards), self._mu[batch], self.config.error)
        there = torch.tensor([len(own) > 0 for own in places], device=self.device)
        return losses.mean(dim=1).where(there, torch.nan)

    def normalise(self) -> None:
        """Fit the output normalisation to the newest comparisons; before weights are used or published."""
        if not len(self):
            return
        inputs = self.ensemble.inputs
        count = min(len(self), _NORMALISATION_IMAGES if inputs.images else _NORMALISATION_COMPARISONS)
        newest = torch.arange(self.seen - count, self.seen) % self.config.buffer
        self.ensemble.fit_output_normalisation(inputs.steps(self._features[newest]).flatten(0, 2))

    def metrics(self) -> dict[str, float]:
        """Figures of the fit; losses are means over members, in nats."""
        training, validation = self.losses.mean(dim=1).tolist()
        return {
            "version": self.version,
            "reward_updates": self.updates,
            "comparisons": self.seen,
            "training_loss": training,
            "validation_loss": validation,
            "l2": float(self.l2.mean()),
        }

    def publish(self, path: Path) -> None:
        """Normalise, and replace the published weights with these."""
        self.normalise()
        self.version += 1
        save_tree(path, {"weights": dict(self.ensemble.state_dict()), "metrics": self.metrics()})

    def state_dict(self) -> Tree:
        """Everything but the comparisons, which the store has; to be restored before they are read again."""
        return {
            "ensemble": dict(self.ensemble.state_dict()),
            "optimizer": optimizer_state(self.optimizer),
            "l2": self.l2,
            "losses": self.losses,
            "moments": self._moments,
            "rng": self._rng.bit_generator.state,
            **self._chance.state_dict(),
            "counters": {name: getattr(self, name) for name in (*_COUNTERS, "seen")},
        }

    def load_state_dict(self, state: Tree, comparisons: Iterable[Comparison], read: ReadSegment) -> None:
        """Go back to a saved state.

        Args:
            state: From `state_dict`.
            comparisons: All that stood as of the state's `last_id`, in order.
            read: Reads a segment.
        """
        self._standing = kept = list(comparisons)
        for number in range(max(0, len(kept) - self.config.buffer), len(kept)):
            self._put(number, kept[number], read)
        self._draw_bags()
        self.ensemble.load_state_dict({name: torch.from_numpy(array) for name, array in state["ensemble"].items()})
        load_optimizer_state(self.optimizer, state["optimizer"])
        self.l2 = torch.from_numpy(state["l2"]).to(self.device)
        self.losses = torch.from_numpy(state["losses"]).to(self.device)
        was = state["counters"]["seen"]  # more than are left, where clips were damaged since
        self._moments = state["moments"] * (len(kept) / was if was else 1.0)
        self._rng.bit_generator.state = state["rng"]
        self._chance.load_state_dict(state)
        for name in _COUNTERS:
            setattr(self, name, state["counters"][name])


_COUNTERS = ("updates", "fitted", "version", "last_id")


def optimizer_state(optimizer: torch.optim.Optimizer) -> Tree:
    """An optimiser's state as a tree: per parameter, by its index."""
    return {str(index): dict(values) for index, values in optimizer.state_dict()["state"].items()}


def _laid_out_as(parameter: Tensor, value: Any) -> Tensor:
    """The value as a tensor, laid out in memory as the parameter is: a fused optimiser pairs them place by place."""
    tensor = torch.as_tensor(value)
    return torch.empty_like(parameter).copy_(tensor) if tensor.shape == parameter.shape else tensor


def load_optimizer_state(optimizer: torch.optim.Optimizer, tree: Tree) -> None:
    """Restore what `optimizer_state` gave; hyperparameters stay those the optimiser was made with."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        int(index): {name: _laid_out_as(parameters[int(index)], value) for name, value in values.items()}
        for index, values in tree.items()
    }
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
