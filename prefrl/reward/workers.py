"""Two ways to run the one reward learner: inline, or in a process of its own."""

from __future__ import annotations

from typing import Protocol

import torch

from prefrl.config.migrations import stamped
from prefrl.errors import PrefrlError
from prefrl.experience.inputs import Inputs
from prefrl.feedback.store import LabelStore
from prefrl.machine.processes import WorkerProcess, check_guarded, how_it_ended
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.labels import Labels
from prefrl.reward.launch import start_learner
from prefrl.reward.learner import RewardLearner
from prefrl.reward.published import PublishedReward
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import Tree, save_tree


class LearnerDiedError(PrefrlError):
    """The reward learner's process ended by itself."""


class RewardWorker(Protocol):
    """The agent's view of the reward learner."""

    ensemble: RewardEnsemble

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of the fit that the ensemble's present weights are from."""

    @property
    def ready(self) -> bool:
        """Whether the ensemble is pretrained."""

    def check(self, agent_step: int) -> None:
        """Tell it how far the agent is; raise LearnerDiedError if nobody learns any more."""

    def refresh(self) -> None:
        """Pick up what another process has published meanwhile; cheap where there is nothing new."""

    def fit(self, agent_step: int, max_round: int | None) -> None:
        """Bring the ensemble up to date: do the work that is due, or pick up what the other process has done.

        Until the ensemble is `ready`, a call does a share of the pretraining.

        Args:
            agent_step: Agent steps taken.
            max_round: The round up to which labels are followed; None for all that there are.
        """

    def state_dict(self) -> Tree:
        """What the agent's checkpoint must hold of it."""

    def load_state_dict(self, state: Tree) -> None:
        """Go back to a saved state."""

    def close(self) -> None:
        """Stop, with the last weights published."""

    def finish(self) -> None:
        """`close` at a run's end; raises LearnerDiedError if the last labels were not learned from."""


class InlineLearner:
    """The learner in the agent's own process: deterministic, and free to use every core while the agent waits."""

    def __init__(self, run: RunDirectory, store: LabelStore, learner: RewardLearner, threads: int = 1) -> None:
        """Put the learner to work in this process.

        Args:
            run: The run.
            store: Its labels.
            learner: The learner.
            threads: That torch may use while it fits.
        """
        self._run, self._labels, self._learner = run, Labels(run, store, learner.ensemble.inputs), learner
        self._threads = threads
        self.ensemble = learner.ensemble

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of the fit."""
        return self._learner.metrics()

    @property
    def ready(self) -> bool:
        """Whether the pretrained ensemble has been published."""
        return self._learner.version > 0

    def check(self, agent_step: int) -> None:
        """Nothing can die."""

    def refresh(self) -> None:
        """Nobody else publishes."""

    def fit(self, agent_step: int, max_round: int | None) -> None:
        """Follow the labels of the rounds so far and do the gradient work that is due by this step."""
        learner = self._learner
        upto = None if max_round is None else self._labels.followed(max_round, agent_step)
        learner.add(self._labels.changes(after=learner.last_id, upto=upto), self._labels.read)
        if due := learner.due(agent_step):
            # The agent waits meanwhile, so every core is free; its own networks may be faster on fewer.
            agents = torch.get_num_threads()
            torch.set_num_threads(self._threads)
            learner.train(due if learner.pretrained else min(due, learner.chunk))
            torch.set_num_threads(agents)
            if learner.pretrained:
                learner.publish(self._run.weights)

    def state_dict(self) -> Tree:
        """The learner's state."""
        return self._learner.state_dict()

    def load_state_dict(self, state: Tree) -> None:
        """Restore the learner and the weights that it had published."""
        kept = self._labels.comparisons(upto=state["counters"]["last_id"])
        self._learner.load_state_dict(state, kept, self._labels.read)

    def close(self) -> None:
        """Nothing to stop."""

    def finish(self) -> None:
        """Nothing to stop."""


class LearnerProcess:
    """The learner in a spawned process. The two share only the run directory.

    Pretraining is done here, as the agent has to wait for it anyway and the process takes seconds to come up.
    """

    def __init__(
        self,
        run: RunDirectory,
        pretraining: InlineLearner,
        inputs: Inputs,
        device: str,
        started: WorkerProcess | None = None,
    ) -> None:
        """Give the process its work.

        Args:
            run: The run.
            pretraining: Fits the ensemble until it is pretrained, and hands over to the process then.
            inputs: What the reward model reads.
            device: Where the learner computes.
            started: The process, where it was started before.
        """
        self._run = run
        self._pretraining: InlineLearner | None = pretraining
        self.ensemble = pretraining.ensemble
        self._published = PublishedReward(run.weights, self.ensemble)
        self._worker = started or start_learner()
        self._worker.send((run.root, inputs, device))

    @property
    def metrics(self) -> dict[str, float]:
        """Figures of the fit."""
        return self._published.metrics

    @property
    def ready(self) -> bool:
        """Whether weights have been published."""
        return self._published.version > 0

    def check(self, agent_step: int) -> None:
        """Tell the process how far the agent is; raise LearnerDiedError if it is gone."""
        process = self._worker.process
        self._worker.send(agent_step)
        if not process.is_alive():
            self._died(process.exitcode)

    def refresh(self) -> None:
        """Load newer weights, if there are any."""
        self._published.refresh()

    def fit(self, agent_step: int, max_round: int | None) -> None:
        """Refresh; before there is anything to load, pretrain.

        Raises:
            LearnerDiedError: if the process is gone.
            UsageError: if it could not begin, for the user's script lacks its guard.
        """
        self.check(agent_step)
        if self._pretraining:
            self._pretraining.fit(agent_step, max_round)
            if self._pretraining.ready:
                state = stamped("learner", self._pretraining.state_dict())
                save_tree(self._run.learner_state, state, durable=True)
                self._pretraining = None
        self.refresh()

    def state_dict(self) -> Tree:
        """Nothing: the process keeps its own state."""
        return {}

    def load_state_dict(self, state: Tree) -> None:
        """Nothing: the process finds its own state; only its published weights are picked up."""
        self._pretraining = None
        self.refresh()

    def close(self) -> None:
        """Let the process finish what it is at, publish and save; then pick up its last weights."""
        self._worker.stop()
        self.refresh()

    def finish(self) -> None:
        """`close`; one that died since the last look, or never began, has not learned what it should.

        Raises:
            LearnerDiedError: if it died.
            UsageError: if it could not begin, for the user's script lacks its guard.
        """
        ended = self._worker.stop()
        self.refresh()
        if ended and (status := self._worker.process.exitcode):
            self._died(status)

    @staticmethod
    def _died(status: int | None) -> None:
        check_guarded(status)
        raise LearnerDiedError(f"the reward learner's process died ({how_it_ended(status)})")
