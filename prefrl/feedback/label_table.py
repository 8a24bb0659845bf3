"""A run's standing answers as one CSV table, for spreadsheets and scripts."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from prefrl.errors import PrefrlError, UsageError, is_disk_full
from prefrl.feedback.label_history import Label, read_history, read_labels
from prefrl.feedback.run_store import run_store
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import replacing

COLUMNS = (*Label._fields, "repeats")
"""What a `Label` holds, and the id of the answer that this one repeats: empty for a label."""


def write_table(root: Path, path: Path) -> int:
    """Write a run's standing answers to a new CSV file, by their ids; the run may be at work meanwhile.

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
        rows: list[tuple[object, ...]] = [(*label, None) for label in read_labels(store)]
        rows += [(*repeat.label, repeat.repeats) for repeat in read_history(store).repeats]
    if not rows:
        raise PrefrlError(f"{root} has no labels yet")
    try:
        with replacing(path, durable=True) as file:
            text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="", write_through=True)
            csv.writer(text).writerows([COLUMNS, *sorted(rows)])
            text.detach()
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None
    return len(rows)
