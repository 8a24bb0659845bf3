"""The metrics of a training: one row per round in `metrics.csv` and TensorBoard, and the final summary."""

from __future__ import annotations

import math
import time
from typing import Any

from prefrl.agents.reward_terms import AgentReward
from prefrl.bookkeeping.behaviour import behaviour
from prefrl.experience.evaluation import Evaluation
from prefrl.machine.processor_time import processor_seconds
from prefrl.parts import Feedback, Parts
from prefrl.runs.directory import commit, version
from prefrl.runs.metrics import BEHAVIOUR, MetricsFile, Row, correlation
from prefrl.runs.symptoms import Symptom, symptoms
from prefrl.storage.files import Tree

Summary = dict[str, Any]


class Records:
    """Collects and writes the metrics of a training."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.last_row: Row = {}
        self.evaluation: float | None = None
        """Mean return of the newest evaluation."""
        self._seconds_before, self._processor_before = 0.0, 0.0
        self._started, self._processor_started = time.monotonic(), processor_seconds()
        self._told: set[str] = set()

    @property
    def seconds(self) -> float:
        """Training time in seconds, including the time before the run was resumed."""
        return self._seconds_before + time.monotonic() - self._started

    @property
    def processor_seconds(self) -> float:
        """Processor time of all processes in seconds, like `seconds`; NaN if the run was begun by an older version."""
        return self._processor_before + processor_seconds() - self._processor_started

    def clocks(self) -> Tree:
        """Return the times to save in a checkpoint."""
        return {"seconds": self.seconds, "processor_seconds": self.processor_seconds}

    def load_clocks(self, state: Tree) -> None:
        """Restore the times of before the run was resumed."""
        known = state.get("processor_seconds")
        self._seconds_before, self._processor_before = state["seconds"], math.nan if known is None else known

    def open(self) -> None:
        """Open the metrics file; rows newer than the restored checkpoint are removed."""
        self._metrics = MetricsFile(self._parts.run.metrics, upto=self._parts.agent.steps)

    @property
    def symptoms(self) -> list[Symptom]:
        """Problems that the metrics indicate."""
        return symptoms(self._parts.config, self._metrics.rows, self._parts.counts)

    def warn_of_symptoms(self) -> None:
        """Warn about each kind of symptom once."""
        for symptom in self.symptoms:
            if symptom.kind not in self._told:
                self._parts.control.warn(f"warning: {symptom.line}")
                self._told.add(symptom.kind)

    def write(self, counts: dict[str, int]) -> None:
        """Write the row of a round.

        Args:
            counts: Counts of labels, see `Parts.counts`.
        """
        agent = self._parts.agent
        row: Row = {"step": agent.steps, "episodes": agent.episodes}
        if len(returns := agent.recent_returns()) and self._parts.config.true_reward:
            row |= {"true_return_mean": float(returns.mean()), "true_return_std": float(returns.std())}
        if (rate := self._parts.env.monitor.success_rate) is not None:
            row["success_rate"] = rate
        if self._parts.feedback:
            row |= {"labels": counts["answered"], "pending": counts["pending"]}
            row |= {"time_label_seconds": self._parts.label_seconds} | _fit_metrics(self._parts.feedback)
        if self._parts.reward:
            row |= _prediction_metrics(self._parts.reward)
        row |= behaviour(self._parts)
        row |= {"time_seconds": self.seconds, "time_steps_per_second": agent.steps / max(self.seconds, 1e-9)}
        if math.isfinite(processor := self.processor_seconds):
            row["time_processor_seconds"] = processor
        # A finished run whose label budget was raised already has a row for this step.
        self._write_row(self.last_row | row if self.last_row.get("step") == agent.steps else row)

    def add_evaluation(self, found: Evaluation) -> None:
        """Add an evaluation to the last row."""
        self.evaluation = found.mean
        metrics: Row = {
            "evaluation_return_mean": found.mean,
            "evaluation_return_std": found.std,
            "evaluation_success_rate": found.success_rate,
            "evaluation_episodes": len(found.episodes),
        }
        self._write_row(self.last_row | metrics)

    def _write_row(self, row: Row) -> None:
        """Write a row; it replaces the last row if that has the same step. Log the values that are new."""
        before, step = self.last_row, self._parts.agent.steps
        if before.get("step") == step:
            self._metrics = MetricsFile(self._parts.run.metrics, upto=step - 1)
        else:
            before = {}
        self._metrics.append(row)
        self.last_row = row
        logger = self._parts.agent.logger
        for name, value in row.items():
            if value is not None and name != "step" and before.get(name) != value:
                logger.record(f"prefrl/{name}", value)
        logger.dump(step)

    def summary(self, seconds: float) -> Summary:
        """Return the content of `summary.json` without `peak_rss_mb`; `seconds` is the training time."""
        parts, config, row, counts = self._parts, self._parts.config, self.last_row, self._parts.counts
        return {
            "task": config.task,
            "algo": config.algo,
            "feedback": config.feedback if config.takes_labels else None,
            "learner": config.learner if config.takes_labels else None,
            "teacher": config.teacher,
            "mode": config.mode,
            "seed": config.seed,
            "steps": parts.agent.steps,
            "labels_requested": parts.budget,
            "labels_answered": counts["answered"],
            "labels_equal": counts["equal"],
            "labels_incomparable": counts["incomparable"],
            "labels_unusable": parts.unusable_labels,
            "label_seconds": parts.label_seconds,
            "labels_by_teacher": parts.feedback.asker.by_teacher if parts.feedback else {},
            "true_return_mean": row.get("true_return_mean"),
            "true_return_std": row.get("true_return_std"),
            "success_rate": row.get("success_rate"),
            **{name: row.get(name) for name in BEHAVIOUR},
            "evaluation_return_mean": row.get("evaluation_return_mean"),
            "evaluation_return_std": row.get("evaluation_return_std"),
            "evaluation_success_rate": row.get("evaluation_success_rate"),
            "evaluation_episodes": int(row.get("evaluation_episodes") or 0),
            "reward_correlation": row.get("reward_correlation"),
            "reward_updates": int(row.get("reward_updates") or 0),
            "warnings": [symptom.line for symptom in self.symptoms],
            "steps_per_second": parts.agent.steps / seconds,
            "wall_seconds": seconds,
            "version": version(),
            "commit": commit(),
        }


def _fit_metrics(feedback: Feedback) -> Row:
    """Return metrics of the reward model's fit."""
    fit = feedback.learner.metrics
    return {"reward_version" if name == "version" else name: value for name, value in fit.items()}


def _prediction_metrics(reward: AgentReward) -> Row:
    """Return metrics of the predicted rewards since the last row."""
    predicted, true = reward.take_predictions()
    if not predicted.size:
        return {}
    return {
        "predicted_reward_mean": float(predicted.mean()),
        "predicted_reward_std": float(predicted.std()),
        "reward_correlation": correlation(predicted, true),
    }
