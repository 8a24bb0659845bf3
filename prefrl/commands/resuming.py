"""Check whether a stopped run can be resumed."""

from __future__ import annotations

from prefrl.errors import PrefrlError, explain
from prefrl.feedback.run_store import run_store
from prefrl.runs.directory import RunDirectory


def check(run: RunDirectory) -> None:
    """Check that a stopped run can be resumed, without slow imports.

    Raises:
        PrefrlError: if its files are damaged.
    """
    run.saved.check()
    if run.config.takes_labels and (run.labels.exists() or run.begun):
        with run_store(run) as store:
            store.check()


def obstacle(run: RunDirectory) -> str | None:
    """Return why a run cannot be resumed, or None if it can."""
    try:
        check(run)
    except (PrefrlError, OSError) as error:
        return explain(error)
    return None
