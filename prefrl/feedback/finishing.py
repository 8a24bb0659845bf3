"""Close a run's labels, so that it asks no more queries, and check a label budget against what is queued."""

from __future__ import annotations

from pathlib import Path

from prefrl.errors import UsageError
from prefrl.feedback.run_store import run_store
from prefrl.printable import printable
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


def check_queue(run: RunDirectory, labels: int) -> None:
    """Raise UsageError if a label budget has no room for the queries that were queued from outside of the run."""
    if not run.labels.exists():
        return
    with run_store(run) as store:
        if not store.queued:
            return
        have, waiting = store.counts()["answered"], len(store.pending())  # also if the labels are closed
        if have + waiting > labels:
            raise UsageError(
                f"{printable(run.root)} has {have} labels and {waiting} queries in its queue: "
                f"--labels must be at least {have + waiting}"
            )
