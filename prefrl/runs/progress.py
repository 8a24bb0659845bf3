"""What a run says of itself while it goes: `progress.json`, of which people are told in sentences elsewhere."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from prefrl.config.typed import conform
from prefrl.errors import UsageError


class Phase(StrEnum):
    """What a training is doing, or how it ended."""

    RECORDING = "recording"
    """The untrained policy is rolled for the first clips."""
    WAITING = "waiting"
    """Answers are waited for."""
    PRETRAINING = "pretraining"
    """The reward model is fitted to the first labels."""
    TRAINING = "training"
    EVALUATING = "evaluating"
    STOPPED = "stopped"
    """At a checkpoint, as somebody asked for."""
    ABORTED = "aborted"
    """At once, as somebody asked for twice."""
    FAILED = "failed"
    """By an error: `problem`."""


ENDED = frozenset({Phase.STOPPED, Phase.ABORTED, Phase.FAILED})
"""Phases in which no process is at work."""


@dataclass(frozen=True)
class Progress:
    """Where a run is."""

    phase: Phase
    step: int = 0
    steps: int = 0
    """Agent steps in all."""
    initial_labels_done: bool = False
    labels: int = 0
    labels_pending: int = 0
    labels_budget: int = 0
    true_return: float | None = None
    """Mean of the last 100 training episodes."""
    evaluation_return: float | None = None
    """Mean of the newest evaluation."""
    evaluated: int = 0
    """Episodes of the evaluation under way that have ended."""
    evaluation_episodes: int = 0
    """Episodes of the evaluation under way."""
    reward_correlation: float | None = None
    seconds: float = 0.0
    """Spent training so far."""
    updated_at: float = 0.0
    """The time of day, in seconds since 1970."""
    problem: str | None = None
    """What went wrong, where an error ended the run."""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return dataclasses.asdict(self)


_OLDER = {
    r"recording .*": Phase.RECORDING,
    r"waiting for .*": Phase.WAITING,
    r"pretraining .*": Phase.PRETRAINING,
    r"training": Phase.TRAINING,
    r"evaluating .*": Phase.EVALUATING,
    r"stopped; resumable": Phase.STOPPED,
    r"stopped at once, .*": Phase.ABORTED,
    r"stopped: .*": Phase.FAILED,
}
"""Sentences by which older versions said their phase."""


def upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """Plain data of this or an older version, as this version writes it."""
    state = data.get("state")
    if "phase" in data or not isinstance(state, str):
        return data
    phase = next((phase for pattern, phase in _OLDER.items() if re.fullmatch(pattern, state, re.DOTALL)), None)
    problem = state.removeprefix("stopped: ") if phase is Phase.FAILED else None
    return {**data, "phase": phase, "problem": problem}


def from_json(data: Any) -> Progress:
    """Progress from plain data; what this version does not know is left out.

    Raises:
        UsageError: if a value is of another type, or there is no phase.
    """
    if not isinstance(data, dict):
        raise UsageError("progress must be an object")
    data = upgraded(data)
    names = {each.name for each in dataclasses.fields(Progress)}
    known = {name: value for name, value in data.items() if name in names}
    if known.get("phase") not in list(Phase):
        raise UsageError("progress has no phase")
    progress: Progress = conform(Progress, known | {"phase": Phase(known["phase"])}, "")
    return progress
