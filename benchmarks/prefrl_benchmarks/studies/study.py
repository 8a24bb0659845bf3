"""What a study is: a folder with a claim and settings (`study.toml`), an experiment, and an analysis of its outcome.

A folder has experiments of one or both of two kinds. `suite.toml` is a suite of training runs. `experiment.py` has a
function `measure(settings)` that returns rows of numbers, for toys that take seconds, or `measure_runs(settings,
folder)`, which measures the runs of the suite. `analysis.py` has a function `analyse(measured)` that judges the claim.
Environments that only the study's suite uses are registered by `environments.py`.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

from prefrl.config.typed import conform
from prefrl.errors import unknown
from prefrl.safety.trust import import_named
from prefrl.storage.reading import read_toml
from prefrl_benchmarks.report.style import Draw
from prefrl_benchmarks.results import Results, read_results
from prefrl_benchmarks.studies.folder import known_studies, place_of
from prefrl_benchmarks.suites import Suite, find_suite

Row = dict[str, Any]


class Verdict(StrEnum):
    """Whether the outcome was as expected."""

    HELD = "as expected"
    PARTLY = "partly as expected"
    FAILED = "not as expected"


def judged(*parts: bool) -> Verdict:
    """Return the verdict on a claim from whether each part of the expectation came true."""
    if all(parts):
        return Verdict.HELD
    return Verdict.PARTLY if any(parts) else Verdict.FAILED


@dataclass(frozen=True)
class Outcome:
    """What a study found."""

    verdict: Verdict
    findings: str
    """What was found, with its figures, in Markdown."""
    table: Sequence[Row]
    """The main figures, one dictionary per row."""
    panels: Sequence[Draw]
    """Panels of the figure."""


@dataclass(frozen=True)
class Measured:
    """What an experiment measured."""

    settings: dict[str, Any]
    """The study's settings."""
    rows: Sequence[Row] = ()
    """Rows of the experiment."""
    folder: Path | None = None
    """Output folder of a suite."""

    @cached_property
    def results(self) -> Results:
        """The finished runs of a suite."""
        assert self.folder is not None
        return read_results([self.folder])


@dataclass(frozen=True)
class Study:
    """A study, as described by its `study.toml`."""

    name: str
    title: str
    claim: str
    """The claim that is tested."""
    source: str
    """Who made it, or where the experiment is from."""
    expectation: str
    """The expected outcome, written before the experiment was run."""
    note: str = ""
    """What a reader must know to judge the experiment, e.g. what its settings were chosen for."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the experiment and of the analysis."""

    @property
    def suite(self) -> Suite | None:
        """The suite of training runs; None for a toy."""
        path = place_of(self.name) / "suite.toml"
        return find_suite(str(path), own_environments(self.name)) if path.exists() else None

    @property
    def has_experiment(self) -> bool:
        """Whether there is more to measure than its suite's runs."""
        return (place_of(self.name) / "experiment.py").exists()

    def measure(self, folder: Path) -> list[Row]:
        """Run the experiment; the suite in the folder, if any, is finished."""
        experiment = self._module("experiment")
        rows: list[Row] = (
            experiment.measure_runs(self.settings, folder)
            if hasattr(experiment, "measure_runs")
            else experiment.measure(self.settings)
        )
        return rows

    def analyse(self, rows: Sequence[Row] = (), folder: Path | None = None) -> Outcome:
        """Analyse the rows of the experiment and the output folder of the suite, as far as there are such."""
        outcome: Outcome = self._module("analysis").analyse(Measured(self.settings, rows, folder))
        return outcome

    def _module(self, name: str) -> Any:
        return importlib.import_module(f"{__package__}.{place_of(self.name).name}.{name}")


def own_environments(name: str) -> tuple[str, ...]:
    """Return the module of environments that belongs to a study, if there is one."""
    place = place_of(name)
    return (f"{__package__}.{place.name}.environments",) if (place / "environments.py").exists() else ()


def find_study(name: str) -> Study:
    """Read a study, and register its own environments.

    Raises:
        UsageError: if there is no study of this name, with the nearest names.
    """
    if name not in known_studies():
        raise unknown("study", name, known_studies())
    study: Study = conform(Study, {"name": name} | read_toml(place_of(name) / "study.toml"), "")
    for module in own_environments(name):
        import_named(module)
    return study
