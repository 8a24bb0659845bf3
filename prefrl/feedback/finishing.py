"""To ask no more: a run then goes on to its end with the labels there are."""

from __future__ import annotations

from pathlib import Path

from prefrl.errors import UsageError
from prefrl.feedback.run_store import run_store
from prefrl.runs.directory import RunDirectory


def finish_asking(root: str | Path, *, closed: bool = True) -> int:
    """Let a run finish with the labels there are; `resume` with `labels` makes it ask again.

    Args:
        root: The run directory; the run may be live.
        closed: False to ask again.

    Returns:
        How many labels there are.

    Raises:
        UsageError: if the folder is no run, or has no labels yet.
    """
    run = RunDirectory.open(Path(root))
    if not run.labels.exists():
        raise UsageError(f"{root} has no labels to finish with")
    with run_store(run) as store:
        store.closed = closed
        return store.counts()["answered"]


def is_closed(run: RunDirectory) -> bool:
    """Whether a run asks nobody any more."""
    if not run.labels.exists():
        return False
    with run_store(run) as store:
        return store.closed
