"""Run the reward learner inline, or in its own process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

from prefrl.config.migrations import stamped
from prefrl.errors import PrefrlError
from prefrl.experience.inputs import Inputs
from prefrl.experience.segment import Segment
from prefrl.feedback.store import LabelStore
from prefrl.machine.processes import WorkerProcess, check_guarded, how_it_ended
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.label_reader import LabelReader
from prefrl.reward.launch import start_learner
from prefrl.reward.learner import RewardLearner
from prefrl.reward.pool_file import save_pool
from prefrl.reward.published import PublishedReward
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import Tree, save_tree


class LearnerDiedError(PrefrlError):
    """The reward learner's process ended unexpectedly."""


class RewardModel(Protocol):
    """An ensemble whose weights may be replaced by newer ones."""

    ensemble: RewardEnsemble

    @property
    def version(self) -> int:
        """Version of the ensemble's current weights; 0 before the first are published."""

    def refresh(self) -> None:
        """Load newer weights of another process, if there are any. This is cheap if there are none."""


class FrozenReward:
    """A reward model that never changes."""

    version = 1

    def __init__(self, ensemble: RewardEnsemble) -> None:
        """Initialise the model; `ensemble` has its weights."""
        self.ensemble = ensemble

    def refresh(self) -> None:
        """Do nothing: there are no newer weights."""


class Learner(Protocol):
    """What turns labels into something that the agent can use, as the agent's process sees it."""

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the newest fit, by columns of `metrics.csv`."""

    @property
    def ready(self) -> bool:
        """Whether the agent can begin to train."""

    def check(self, agent_step: int) -> None:
        """Report the agent's progress to the learner.

        Args:
            agent_step: Agent steps taken.

        Raises:
            LearnerDiedError: if the learner's process ended.
        """

    def fit(self, agent_step: int, max_round: int | None) -> None:
        """Learn from the labels: do the work that is due, or load what the learner's process has learned.

        Until the learner is `ready`, each call does a part of the pretraining.

        Args:
            agent_step: Agent steps taken.
            max_round: The last round whose labels are used; None for all labels.
        """

    def state_dict(self) -> Tree:
        """Return the state to save in the agent's checkpoint."""

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""

    def close(self) -> None:
        """Stop the learner after it has published what it has learned."""

    def finish(self) -> None:
        """Close the learner at the end of a run.

        Raises:
            LearnerDiedError: if it did not learn from the last labels.
        """


class RewardWorker(Learner, RewardModel, Protocol):
    """The learner of a reward model, and the model."""


class InlineLearner:
    """The learner in the agent's process. It is deterministic, and may use all cores because the agent waits for it."""

    def __init__(
        self,
        run: RunDirectory,
        store: LabelStore,
        learner: RewardLearner,
        threads: int = 1,
        pool: Sequence[Segment] = (),
    ) -> None:
        """Initialise the learner in this process.

        Args:
            run: The run.
            store: The run's label store.
            learner: The learner.
            threads: Number of torch's threads during training.
            pool: The newest segments, for pseudo-labels.
        """
        self.pool = pool
        self._run, self._labels, self._learner = run, LabelReader(run, store, learner.ensemble.inputs), learner
        self._threads = threads
        self.ensemble = learner.ensemble

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the fit."""
        return self._learner.metrics()

    @property
    def ready(self) -> bool:
        """Whether the pretrained ensemble has been published."""
        return self.version > 0

    @property
    def version(self) -> int:
        """Number of times that weights were published."""
        return self._learner.version

    def check(self, agent_step: int) -> None:
        """Do nothing: there is no process that could end."""

    def refresh(self) -> None:
        """Do nothing: no other process publishes weights."""

    def fit(self, agent_step: int, max_round: int | None) -> None:
        """Add the labels of the rounds so far, and take the gradient steps that are due."""
        learner = self._learner
        upto = None if max_round is None else self._labels.last_row(max_round, agent_step)
        learner.add(self._labels.changes(after=learner.last_id, upto=upto), self._labels.read)
        if self._labels.left_out and not len(learner) and not self.ready:
            raise PrefrlError("no label can be used for training: for each, a line above says why")
        learner.watch(self.pool)
        if due := learner.due(agent_step):
            # All cores are free while the agent waits. The agent's own networks may be faster on fewer threads.
            agents = torch.get_num_threads()
            torch.set_num_threads(self._threads)
            learner.train(due if learner.pretrained else min(due, learner.chunk))
            torch.set_num_threads(agents)
            if learner.pretrained:
                learner.publish(self._run.weights)

    def state_dict(self) -> Tree:
        """Return the learner's state."""
        return self._learner.state_dict()

    def load_state_dict(self, state: Tree) -> None:
        """Restore the learner's state."""
        kept = self._labels.standing(upto=state["counters"]["last_id"])
        self._learner.load_state_dict(state, kept, self._labels.read)

    def close(self) -> None:
        """Do nothing: there is no process to stop."""

    def finish(self) -> None:
        """Do nothing: there is no process to stop."""


class LearnerProcess:
    """The learner in a spawned process. The two processes share only the run directory.

    Pretraining happens in the agent's process, which has to wait for it anyway while the learner's process starts.
    """

    def __init__(
        self,
        run: RunDirectory,
        pretraining: InlineLearner,
        inputs: Inputs,
        device: str,
        started: WorkerProcess | None = None,
    ) -> None:
        """Send the process its arguments.

        Args:
            run: The run.
            pretraining: Fits the ensemble until it is pretrained; then the process takes over.
            inputs: The inputs of the reward model.
            device: The learner's device.
            started: The process, if it was started in advance.
        """
        self._run, self._pool = run, pretraining.pool
        self._pretraining: InlineLearner | None = pretraining
        self.ensemble = pretraining.ensemble
        self._published = PublishedReward(run.weights, self.ensemble)
        self._worker = started or start_learner()
        self._worker.send((run.root, inputs, device))

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics of the fit."""
        return self._published.metrics

    @property
    def ready(self) -> bool:
        """Whether weights have been published."""
        return self.version > 0

    @property
    def version(self) -> int:
        """Version of the loaded weights."""
        return self._published.version

    def check(self, agent_step: int) -> None:
        """Send the agent's step to the process; see `RewardWorker.check`."""
        process = self._worker.process
        self._worker.send(agent_step)
        if not process.is_alive():
            self._died(process.exitcode)

    def refresh(self) -> None:
        """Load newer weights, if there are any."""
        self._published.refresh()

    def fit(self, agent_step: int, max_round: int | None) -> None:
        """Load newer weights; until the ensemble is pretrained, do a part of the pretraining.

        Raises:
            LearnerDiedError: if the process ended.
            UsageError: if the process could not start because the user's script has no main guard.
        """
        self.check(agent_step)
        if self._pretraining:
            self._pretraining.fit(agent_step, max_round)
            if self._pretraining.ready:
                state = stamped("learner", self._pretraining.state_dict())
                save_tree(self._run.learner_state, state, durable=True)
                self._pretraining = None
        if self._run.config.reward.pseudo_threshold is not None:
            save_pool(self._run.unlabelled, self._pool, self.ensemble.inputs)
        if not self._pretraining:  # else weights that are there are of a run that died before its first checkpoint
            self.refresh()

    def state_dict(self) -> Tree:
        """Return nothing: the process saves its own state."""
        return {}

    def load_state_dict(self, state: Tree) -> None:
        """Load only the published weights: the process restores its own state."""
        self._pretraining = None
        self.refresh()

    def close(self) -> None:
        """Let the process finish its chunk, publish and save; then load its last weights."""
        self._worker.stop()
        self.refresh()

    def finish(self) -> None:
        """Close the process, and check that it learned from the last labels.

        Raises:
            LearnerDiedError: if the process died.
            UsageError: if the process could not start because the user's script has no main guard.
        """
        ended = self._worker.stop()
        self.refresh()
        if ended and (status := self._worker.process.exitcode):
            self._died(status)

    @staticmethod
    def _died(status: int | None) -> None:
        check_guarded(status)
        raise LearnerDiedError(f"the reward learner's process died ({how_it_ended(status)})")
