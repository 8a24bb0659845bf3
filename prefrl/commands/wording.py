"""Describe a run's progress in words."""

from __future__ import annotations

from prefrl.printable import printable
from prefrl.runs.progress import Phase, Progress

_WORDS = {
    Phase.CLONING: "imitating demonstrations",
    Phase.RECORDING: "recording the first clips",
    Phase.PRETRAINING: "learning from the first labels",
    Phase.TRAINING: "training",
    Phase.STOPPED: "stopped; resumable",
    Phase.ABORTED: "stopped at once, by a second interrupt; resumable",
}


def in_words(progress: Progress) -> str:
    """Describe what a run is doing, or how it ended. An error message is quoted, because it may be untrusted."""
    match progress.phase:
        case Phase.WAITING:
            plural = "" if progress.labels_pending == 1 else "s"
            return f"waiting for {progress.labels_pending} label{plural}"
        case Phase.EVALUATING:
            return f"evaluating the policy, {progress.evaluated} of {progress.evaluation_episodes} episodes"
        case Phase.FAILED:
            return f"stopped; error: {printable(progress.problem or '', 400)!r}"
    return _WORDS[progress.phase]
