"""Report the progress of a training to the run directory and the screen."""

from __future__ import annotations

import time

from prefrl.bookkeeping.records import Records
from prefrl.parts import Parts
from prefrl.runs.control import StopTraining
from prefrl.runs.progress import Phase, Progress

SAY_SECONDS = 2.0
"""Interval between two reports during a long rollout or evaluation."""
_CHECK_SECONDS = 1.0


class Reporter:
    """Reports the progress of a training and monitors its worker processes."""

    def __init__(self, parts: Parts, records: Records) -> None:
        self._parts, self._records = parts, records
        self.initial_labels_done = False
        self._said = self._next_check = 0.0

    def say(self, phase: Phase, counts: dict[str, int] | None = None, *, evaluated: int = 0, episodes: int = 0) -> None:
        """Report the current progress.

        Args:
            phase: What the training is doing.
            counts: Counts of labels, see `Parts.counts`; None to read them from the store.
            evaluated: Finished episodes of the current evaluation.
            episodes: Total episodes of the current evaluation.
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
        """Report the progress again if the last report is older than `SAY_SECONDS`."""
        if time.monotonic() - self._said > SAY_SECONDS:
            self.say(phase)

    def each_step(self) -> None:
        """Report progress and check workers. Called after every step, because a slow rollout can take minutes."""
        if self._parts.reward:
            self._parts.reward.score_ahead()
        self.keep_saying(Phase.TRAINING)
        if self._parts.feedback and time.monotonic() > self._next_check:
            self._check()

    def waiting(self, counts: dict[str, int]) -> None:
        """Report progress and check workers; called repeatedly while the run waits for answers.

        Raises:
            StopTraining: if a stop was requested.
            LearnerDiedError: if the reward learner's process died.
        """
        control = self._parts.control
        if time.monotonic() < self._next_check and not control.stop:
            return
        self._check()
        self.say(Phase.WAITING, counts)
        if control.stop:
            raise StopTraining

    def _check(self) -> None:
        """Check that the worker processes are alive."""
        self._next_check = time.monotonic() + _CHECK_SECONDS
        feedback = self._parts.feedback
        if feedback:
            feedback.learner.check(self._parts.agent.steps)
            if feedback.renderer and (happened := feedback.renderer.check()):
                self._parts.control.warn(happened)
