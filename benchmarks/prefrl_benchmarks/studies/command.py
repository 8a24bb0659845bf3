"""Run and report studies, for `prefrl bench run STUDY` and `prefrl bench report`."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefrl.errors import DamagedFileError, PrefrlError, UsageError
from prefrl.printable import command
from prefrl.storage.files import write_atomically, write_json
from prefrl.storage.reading import read_json
from prefrl_benchmarks.report.tables import write_table
from prefrl_benchmarks.results import read_results
from prefrl_benchmarks.studies.folder import MANIFEST, is_study
from prefrl_benchmarks.studies.page import write_page
from prefrl_benchmarks.studies.study import Outcome, Row, Study, find_study

__all__ = ["begin", "find_study", "measure", "publish_study", "report_study", "study_of"]

_ROWS = "measured.csv"


def begin(study: Study, out: Path) -> None:
    """Name the study of an output folder.

    Raises:
        UsageError: if the folder holds another study, or cannot be written.
    """
    if is_study(out) and (held := study_of(out).name) != study.name:
        raise UsageError(f"{out} holds the study {held}; choose another folder for {study.name}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / MANIFEST, {"format": 1, "study": study.name, "settings": study.settings})
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None


def measure(study: Study, out: Path) -> None:
    """Run a study's experiment and write its rows."""
    rows = study.measure(out)
    write_table(out / _ROWS, rows)


def study_of(folder: Path) -> Study:
    """Return the study of a folder.

    Raises:
        DamagedFileError: if its manifest names none.
        UsageError: if it names an unknown one.
    """
    data: Any = read_json(folder / MANIFEST)
    if not isinstance(data, dict) or not isinstance(data.get("study"), str):
        raise DamagedFileError(f"{folder / MANIFEST} is damaged: it names no study")
    return find_study(data["study"])


def report_study(folder: Path, out: Path) -> Outcome:
    """Write a study's page and figure.

    Args:
        folder: Output folder of `prefrl bench run STUDY`.
        out: Folder for `report.html`, the page as Markdown, the figure and the outcome as JSON.

    Returns:
        What was found.

    Raises:
        PrefrlError: if a run of its suite is not finished.
        UsageError: if the report cannot be written.
    """
    study = study_of(folder)
    if study.suite:
        _check_finished(study, folder)
    outcome = study.analyse(_read_rows(folder / _ROWS), folder)
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_page(study, outcome, out)
        found = {"study": study.name, "verdict": outcome.verdict, "findings": outcome.findings}
        write_json(out / "outcome.json", found | {"table": list(outcome.table)})
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from None
    return outcome


def _check_finished(study: Study, folder: Path) -> None:
    """Raise PrefrlError if not all runs are finished: a part of them is no test of the claim."""
    results = read_results([folder])
    if left := len(results.cells) - len(results.finished):
        words = command("bench", "run", study.name, "--out", folder)
        raise PrefrlError(f"{left} of {len(results.cells)} runs are not finished: go on with {words}")


def publish_study(folder: Path, out: Path) -> None:
    """Copy what a study measured, for a repository. A suite's results are copied by `prefrl_benchmarks.publish`."""
    begin(study_of(folder), out)
    if (folder / _ROWS).exists():
        write_atomically(out / _ROWS, (folder / _ROWS).read_bytes())


def _read_rows(path: Path) -> Sequence[Row]:
    if not path.exists():
        return ()
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))
