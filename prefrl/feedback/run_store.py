"""Open the label store of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prefrl.feedback.store import LabelStore
from prefrl.feedback.waiting import Waiting
from prefrl.runs.directory import RunDirectory


@contextlib.contextmanager
def run_store(run: RunDirectory, *, create: bool = False, waiting: Waiting | None = None) -> Iterator[LabelStore]:
    """Open the label store of a run as a context manager, which closes it.

    Args:
        run: The run.
        create: Whether to create the store if it is missing.
        waiting: See `Database`.

    Raises:
        UsageError: if it was made by a newer version.
        PrefrlError: if it is missing or damaged.
    """
    store = LabelStore(run.labels, create=create, waiting=waiting)
    try:
        yield store
    finally:
        store.close()
