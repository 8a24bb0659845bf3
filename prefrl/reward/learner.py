"""The reward learner: comparisons in, versioned weights out (paper, section 2.2.3).

The same object runs inline in a synchronous run and in a process of its own in an asynchronous one. Its work is set in
comparisons per agent step, so its cost does not grow with the labels that are already there.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from prefrl.config import RewardConfig
from prefrl.experience.inputs import Inputs
from prefrl.feedback.terms import Comparison, Undone
from prefrl.machine.random_state import TorchRandomState
from prefrl.reward.dataset import Dataset, ReadSegment
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.published import Publisher
from prefrl.reward.trainer import Trainer
from prefrl.storage.files import Tree

_CHUNK_BATCHES, _CHUNK_IMAGE_BATCHES = 8, 1
"""Gradient steps that take some hundredths of a second, or a second or two."""
_NORMALISATION_COMPARISONS, _NORMALISATION_IMAGES = 64, 8
"""The newest comparisons whose steps set the output normalisation: near the agent's present behaviour, and cheap."""


class RewardLearner:
    """Fits an ensemble to the newest comparisons: a dataset, a trainer and a publisher."""

    def __init__(self, config: RewardConfig, inputs: Inputs, length: int, seed: int, device: str = "cpu") -> None:
        """Make an untrained learner.

        Args:
            config: The reward model and how to fit it.
            inputs: What it reads of a step.
            length: L, of a segment.
            seed: Of initial weights, batches and bootstraps.
            device: Where torch computes.
        """
        self._chance = TorchRandomState(seed, device)  # leaves the agent's random state alone
        with self._chance.drawn():
            self.ensemble = RewardEnsemble(config, inputs).to(device)
        self.config = config
        self.dataset = Dataset(config, inputs, length, seed, device)
        self.trainer = Trainer(config, self.ensemble, self.dataset, device)
        self._publisher = Publisher(self.ensemble)

    def __len__(self) -> int:
        """Comparisons that are trained on."""
        return len(self.dataset)

    @property
    def updates(self) -> int:
        """Gradient steps taken."""
        return self.trainer.updates

    @property
    def version(self) -> int:
        """How often weights were published."""
        return self._publisher.version

    @property
    def last_id(self) -> int:
        """The newest row of the labels' history that was taken in."""
        return self.dataset.last_id

    def add(self, changes: Iterable[Comparison | Undone], read: ReadSegment) -> int:
        """Take in comparisons, and give up those that were taken back; `Dataset.add`."""
        count = self.dataset.add(changes, read)
        if count:
            self.ensemble.input_normaliser.fit(self.dataset.moments, self.dataset.segments_seen)
        return count

    @property
    def pretrained(self) -> bool:
        """Whether the work before the agent's training is done."""
        return self.trainer.fitted + self.config.batch_size > self._pretraining

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
        batches = (wanted - self.trainer.fitted) // self.config.batch_size
        return max(0, int(batches)) * self.config.batch_size

    def train(self, comparisons: int) -> None:
        """Take gradient steps until this many comparisons were fitted."""
        with self._chance.drawn():  # for dropout
            self.trainer.train(comparisons)

    def normalise(self) -> None:
        """Fit the output normalisation to the newest comparisons; before weights are used or published."""
        if len(self.dataset):
            count = _NORMALISATION_IMAGES if self.ensemble.inputs.images else _NORMALISATION_COMPARISONS
            self.ensemble.fit_output_normalisation(self.dataset.newest_steps(count))

    def metrics(self) -> dict[str, float]:
        """Figures of the fit; losses are means over members, in nats."""
        training, validation = self.trainer.losses.mean(dim=1).tolist()
        return {
            "version": self.version,
            "reward_updates": self.trainer.updates,
            "comparisons": self.dataset.seen,
            "training_loss": training,
            "validation_loss": validation,
            "l2": float(self.trainer.l2.coefficients.mean()),
        }

    def publish(self, path: Path) -> None:
        """Normalise, and replace the published weights with these."""
        self.normalise()
        self._publisher.publish(path, self.metrics())

    def state_dict(self) -> Tree:
        """Everything but the comparisons, which the store has; to be restored before they are read again."""
        state: Tree = {"counters": {}, **self._chance.state_dict()}
        for part in (self.trainer, self.dataset, self._publisher):
            own = part.state_dict()
            state |= own | {"counters": state["counters"] | own["counters"]}
        return state

    def load_state_dict(self, state: Tree, comparisons: Iterable[Comparison], read: ReadSegment) -> None:
        """Go back to a saved state.

        Args:
            state: From `state_dict`.
            comparisons: All that stood as of the state's `last_id`, in order.
            read: Reads a segment.
        """
        self.dataset.load_state_dict(state, comparisons, read)
        self.trainer.load_state_dict(state)
        self._publisher.load_state_dict(state)
        self._chance.load_state_dict(state)
