"""Export a run's standing answers to a CSV table."""

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
from prefrl.feedback.label_history import RecordedAnswer, Repeat, read_history, read_labels
from prefrl.feedback.run_store import run_store
from prefrl.feedback.store import LabelStore
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import replacing

_PROVENANCE = ("teacher", "labeller", "agent_step", "response_seconds", "created_at")
CONTENT_COLUMNS: Mapping[str, tuple[str, ...]] = {COMPARISON: ("left", "right", "judgement")}
"""Names of the columns for segments and value, for kinds with columns of their own."""


def write_table(root: Path, path: Path) -> int:
    """Write a run's standing answers to a new CSV file, sorted by id. The run may be training.

    Answers of a kind in `CONTENT_COLUMNS` have its columns, and the column `repeats`, which is the id of the original
    answer if the answer is to a repeat. Answers of other kinds have the columns of the view `answers_standing`.

    Returns:
        The number of answers.

    Raises:
        UsageError: if the folder is not a run, or the file exists already or cannot be written.
        PrefrlError: if the run has no answers yet.
    """
    run = RunDirectory.open(root)
    if path.exists():
        raise UsageError(f"{path} exists already; choose another name")
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
    """Return the names of the columns, and the rows."""
    labels = sorted([*read_labels(store), *read_history(store).repeats], key=lambda label: label.id)
    contents = {CONTENT_COLUMNS.get(label.kind) for label in labels}
    if len(contents) == 1 and (names := contents.pop()):
        return ("id", *names, *_PROVENANCE, "repeats"), [_row(label) for label in labels]
    with store.database.read() as connection:
        corrupt = damaged(connection)
        rows = connection.execute(sa.select(STANDING).order_by(STANDING.c.id)).all()
    return STANDING.c.keys(), [tuple(row) for row in rows if row.id not in corrupt]


def _row(label: RecordedAnswer) -> Sequence[object]:
    repeats = label.repeats if isinstance(label, Repeat) else None
    return label.id, *label.segments, label.value, *label.provenance, repeats
