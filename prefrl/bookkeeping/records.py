"""The figures of a training: a row of `metrics.csv` a round, the same in TensorBoard, and the summary at the end."""

from __future__ import annotations

import time
from typing import Any

from prefrl.experience.evaluation import Evaluation
from prefrl.parts import Feedback, Parts
from prefrl.runs.directory import commit, version
from prefrl.runs.metrics import MetricsFile, Row, correlation
from prefrl.runs.symptoms import Symptom, symptoms

Summary = dict[str, Any]


class Records:
    """Collects the figures of one training."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.last_row: Row = {}
        self.evaluation: float | None = None
        """The newest evaluation's mean return."""
        self.seconds_before = 0.0
        """Spent training before the run was resumed."""
        self._started = time.monotonic()
        self._told: set[str] = set()

    @property
    def seconds(self) -> float:
        """Spent training, all resumptions included."""
        return self.seconds_before + time.monotonic() - self._started

    def open(self) -> None:
        """Open the metrics file; rows of steps that a restored run has yet to take are removed."""
        self._metrics = MetricsFile(self._parts.run.metrics, upto=self._parts.agent.steps)

    @property
    def symptoms(self) -> list[Symptom]:
        """What is wrong with the run as far as its figures tell."""
        return symptoms(self._parts.config, self._metrics.rows, self._parts.counts)

    def warn_of_symptoms(self) -> None:
        """Warn of each kind of symptom once."""
        for symptom in self.symptoms:
            if symptom.kind not in self._told:
                self._parts.control.warn(f"warning: {symptom.line}")
                self._told.add(symptom.kind)

    def write(self, counts: dict[str, int]) -> None:
        """Write a round's row."""
        agent = self._parts.agent
        row: Row = {"step": agent.steps, "episodes": agent.episodes}
        if len(returns := agent.recent_returns()) and self._parts.config.true_reward:
            row |= {"true_return_mean": float(returns.mean()), "true_return_std": float(returns.std())}
        if self._parts.feedback:
            row |= {"labels": counts["answered"], "pending": counts["pending"]} | _reward_figures(self._parts.feedback)
        row |= {"time_seconds": self.seconds, "time_steps_per_second": agent.steps / max(self.seconds, 1e-9)}
        # A finished run that was given more labels has its last row already.
        self._write_row(self.last_row | row if self.last_row.get("step") == agent.steps else row)

    def add_evaluation(self, found: Evaluation) -> None:
        """Add an evaluation to the last row."""
        self.evaluation = found.mean
        figures: Row = {"evaluation_return_mean": found.mean, "evaluation_return_std": found.std}
        self._write_row(self.last_row | figures | {"evaluation_episodes": len(found.episodes)})

    def _write_row(self, row: Row) -> None:
        """Write a row, in place of the last one where it is of the same step; the log gets what is new in it."""
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
        """The content of `summary.json`, but for the memory; `seconds` is the time spent training."""
        parts, config, row, counts = self._parts, self._parts.config, self.last_row, self._parts.counts
        return {
            "task": config.task,
            "algo": config.algo,
            "teacher": config.teacher,
            "mode": config.mode,
            "seed": config.seed,
            "steps": parts.agent.steps,
            "labels_requested": parts.budget,
            "labels_answered": counts["answered"],
            "labels_equal": counts["equal"],
            "labels_incomparable": counts["incomparable"],
            "labels_unusable": parts.unusable_labels,
            "true_return_mean": row.get("true_return_mean"),
            "true_return_std": row.get("true_return_std"),
            "evaluation_return_mean": row.get("evaluation_return_mean"),
            "evaluation_return_std": row.get("evaluation_return_std"),
            "evaluation_episodes": int(row.get("evaluation_episodes") or 0),
            "reward_correlation": row.get("reward_correlation"),
            "reward_updates": int(row.get("reward_updates") or 0),
            "warnings": [symptom.line for symptom in self.symptoms],
            "steps_per_second": parts.agent.steps / seconds,
            "wall_seconds": seconds,
            "version": version(),
            "commit": commit(),
        }


def _reward_figures(feedback: Feedback) -> Row:
    """Of the reward model's fit, and of what it predicted since the last row."""
    fit = feedback.learner.metrics
    figures: Row = {"reward_version" if name == "version" else name: value for name, value in fit.items()}
    predicted, true = feedback.reward.predicted.take()
    if predicted.size:
        figures |= {
            "predicted_reward_mean": float(predicted.mean()),
            "predicted_reward_std": float(predicted.std()),
            "reward_correlation": correlation(predicted, true),
        }
    return figures
