"""Evaluates a training's policy, at its end and, where that is asked for, on the way."""

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
    """Evaluates the policy as it is."""

    def __init__(self, parts: Parts, records: Records, reporter: Reporter) -> None:
        self._parts, self._records, self._reporter = parts, records, reporter
        self._config = parts.config.evaluation
        self.due = False
        """Whether an evaluation of the present policy is still to be made."""

    def is_due_at(self, step: int) -> bool:
        """Whether a multiple of `evaluation.every` lies between the last row's step and this one."""
        every = self._config.every
        if every is None or not self._parts.config.true_reward:
            return False
        return int(self._records.last_row.get("step") or 0) // every < step // every

    def evaluate_if_due(self) -> None:
        """Evaluate while the agent trains; raises StopTraining if somebody asked for it."""
        if self.due:
            self._evaluate(self._config.every_episodes)

    def evaluate_at_the_end(self) -> None:
        """Evaluate the trained policy; raises StopTraining if somebody asked for it."""
        if self._config.episodes and self._parts.config.true_reward:
            self._evaluate(self._config.episodes)

    def _evaluate(self, episodes: int) -> None:
        """Add an evaluation to the last row.

        A task that cannot be evaluated is said, and does not stop the run. A run that is stopped meanwhile evaluates
        again when it is resumed.
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
            control.warn(f"{found.cut} of {episodes} episodes of the evaluation did not end by themselves: cut")
        if found and math.isfinite(found.mean):
            self._records.add_evaluation(found)
        self._reporter.say(Phase.TRAINING)

    def _telling(self, episodes: int) -> Callable[[int], None]:
        """Says how far an evaluation is, when an episode has ended and every few seconds; raises to stop it."""
        said, at = -1, 0.0

        def tell(ended: int) -> None:
            nonlocal said, at
            if self._parts.control.stop:
                raise StopTraining
            if ended > said or time.monotonic() - at > SAY_SECONDS:
                said, at = ended, time.monotonic()
                self._reporter.say(Phase.EVALUATING, evaluated=ended, episodes=episodes)

        return tell
