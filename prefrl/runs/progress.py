"""The progress of a run: the content of `progress.json`. `prefrl.commands.wording` describes it in words."""

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

    CLONING = "cloning"
    """Imitating demonstrations by behaviour cloning."""
    RECORDING = "recording"
    """Recording the first clips with the untrained policy."""
    WAITING = "waiting"
    """Waiting for answers."""
    PRETRAINING = "pretraining"
    """Fitting the reward model to the first labels."""
    TRAINING = "training"
    EVALUATING = "evaluating"
    STOPPED = "stopped"
    """Stopped on request, after a checkpoint."""
    ABORTED = "aborted"
    """Stopped at once, on the second request."""
    FAILED = "failed"
    """Ended by an error; see `problem`."""


ENDED = frozenset({Phase.STOPPED, Phase.ABORTED, Phase.FAILED})
"""Phases in which no process is running."""


@dataclass(frozen=True)
class Progress:
    """The progress of a run."""

    phase: Phase
    step: int = 0
    """Agent steps taken."""
    steps: int = 0
    """Total number of agent steps."""
    initial_labels_done: bool = False
    labels: int = 0
    labels_pending: int = 0
    labels_budget: int = 0
    true_return: float | None = None
    """Mean true return of the last 100 training episodes."""
    evaluation_return: float | None = None
    """Mean true return of the newest evaluation."""
    evaluated: int = 0
    """Finished episodes of the current evaluation."""
    evaluation_episodes: int = 0
    """Total episodes of the current evaluation."""
    reward_correlation: float | None = None
    seconds: float = 0.0
    """Training time so far, in seconds."""
    updated_at: float = 0.0
    """Time of this report, in seconds since 1970."""
    problem: str | None = None
    """The error message, if an error ended the run."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
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
"""Patterns of the sentences that older versions wrote instead of a phase."""


def upgraded(data: dict[str, Any]) -> dict[str, Any]:
    """Convert plain data of this or an older version to the current format."""
    state = data.get("state")
    if "phase" in data or not isinstance(state, str):
        return data
    phase = next((phase for pattern, phase in _OLDER.items() if re.fullmatch(pattern, state, re.DOTALL)), None)
    problem = state.removeprefix("stopped: ") if phase is Phase.FAILED else None
    return {**data, "phase": phase, "problem": problem}


def from_json(data: Any) -> Progress:
    """Parse plain data; unknown fields are ignored.

    Raises:
        UsageError: if a value has the wrong type, or the phase is missing or unknown.
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
