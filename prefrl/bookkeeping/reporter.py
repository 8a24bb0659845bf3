"""Tells the run directory and the screen where a training is."""

from __future__ import annotations

import time

from prefrl.bookkeeping.records import Records
from prefrl.parts import Parts
from prefrl.runs.control import StopTraining
from prefrl.runs.progress import Phase, Progress

SAY_SECONDS = 2.0
"""Between two messages where a rollout or an evaluation takes long."""
_CHECK_SECONDS = 1.0


class Reporter:
    """Says what a training does, and sees to its worker processes."""

    def __init__(self, parts: Parts, records: Records) -> None:
        self._parts, self._records = parts, records
        self.initial_labels_done = False
        self._said = self._next_check = 0.0

    def say(self, phase: Phase, counts: dict[str, int] | None = None, *, evaluated: int = 0, episodes: int = 0) -> None:
        """Say what is going on.

        Args:
            phase: What the training does.
            counts: The labels by judgement, where they are at hand.
            evaluated: Episodes of an evaluation that have ended.
            episodes: Episodes of the evaluation.
        """
        parts, row = self._parts, self._records.last_row
        counts = counts or parts.counts
        progress = Progress(
            phase,
            step=parts.agent.steps,
            steps=parts.config.steps,
            initial_labels_done=self.initial_labels_done,
            labels=counts["answered"],
            labels_pending=counts["pending"],
            labels_budget=parts.budget,
            true_return=row.get("true_return_mean"),
            evaluation_return=self._records.evaluation,
            evaluated=evaluated,
            evaluation_episodes=episodes,
            reward_correlation=row.get("reward_correlation"),
            seconds=self._records.seconds,
            updated_at=time.time(),
        )
        parts.run.write_progress(progress)
        parts.control.report(progress)
        self._said = time.monotonic()

    def keep_saying(self, phase: Phase) -> None:
        """Say it again where it takes long, so that nobody is left without a word."""
        if time.monotonic() - self._said > SAY_SECONDS:
            self.say(phase)

    def each_step(self) -> None:
        """Called after every step of the environments: a round may be minutes away where they are slow."""
        feedback = self._parts.feedback
        if feedback:
            feedback.reward.predicted.look_ahead()
        self.keep_saying(Phase.TRAINING)
        if feedback and time.monotonic() > self._next_check:
            self._check()

    def waiting(self, counts: dict[str, int]) -> None:
        """Called again and again while answers are waited for.

        Raises:
            StopTraining: if somebody asked for it.
            LearnerDiedError: if the reward learner's process is gone.
        """
        control = self._parts.control
        if time.monotonic() < self._next_check and not control.stop:
            return
        self._check()
        self.say(Phase.WAITING, counts)
        if control.stop:
            raise StopTraining

    def _check(self) -> None:
        """See to the worker processes, now and then."""
        self._next_check = time.monotonic() + _CHECK_SECONDS
        feedback = self._parts.feedback
        if feedback:
            feedback.learner.check(self._parts.agent.steps)
            if feedback.renderer and (happened := feedback.renderer.check()):
                self._parts.control.warn(happened)
