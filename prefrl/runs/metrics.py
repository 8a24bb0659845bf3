"""Read and write `metrics.csv`: one row per round. Columns that depend on time or machine start with `time_`.

A file is read by its own header, so files of other versions may lack columns or have additional ones.
"""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path

import numpy as np

from prefrl.arrays import Floats
from prefrl.config.migrations import current_name
from prefrl.storage.files import write_atomically
from prefrl.storage.reading import MEBIBYTE, read_bytes

BEHAVIOUR = ("policy_entropy", "state_entropy", "kl_to_reference", "kl_beta", "occupancy_divergence")
"""Columns about the agent's behaviour, which are also in `summary.json`."""
COLUMNS = (
    "step",
    "labels",
    "pending",
    "episodes",
    "true_return_mean",
    "true_return_std",
    "success_rate",
    "evaluation_return_mean",
    "evaluation_return_std",
    "evaluation_success_rate",
    "evaluation_episodes",
    *BEHAVIOUR,
    "predicted_reward_mean",
    "predicted_reward_std",
    "reward_correlation",
    "comparisons",
    "reward_updates",
    "reward_version",
    "training_loss",
    "validation_loss",
    "l2",
    "pseudo_label_share",
    "labels_trusted",
    "labels_reversed",
    "imitated",
    "time_label_seconds",
    "time_seconds",
    "time_processor_seconds",
    "time_steps_per_second",
)

_LARGEST = 32 * MEBIBYTE
"""Maximum size in bytes: 160,000 rounds at about 200 bytes per row."""

Row = dict[str, float | int | None]


class MetricsFile:
    """Appends rows to the file. Opening it removes the rows that are newer than a restored checkpoint.

    Attributes:
        rows: The rows of the file.
    """

    rows: list[Row]

    def __init__(self, path: Path, *, upto: int = 0) -> None:
        """Open the file.

        Args:
            path: The CSV file.
            upto: Last step to keep; rows of later steps are removed.
        """
        self._path = path
        self.rows = rows = [row for row in read_metrics(path) if int(row["step"] or 0) <= upto] if path.exists() else []
        self._columns = tuple(dict.fromkeys((*COLUMNS, *(name for row in rows for name in row))))
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _format(value) for name, value in row.items()} for row in rows)
        write_atomically(path, text.getvalue().encode())

    def append(self, row: Row) -> None:
        """Append a row; missing columns are left empty.

        Raises:
            ValueError: if a column is neither in `COLUMNS` nor in the file.
        """
        if unknown := row.keys() - set(self._columns):
            raise ValueError(f"metrics.csv has no column {min(unknown)}: add it to COLUMNS")
        with self._path.open("a", newline="") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(
                {name: _format(row.get(name)) for name in self._columns}
            )
        self.rows.append(row)


def read_metrics(path: Path) -> list[Row]:
    """Read the complete rows of a metrics file; truncated and invalid lines are skipped.

    Returns:
        Rows with all columns of this version (None if missing) and any other columns of the file.

    Raises:
        DamagedFileError: if it is not a regular file, or is too large.
    """
    text = read_bytes(path, _LARGEST).decode(errors="replace")
    reader, rows = csv.DictReader(io.StringIO(text, newline="")), []
    header: dict[str, str] = {}
    while True:
        try:
            raw = next(reader)
            header = header or {name: current_name("metrics", name) for name in reader.fieldnames or ()}
            if "step" not in header.values():
                return []
            row = {new: _parse(raw[old]) if new in COLUMNS else _number(raw[old]) for old, new in header.items()}
            rows.append(dict.fromkeys(COLUMNS) | row)
        except StopIteration:
            return rows
        except (csv.Error, KeyError, TypeError, ValueError):
            continue


def correlation(predicted: Floats, true: Floats) -> float | None:
    """Compute Pearson's correlation of two arrays of the same shape.

    Returns:
        None if one of the arrays varies only by rounding errors. An agent that does not move receives such rewards, and
        their correlation would be meaningless.
    """
    if predicted.size < 2 or not (_varies(predicted) and _varies(true)):
        return None
    return float(np.corrcoef(predicted.ravel(), true.ravel())[0, 1])


def _varies(values: Floats) -> bool:
    """Return whether values vary by more than the rounding error of float32."""
    return bool(np.ptp(values) > 8 * np.finfo(np.float32).eps * np.abs(values).max())


def _format(value: float | int | None) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return repr(value) if isinstance(value, int) else f"{value:.9g}"


def _number(text: str | None) -> float | int | None:
    """Return the value of an unknown column, or None if it is not a number."""
    try:
        return _parse(text)
    except ValueError:
        if text is None:
            raise
        return None


def _parse(text: str | None) -> float | int | None:
    if text is None:
        raise ValueError("a cut-off row")
    if not text:
        return None
    value = int(text) if text.lstrip("-").isdigit() and len(text) < 19 else float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text:.20} is no finite number")
    return value
