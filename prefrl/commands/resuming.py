"""Whether a run that stopped can go on."""

from __future__ import annotations

from prefrl.errors import PrefrlError, explain
from prefrl.feedback.run_store import run_store
from prefrl.runs.directory import RunDirectory


def check(run: RunDirectory) -> None:
    """Look whether a run that stopped can go on, before anything slow is imported for it.

    Raises:
        PrefrlError: if its files are damaged.
    """
    run.check_checkpoints()
    if run.config.learns_reward and (run.labels.exists() or run.begun):
        with run_store(run) as store:
            store.check()


def obstacle(run: RunDirectory) -> str | None:
    """Why a run cannot be resumed as its files stand; None where it can."""
    try:
        check(run)
    except (PrefrlError, OSError) as error:
        return explain(error)
    return None
