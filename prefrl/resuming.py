"""Whether a run that stopped can go on."""

from __future__ import annotations

from prefrl.errors import PrefrlError, explain
from prefrl.feedback.store import LabelStore
from prefrl.run import RunDirectory


def obstacle(run: RunDirectory) -> str | None:
    """Why a run cannot be resumed as its files stand; None where it can."""
    try:
        run.load_checkpoint(lambda line: None)
        if run.config.learns_reward and (run.labels.exists() or run.begun):
            store = LabelStore(run.labels)
            try:
                store.check()
            finally:
                store.close()
    except (PrefrlError, OSError) as error:
        return explain(error)
    return None
