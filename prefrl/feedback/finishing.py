"""Close a run's labels: the run then asks no more queries and finishes with its current labels."""

from __future__ import annotations

from pathlib import Path

from prefrl.errors import UsageError
from prefrl.feedback.run_store import run_store
from prefrl.runs.directory import RunDirectory


def finish_asking(root: str | Path, *, closed: bool = True) -> int:
    """Close a run's labels, so that it finishes with its current ones. `resume` with `labels` reopens them.

    Args:
        root: The run directory; the run may be training.
        closed: False to reopen the labels.

    Returns:
        The number of labels.

    Raises:
        UsageError: if the folder is not a run, or has no labels yet.
    """
    run = RunDirectory.open(Path(root))
    if not run.labels.exists():
        raise UsageError(f"{root} has no labels to finish with")
    with run_store(run) as store:
        store.closed = closed
        return store.counts()["answered"]


def is_closed(run: RunDirectory) -> bool:
    """Return whether a run's labels are closed."""
    if not run.labels.exists():
        return False
    with run_store(run) as store:
        return store.closed
