"""Record the rounds of a training, and save and restore its checkpoints."""

from __future__ import annotations

import time

from prefrl.bookkeeping.evaluator import Evaluator
from prefrl.bookkeeping.records import Records
from prefrl.bookkeeping.reporter import Reporter
from prefrl.parts import Parts
from prefrl.runs.control import StopTraining
from prefrl.runs.progress import Phase
from prefrl.storage.durable import sync
from prefrl.storage.files import LARGEST_TREE, Tree, size_of, taken_from
from prefrl.storage.reading import MEBIBYTE


class Keeper:
    """Schedules and records rounds, and saves and restores the whole training between rounds.

    Between two rollouts, the state of an agent consists of its networks, its optimiser and a few counters.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.records = Records(parts)
        self.reporter = Reporter(parts, self.records)
        self.evaluator = Evaluator(parts, self.records, self.reporter)
        self._next_round = 0
        self._checkpointed = time.monotonic()

    def restore(self) -> bool:
        """Restore the newest checkpoint, open the metrics file, and return whether there was a checkpoint."""
        parts = self._parts
        state = parts.run.saved.load(parts.control.warn, self.largest_checkpoint, parts.agent.largest_pieces)
        if state is not None:
            with taken_from(parts.run.checkpoints):
                self.load_state_dict(state)
        self.records.open()
        return state is not None

    @property
    def largest_checkpoint(self) -> int:
        """Bytes that a checkpoint of this training may have.

        Four times the current state, for the moments of two optimisers, plus two full pools.
        """
        feedback = self._parts.feedback
        pool = feedback.recorder.largest_state if feedback else 0
        return min(LARGEST_TREE, 4 * size_of(self.state_dict()) + 2 * pool + 64 * MEBIBYTE)

    def begin(self) -> None:
        """Write the first checkpoint, before the first round."""
        self._next_round = self._parts.agent.steps + self._parts.config.round_steps
        self.checkpoint()

    def round_is_due(self) -> bool:
        """Return whether a round is due. The last round runs after the last step, apart from this schedule."""
        steps = self._parts.agent.steps
        return self._next_round <= steps < self._parts.config.steps

    @property
    def has_last_round(self) -> bool:
        """Whether the last round had run, with the full label budget, before the run was resumed."""
        ran = self.records.last_row.get("step") == self._parts.agent.steps
        return ran and self._parts.counts["spent"] >= self._parts.budget

    def record_round(self, *, last: bool = False) -> None:
        """Record a round: write metrics and progress, save a checkpoint if due, and evaluate if due.

        Args:
            last: Whether this is the last round.

        Raises:
            StopTraining: if a stop was requested; a checkpoint was saved.
        """
        parts, counts, step = self._parts, self._parts.counts, self._parts.agent.steps
        if last and parts.feedback and not parts.feedback.asker.closed and counts["spent"] < parts.budget:
            parts.control.warn(
                f"only {counts['spent']} of {parts.budget} labels could be asked for: "
                "there were no more pairs of clips to compare"
            )
        self.evaluator.due = not last and self.evaluator.is_due_at(step)
        self.records.write(counts)
        self.records.warn_of_symptoms()
        self._next_round = step + parts.config.round_steps
        self.reporter.say(Phase.TRAINING, counts)
        stop = parts.control.stop
        if last or stop or time.monotonic() - self._checkpointed > parts.config.checkpoint_seconds:
            self.checkpoint()
        if stop and not last:
            raise StopTraining
        self.evaluate()

    def evaluate(self) -> None:
        """Evaluate the policy if due.

        Raises:
            StopTraining: if a stop was requested; a checkpoint was saved.
        """
        try:
            self.evaluator.evaluate_if_due()
        except StopTraining:
            self.checkpoint()
            raise

    def checkpoint(self) -> None:
        """Save a checkpoint."""
        sync([self._parts.run.metrics])  # rows before a checkpoint are final
        self._parts.run.saved.save(self._parts.agent.steps, self.state_dict(), self._parts.agent.pieces())
        self._checkpointed = time.monotonic()

    def state_dict(self) -> Tree:
        """Return the complete state of the training."""
        parts, feedback = self._parts, self._parts.feedback
        tree: Tree = {
            "agent": parts.agent.state_dict(),
            "env": parts.env.state_dict(),
            "round": {
                "next": self._next_round,
                "episodes": parts.agent.episodes,
                **self.records.clocks(),
                "evaluation_due": self.evaluator.due,
                "evaluation": self.records.evaluation,
            },
            "row": self.records.last_row,
        }
        if feedback:
            tree["asker"], tree["learner"] = feedback.asker.state_dict(), feedback.learner.state_dict()
            tree["reward"] = feedback.reward.state_dict()
        return tree

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved training."""
        state, parts, feedback = upgraded_checkpoint(state), self._parts, self._parts.feedback
        exact = parts.env.load_state_dict(state["env"])
        parts.agent.load_state_dict(state["agent"] | {"pieces": state["pieces"]}, exact=exact)
        kept = state["round"]
        self._next_round, self.records.last_row = kept["next"], state["row"]
        parts.agent.episodes = kept["episodes"]
        self.records.load_clocks(kept)
        self.evaluator.due = bool(kept.get("evaluation_due"))
        self.records.evaluation = kept.get("evaluation")
        if feedback:
            feedback.learner.load_state_dict(state["learner"])
            first_free = feedback.asker.load_state_dict(state["asker"], exact=exact)
            feedback.recorder.recorded = max(feedback.recorder.recorded, first_free)
            feedback.reward.load_state_dict(state["reward"])
            self.reporter.initial_labels_done = True


def upgraded_checkpoint(state: Tree) -> Tree:
    """Convert a checkpoint of this or an older version to the current format."""
    if "loop" not in state:
        return state
    terms = {"predicted": state.get("normalisation", {}), "entropy": {}}
    asker = {name: value for name, value in state["loop"].items() if name != "worker"}
    reward = {"terms": terms, "scaler": state.get("scaler", {})}
    return {**state, "asker": asker, "learner": state["loop"].get("worker", {}), "reward": reward}
