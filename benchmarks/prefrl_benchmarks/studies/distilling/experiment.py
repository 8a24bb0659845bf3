"""Distil each teacher of the suite into students that observe less, and copy a teacher who abstains."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.distilling import DistilSettings, distil
from prefrl.runs.directory import is_finished, read_summary
from prefrl.seeding import stream
from prefrl_benchmarks.cells import Cell
from prefrl_benchmarks.studies.abstaining.experiment import RL, levels, policies
from prefrl_benchmarks.studies.study import Row, find_study
from prefrl_benchmarks.suites import Suite

STUDENTS = "students"
QUESTIONS = ("questions, the student unsure", "questions, the student sure")
"""Cases of the toy: what the student itself knows is not in the answers that it copies."""


def measure_runs(settings: dict[str, Any], folder: Path) -> list[Row]:
    """Return a row for each student: what it observes, its teacher's return and its own.

    For the students of the teacher who abstains, what is observed is the teacher's probability of being right, and both
    values are probabilities of abstaining.
    """
    suite = find_study("distilling").suite
    assert suite
    return [*_distilled(settings, suite, folder), *_abstaining(settings, suite)]


def _distilled(settings: dict[str, Any], suite: Suite, folder: Path) -> Iterator[Row]:
    for cell in suite.cells():
        for name, observed in settings["observe"][cell.task].items():
            student = folder / STUDENTS / f"{cell.name}-{name.replace(' ', '-')}"
            summary = _student(cell, folder, student, observed, settings)
            values = {"teacher": summary["teacher_return_mean"], "student": summary["evaluation_return_mean"]}
            yield {"task": cell.task, "observed": name, "seed": cell.seed, **values}


def _student(cell: Cell, folder: Path, student: Path, observed: str, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the summary of a student, which is distilled unless it is there already."""
    if not is_finished(student):
        shutil.rmtree(student, ignore_errors=True)
        student.parent.mkdir(exist_ok=True)
        how = {name: settings[name] for name in ("steps", "rounds", "batches")}
        distil(folder / cell.name, [observed], student, DistilSettings(**how, seed=cell.seed))
    return dict(read_summary(student))


def _abstaining(settings: dict[str, Any], suite: Suite) -> Iterator[Row]:
    """Let students copy the answers and abstentions of teachers from the study `abstaining`.

    A student sees how sure its teacher is, and how sure it is itself. It is fitted by counting.
    """
    theirs = find_study("abstaining").settings
    for seed in suite.seeds:
        rng = stream(seed, "study")
        teacher = policies(theirs, settings["cost"], rng)[RL]
        for task in QUESTIONS:
            copied = rng.binomial(settings["demonstrations"], teacher) / settings["demonstrations"]
            for right, shown, own in zip(levels(theirs), teacher, np.asarray(copied), strict=True):
                values = {"teacher": float(shown), "student": float(own)}
                yield {"task": task, "observed": f"{right:.3f}", "seed": seed, **values}
