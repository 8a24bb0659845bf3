"""Evaluate the policy of a training, at its end and optionally during training."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from prefrl.bookkeeping.records import Records
from prefrl.bookkeeping.reporter import SAY_SECONDS, Reporter
from prefrl.errors import explain, is_disk_full
from prefrl.experience.evaluation import evaluate, evaluation_seed
from prefrl.parts import Parts
from prefrl.runs.control import StopTraining
from prefrl.runs.progress import Phase


class Evaluator:
    """Evaluates the current policy and records the result."""

    def __init__(self, parts: Parts, records: Records, reporter: Reporter) -> None:
        self._parts, self._records, self._reporter = parts, records, reporter
        self._config = parts.config.evaluation
        self.due = False
        """Whether an evaluation of the current policy is due."""

    def is_due_at(self, step: int) -> bool:
        """Return whether a multiple of `evaluation.every` lies between the step of the last row and this one."""
        every = self._config.every
        if every is None or not self._parts.config.true_reward:
            return False
        return int(self._records.last_row.get("step") or 0) // every < step // every

    def evaluate_if_due(self) -> None:
        """Evaluate during training, if due.

        Raises:
            StopTraining: if a stop was requested.
        """
        if self.due:
            self._evaluate(self._config.every_episodes)

    def evaluate_at_the_end(self) -> None:
        """Evaluate the trained policy.

        Raises:
            StopTraining: if a stop was requested.
        """
        if self._config.episodes and self._parts.config.true_reward:
            self._evaluate(self._config.episodes)

    def _evaluate(self, episodes: int) -> None:
        """Add an evaluation to the last row of the metrics.

        A failed evaluation causes a warning and does not stop the run. If the run is stopped during an evaluation, the
        evaluation is repeated when the run is resumed.
        """
        config, control = self._parts.config, self._parts.control
        try:
            seed, tell = evaluation_seed(config), self._telling(episodes)
            found = evaluate(config, self._parts.agent.act, episodes=episodes, seed=seed, tell=tell)
        except StopTraining:
            raise
        except Exception as error:
            if is_disk_full(error):
                raise
            control.warn(f"the policy could not be evaluated: {explain(error)}")
            found = None
        self.due = False
        if found and found.cut:
            control.warn(f"{found.cut} of {episodes} episodes of the evaluation did not end and were cut")
        if found and math.isfinite(found.mean):
            self._records.add_evaluation(found)
        self._reporter.say(Phase.TRAINING)

    def _telling(self, episodes: int) -> Callable[[int], None]:
        """Return a callback that reports progress after each episode and every few seconds, and raises to stop."""
        said, at = -1, 0.0

        def tell(ended: int) -> None:
            nonlocal said, at
            if self._parts.control.stop:
                raise StopTraining
            if ended > said or time.monotonic() - at > SAY_SECONDS:
                said, at = ended, time.monotonic()
                self._reporter.say(Phase.EVALUATING, evaluated=ended, episodes=episodes)

        return tell
