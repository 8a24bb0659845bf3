"""The reward learner, which fits an ensemble to labels and publishes its weights (paper, section 2.2.3).

It runs in the agent's process in synchronous runs and in its own process in asynchronous runs. `prefrl.reward.work`
decides how much it fits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from prefrl.config import RewardConfig, RunConfig
from prefrl.experience.inputs import Inputs
from prefrl.experience.segment import Segment
from prefrl.feedback.kinds import kinds_of
from prefrl.feedback.terms import Label, Undone
from prefrl.machine.random_state import TorchRandomState
from prefrl.reward.dataset import PAIRS, Dataset, LabelType, ReadSegment
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.likelihood import Likelihood, likelihoods_of
from prefrl.reward.mixture import Mixture
from prefrl.reward.pseudo_labels import Unlabelled
from prefrl.reward.published import Publisher
from prefrl.reward.trainer import Trainer
from prefrl.reward.work import make_work
from prefrl.storage.files import Tree

_CHUNK_BATCHES, _CHUNK_IMAGE_BATCHES = 8, 1
"""Gradient steps per chunk for vectors (some hundredths of a second) and for images (one or two seconds)."""
_NORMALISATION_LABELS, _NORMALISATION_IMAGES = 64, 8
"""Newest labels to which the output normalisation is fitted: few, and close to the agent's current behaviour."""


class RewardLearner:
    """Fits an ensemble to the newest labels. It consists of a dataset, a trainer and a publisher."""

    def __init__(
        self,
        config: RewardConfig,
        inputs: Inputs,
        length: int,
        seed: int,
        device: str = "cpu",
        label_types: Sequence[LabelType] = (PAIRS,),
        pool: int = 0,
        likelihoods: Mapping[str, Likelihood] = MappingProxyType({}),
    ) -> None:
        """Create an untrained learner.

        Args:
            config: The reward model and its training.
            inputs: The inputs of a step.
            length: L, the number of steps in a segment.
            seed: Seed of initial weights, batches and bootstrap samples.
            device: Torch's device.
            label_types: The kinds of labels.
            pool: Largest number of unlabelled segments, for pseudo-labels.
            likelihoods: Losses with parameters; see `RewardEnsemble`.
        """
        self._chance = TorchRandomState(seed, device)  # separate from the agent's random state
        with self._chance.drawn():
            self.ensemble = RewardEnsemble(config, inputs, likelihoods).to(device)
        self.config = config
        datasets = [Dataset(config, inputs, length, seed, device, each) for each in label_types]
        self.labels = Mixture(datasets, config.batch_size)
        uses_pool = config.pseudo_threshold is not None and pool > 1
        self.unlabelled = Unlabelled(inputs, length, pool, device) if uses_pool else None
        """Segments for pseudo-labels; None without pseudo-labels."""
        self.trainer = Trainer(config, self.ensemble, self.labels, device, seed, self.unlabelled)
        self.work = make_work(config, self.trainer, self.labels)
        self._publisher = Publisher(self.ensemble)

    @classmethod
    def of_run(cls, config: RunConfig, inputs: Inputs, device: str) -> RewardLearner:
        """Create a run's untrained learner."""
        kinds, losses, queries = kinds_of(config), config.losses, config.queries
        types = [LabelType(name, kind.arity, losses[name], kind.by_step) for name, kind in kinds.items()]
        fitted = (types, queries.pool, likelihoods_of(config))
        return cls(config.reward, inputs, queries.segment_length, config.seed, device, *fitted)

    @property
    def dataset(self) -> Dataset:
        """The labels of the run's first feedback kind."""
        return self.labels.first

    def __len__(self) -> int:
        """Return the number of labels that are trained on."""
        return len(self.labels)

    @property
    def updates(self) -> int:
        """Gradient steps taken."""
        return self.trainer.updates

    @property
    def version(self) -> int:
        """Number of times that weights were published."""
        return self._publisher.version

    @property
    def last_id(self) -> int:
        """The newest row of the history of labels that was added."""
        return self.labels.last_id

    def add(self, changes: Iterable[Label | Undone], read: ReadSegment) -> int:
        """Add labels, and remove undone ones; see `Dataset.add`."""
        count = self.labels.add(changes, read)
        if count:
            self.ensemble.input_normaliser.fit(self.labels.moments, self.labels.segments_seen)
            self.work.begin()
        return count

    def watch(self, pool: Sequence[Segment]) -> None:
        """Use the segments of the pool for pseudo-labels, if there are any pseudo-labels."""
        if self.unlabelled is not None:
            self.unlabelled.update_from(pool)

    @property
    def pretrained(self) -> bool:
        """Whether pretraining is complete."""
        return self.work.pretrained

    @property
    def chunk(self) -> int:
        """Labels to fit before checking again whether to stop."""
        return self.config.batch_size * (_CHUNK_IMAGE_BATCHES if self.ensemble.inputs.images else _CHUNK_BATCHES)

    def due(self, agent_steps: int) -> int:
        """Return the labels that are due by an agent step and not fitted yet, counting repetitions."""
        return self.work.due(agent_steps)

    def train(self, labels: int) -> None:
        """Take gradient steps on the given number of labels, counting repetitions."""
        with self._chance.drawn():  # for dropout
            self.work.train(labels)

    def normalise(self) -> None:
        """Fit the output normalisation to the newest labels. Call this before weights are used or published."""
        if len(self.labels):
            count = _NORMALISATION_IMAGES if self.ensemble.inputs.images else _NORMALISATION_LABELS
            self.ensemble.fit_output_normalisation(self.labels.newest_steps(count))

    def metrics(self) -> dict[str, float]:
        """Return metrics of the fit; losses are means over the members, in nats."""
        training, validation = self.trainer.losses.mean(dim=1).tolist()
        optional: dict[str, float] = {}
        if self.unlabelled is not None:
            optional["pseudo_label_share"] = float(self.trainer.confident.mean())
        if self.trainer.filter is not None:
            left_out, turned = map(len, self.dataset.judged().values())
            optional |= {"labels_trusted": len(self) - left_out - turned, "labels_reversed": turned}
        return optional | {
            "version": self.version,
            "reward_updates": self.trainer.updates,
            "comparisons": self.labels.seen,
            "training_loss": training,
            "validation_loss": validation,
            "l2": float(self.trainer.l2.coefficients.mean()),
        }

    def publish(self, path: Path, about: Tree | None = None) -> None:
        """Fit the output normalisation, and publish the current weights; arguments as for `Publisher.publish`."""
        self.normalise()
        self._publisher.publish(path, self.metrics(), about)

    def state_dict(self) -> Tree:
        """Return everything except the labels, which are in the store."""
        state: Tree = {"counters": {}, **self._chance.state_dict()}
        for part in (self.trainer, self.work, self.labels, self._publisher):
            own = part.state_dict()
            state |= own | {"counters": state["counters"] | own["counters"]}
        return state

    def load_state_dict(self, state: Tree, labels: Iterable[Label], read: ReadSegment) -> None:
        """Restore a saved state.

        Args:
            state: From `state_dict`.
            labels: All labels that stood as of the state's `last_id`, in order.
            read: Reads a segment.
        """
        self.labels.load_state_dict(state, labels, read)
        self.trainer.load_state_dict(state)
        self.work.load_state_dict(state)
        self._publisher.load_state_dict(state)
        self._chance.load_state_dict(state)
