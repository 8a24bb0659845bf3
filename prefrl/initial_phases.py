"""The phases before training, from imitating demonstrations to pretraining the reward model.

People may need hours for the first labels. The recorded clips therefore have a checkpoint of their own, which lasts
until the agent's first checkpoint. A run that is stopped in between resumes with the same clips.
"""

from __future__ import annotations

import time

from prefrl.bookkeeping.keeper import Keeper
from prefrl.bookkeeping.reporter import Reporter
from prefrl.errors import PrefrlError, UsageError
from prefrl.parts import Feedback, Parts
from prefrl.runs.control import StopTraining
from prefrl.runs.progress import Phase
from prefrl.seeding import stream
from prefrl.storage.files import taken_from


class InitialPhases:
    """Collects the first labels and pretrains the reward model."""

    def __init__(self, parts: Parts, feedback: Feedback, keeper: Keeper) -> None:
        """Initialise the phases of a training.

        Args:
            parts: The training.
            feedback: Its parts that learn the reward.
            keeper: Provides the records and the reporter.
        """
        self._parts, self._feedback = parts, feedback
        self._records, self._reporter = keeper.records, keeper.reporter
        self._most = keeper.largest_checkpoint

    def run(self) -> None:
        """Run all phases, or the rest of them if the run was stopped in one; errors as for each of them."""
        if not self.restore():
            clone_demonstrations(self._parts, self._reporter)
        self.record()
        if self._feedback.automatic:
            self._feedback.automatic.add(self._parts.agent.steps)
        self.ask()
        self.pretrain()
        if self._feedback.exploration:
            self._parts.agent.change_reward()

    def restore(self) -> bool:
        """Restore a run that was stopped or killed in one of these phases, and return whether it was one."""
        parts, run, recorder = self._parts, self._parts.run, self._feedback.recorder
        exact, state = True, run.saved.load_recording(parts.control.warn, self._most, parts.agent.largest_pieces)
        if state is not None:
            with taken_from(run.saved.recording):
                exact = parts.env.load_state_dict(state["env"])
                parts.agent.load_state_dict(state["agent"] | {"pieces": state["pieces"]}, exact=exact)
                parts.agent.episodes = state["episodes"]
                self._records.load_clocks(state)
                if self._feedback.exploration:
                    self._feedback.exploration.load_state_dict(state["exploration"])
        recorder.recorded = max(recorder.recorded, self._feedback.asker.sync_with_store(exact=exact))
        return state is not None

    def record(self) -> None:
        """Collect experience until there are enough clips for the first queries, and exploration is over.

        The policy is untrained or has imitated demonstrations, and may train on the reward of exploration.

        Raises:
            PrefrlError: if the episodes are too short to cut clips from.
            StopTraining: if a stop was requested.
        """
        wanted, agent, config = self._first_segments, self._parts.agent, self._parts.config
        recorder, saved = self._feedback.recorder, time.monotonic()

        def lacking() -> bool:
            return len(recorder.pool) < wanted or agent.steps < config.exploration.steps

        if not wanted:
            return
        if lacking():
            self._reporter.say(Phase.RECORDING)
        while lacking() and agent.steps < config.steps:
            experience = agent.collect(lambda: self._reporter.keep_saying(Phase.RECORDING))
            assert experience is not None
            recorder.cut(experience)
            if self._feedback.exploration:
                agent.improve(self._feedback.exploration)
            self._reporter.say(Phase.RECORDING)
            if self._parts.control.stop or time.monotonic() - saved > config.checkpoint_seconds:
                self._save()
                saved = time.monotonic()
            if self._parts.control.stop:
                raise StopTraining
        if len(recorder.pool) < 2:
            raise PrefrlError(
                f"no two clips of {config.queries.segment_length} steps could be cut from {agent.steps} steps: the "
                f"episodes of {config.task} end earlier; set a shorter clip with --set queries.segment_length=N"
            )
        self._save()

    @property
    def _first_segments(self) -> int:
        automatic = self._feedback.automatic
        return max(self._feedback.asker.initial_segments, automatic.segments if automatic else 0)

    def ask(self) -> None:
        """Ask the first queries and wait for the answers.

        Raises:
            PrefrlError: if the teacher cannot compare any of the clips.
            UsageError: if no clip could be shown to people.
            StopTraining: if a stop was requested.
        """
        asker = self._feedback.asker
        if asker.initial_segments:
            asker.settle(self._parts.agent.steps, lambda: asker.initial_labels, self._reporter.waiting)
            if not asker.counts["answered"]:
                raise self._nothing_compared(asker.problems)
        self._reporter.initial_labels_done = True

    def _nothing_compared(self, problems: list[str]) -> PrefrlError:
        if problems:  # after resuming, there would be no other pairs to ask about
            reason = f"{problems[0]}; once that is fixed, start a new run"
            return UsageError(f"none of the first clips could be compared: {reason}")
        return PrefrlError(f"the teacher {self._parts.config.teacher} could compare none of the first clips")

    def pretrain(self) -> None:
        """Fit the reward model to the first labels.

        Raises:
            StopTraining: if a stop was requested.
        """
        learner, asker = self._feedback.learner, self._feedback.asker
        while not learner.ready:
            self._reporter.say(Phase.PRETRAINING)
            if self._parts.control.stop:
                raise StopTraining
            learner.fit(self._parts.agent.steps, asker.replayed_round)

    def _save(self) -> None:
        """Save the recorded clips; no labels and no reward model exist at this point."""
        agent = self._parts.agent
        state = {"agent": agent.state_dict(), "env": self._parts.env.state_dict()}
        if self._feedback.exploration:
            state["exploration"] = self._feedback.exploration.state_dict()
        self._parts.run.saved.save_recording(
            state | {"episodes": agent.episodes} | self._records.clocks(), agent.pieces()
        )


def clone_demonstrations(parts: Parts, reporter: Reporter) -> None:
    """Let the agent imitate the run's demonstrations, if there are any.

    A run that is stopped meanwhile starts over, because this takes seconds.

    Raises:
        StopTraining: if a stop was requested.
    """
    if parts.shown is None or not parts.config.demonstrations.batches:
        return

    def tell() -> None:
        reporter.keep_saying(Phase.CLONING)
        if parts.control.stop:
            raise StopTraining

    reporter.say(Phase.CLONING)
    settings = parts.config.demonstrations
    parts.agent.clone(parts.shown, settings, stream(parts.config.seed, "demonstrations"), tell)
