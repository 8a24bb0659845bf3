"""A run's standing answers as one CSV table, for spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import sqlalchemy as sa

from prefrl.errors import PrefrlError, UsageError, is_disk_full
from prefrl.feedback.answers import damaged
from prefrl.feedback.database import STANDING
from prefrl.feedback.kinds.comparison import COMPARISON
from prefrl.feedback.label_history import Label, Repeat, read_history, read_labels
from prefrl.feedback.run_store import run_store
from prefrl.feedback.store import LabelStore
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import replacing

_GIVEN = ("teacher", "labeller", "agent_step", "response_seconds", "created_at")
SAID: Mapping[str, tuple[str, ...]] = {COMPARISON: ("left", "right", "judgement")}
"""Kinds whose tables have a column for each segment and one for the value, with the names of these."""


def write_table(root: Path, path: Path) -> int:
    """Write a run's standing answers to a new CSV file, by their ids; the run may be at work meanwhile.

    Answers of a kind in `SAID` have columns of their own, and `repeats`: the id of the answer that this one repeats,
    empty for a label. All others have the columns of the view `answers_standing`.

    Returns:
        How many there are.

    Raises:
        UsageError: if the folder is no run, or the file is there already or cannot be written.
        PrefrlError: if there are none yet.
    """
    run = RunDirectory.open(root)
    if path.exists():
        raise UsageError(f"{path} is there already; choose another name")
    if not run.labels.exists():
        raise PrefrlError(f"{root} has no labels yet")
    with run_store(run) as store:
        columns, rows = _table(store)
    if not rows:
        raise PrefrlError(f"{root} has no labels yet")
    try:
        with replacing(path, durable=True) as file:
            text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="", write_through=True)
            csv.writer(text).writerows([columns, *rows])
            text.detach()
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    return len(rows)


def _table(store: LabelStore) -> tuple[Sequence[str], list[Sequence[object]]]:
    """The names of the columns, and the rows."""
    labels = sorted([*read_labels(store), *read_history(store).repeats], key=lambda label: label.id)
    said = {SAID.get(label.kind) for label in labels}
    if len(said) == 1 and (names := said.pop()):
        return ("id", *names, *_GIVEN, "repeats"), [_row(label) for label in labels]
    with store.database.read() as connection:
        rotten = damaged(connection)
        rows = connection.execute(sa.select(STANDING).order_by(STANDING.c.id)).all()
    return STANDING.c.keys(), [tuple(row) for row in rows if row.id not in rotten]


def _row(label: Label) -> Sequence[object]:
    repeats = label.repeats if isinstance(label, Repeat) else None
    return label.id, *label.segments, label.value, *label.provenance, repeats
