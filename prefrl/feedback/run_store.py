"""A run's store is opened here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prefrl.feedback.store import LabelStore
from prefrl.feedback.waiting import Waiting
from prefrl.runs.directory import RunDirectory


@contextlib.contextmanager
def run_store(run: RunDirectory, *, create: bool = False, waiting: Waiting | None = None) -> Iterator[LabelStore]:
    """Open the store of a run, and close it in the end.

    Args:
        run: The run.
        create: Whether to make the store where it is missing.
        waiting: As for `Database`.

    Raises:
        UsageError: if it was made by a newer version.
        PrefrlError: if it is missing or damaged.
    """
    store = LabelStore(run.labels, create=create, waiting=waiting)
    try:
        yield store
    finally:
        store.close()
