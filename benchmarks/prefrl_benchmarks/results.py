"""Read the folder of a suite: the manifest of planned cells, and the result of each cell.

Missing and damaged files are always reported: `Results.problems` has a line for each.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypedDict

from prefrl.config.migrations import check_format, current_format, upgraded
from prefrl.config.typed import conform
from prefrl.errors import PrefrlError, UsageError
from prefrl.printable import printable
from prefrl.runs.directory import commit, read_summary, version
from prefrl.runs.metrics import Row, read_metrics
from prefrl.runs.symptoms import symptoms
from prefrl.safety import trust
from prefrl.storage.files import DamagedFileError, read_json, write_json
from prefrl.storage.reading import MEBIBYTE
from prefrl_benchmarks.cells import Cell, fingerprint, fingerprint_of
from prefrl_benchmarks.returns import Returns, common_returns, return_of, returns_text
from prefrl_benchmarks.suites import Suite

MANIFEST = "suite.json"
NOT_BEGUN = "not begun"
LARGEST_MANIFEST = 8 * MEBIBYTE
"""An entry of a cell has about 500 bytes."""
_NAMED = 8
"""Maximum number of cells that one line lists."""


@dataclass(frozen=True)
class Result:
    """The result of one cell."""

    suite: str
    cell: Cell
    hash: str
    """Hash of the planned configuration."""
    seedless: str
    """Hash of the planned configuration without its seed; only cells that share it are averaged."""
    root: Path
    """The run directory."""
    summary: dict[str, Any] | None
    """None if the cell is not finished."""
    why: str = ""
    """Why it is not finished, if known."""
    returns: Returns = "training"
    """Which returns are reported; the same for all cells of a suite."""

    @property
    def value(self) -> float | None:
        """The final mean true return; None if there is none."""
        return None if self.summary is None else return_of(self.summary, self.returns)

    @property
    def reason(self) -> str:
        """Why there is no final return; empty if there is one."""
        return "no episode ended" if self.summary is not None and self.value is None else self.why

    @cached_property
    def metrics(self) -> list[Row]:
        """The complete rows of `metrics.csv`; empty if there is no such file."""
        path = self.root / "metrics.csv"
        return read_metrics(path) if path.exists() else []

    @property
    def symptoms(self) -> list[str]:
        """Signs in the metrics that a finished cell has not learned properly."""
        summary = self.summary or {}
        counts = {"answered": summary.get("labels_answered", 0), "equal": summary.get("labels_equal", 0)}
        return [symptom.line for symptom in symptoms(self.cell.config, self.metrics, counts)]

    @property
    def flaw(self) -> str:
        """Why a finished cell has no learning curve; empty if it has one."""
        steps = self.summary["steps"] if self.summary else 0
        reached = max((int(row["step"] or 0) for row in self.metrics), default=0)
        return "" if reached == steps else f"its metrics.csv ends at step {reached:,} of {steps:,}"


@dataclass(frozen=True)
class Results:
    """All planned cells of one or more folders."""

    folders: tuple[Path, ...]
    manifests: tuple[dict[str, Any], ...]
    cells: tuple[Result, ...]
    problems: tuple[str, ...]
    """Notes for readers of the results, one line each."""

    @property
    def finished(self) -> list[Result]:
        """Cells with a final return."""
        return [result for result in self.cells if result.value is not None]

    @property
    def unfinished(self) -> list[Result]:
        """Cells that were started but have no final return."""
        return [result for result in self.cells if result.value is None and result.reason != NOT_BEGUN]

    def of_suite(self, suite: str) -> list[dict[str, Any]]:
        """The summaries of a suite's finished cells."""
        return [each.summary for each in self.cells if each.suite == suite and each.summary is not None]

    def returns_text(self, suite: str) -> str:
        """Description of a suite's returns."""
        returns = next(each.returns for each in self.cells if each.suite == suite)
        return returns_text(returns, self.of_suite(suite))

    def with_returns(self, suite: str, returns: Returns) -> Results:
        """A copy that reports other returns of one suite."""
        cells = [dataclasses.replace(each, returns=returns) if each.suite == suite else each for each in self.cells]
        return dataclasses.replace(self, cells=tuple(cells))

    @property
    def not_begun(self) -> list[Result]:
        """Cells that were never started."""
        return [result for result in self.cells if result.reason == NOT_BEGUN]


class _Named(TypedDict):
    name: str
    description: str


class _Machine(TypedDict):
    cores: int | None
    processor: str
    system: str


class _Manifest(TypedDict):
    """The fields of `suite.json` that must be present."""

    format: int
    suite: _Named
    prefrl: str
    commit: str | None
    python: str
    machine: _Machine
    command: str
    cells: list[dict[str, Any]]


def machine() -> dict[str, Any]:
    """Description of the machine, for measurements of speed."""
    return {"cores": os.cpu_count(), "processor": _processor(), "system": platform.platform()}


def write_manifest(suite: Suite, out: Path) -> None:
    """Write the manifest of a suite's planned cells, and of others of the same suite that the folder holds finished.

    Raises:
        UsageError: if the folder holds another suite.
    """
    path = out / MANIFEST
    held = read_manifest(out) if path.exists() else None
    if held and (name := held["suite"]["name"]) != suite.name:
        raise UsageError(f"{out} holds the suite {name}; choose another --out for {suite.name}")
    cells = [_hashes(cell) | dataclasses.asdict(cell) for cell in suite.cells()]
    if held:  # a part of the suite may be planned now
        kept = set(finished_cells(out)) - {cell["id"] for cell in cells}
        cells += [cell for cell in held["cells"] if cell.get("id") in kept]
    about = {"prefrl": version(), "commit": commit(), "python": platform.python_version(), "machine": machine()}
    about["command"] = shlex.join(["prefrl", *sys.argv[1:]])
    write_json(
        path,
        {"format": current_format("suite"), "suite": dataclasses.asdict(suite)} | about | {"cells": cells},
        durable=True,
    )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a folder.

    Raises:
        UsageError: if the folder holds no suite's results, or was made by a newer version.
        DamagedFileError: if the manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise UsageError(f"{folder} holds no suite's results: it has no {MANIFEST}")
    data = read_json(path, LARGEST_MANIFEST)
    said = data if isinstance(data, dict) else {}
    found = check_format("suite", said.get("format"), path, said.get("prefrl"))
    data = upgraded("suite", data, found, path)
    try:
        manifest: dict[str, Any] = conform(_Manifest, data, "")
        cells = _cells(manifest)
    except UsageError as error:
        raise DamagedFileError(f"{printable(path)} is damaged: {error}") from None
    for cell, _ in cells:
        trust.require(
            cell.task
        )  # results may come from others, and measuring their random baseline creates environments
    return manifest


def finished_cells(folder: Path) -> list[str]:
    """The names of the cells of a folder's manifest that have a summary."""
    names = (str(entry.get("id")) for entry in read_manifest(folder)["cells"])
    return [name for name in names if (folder / name / "summary.json").exists()]


def read_results(folders: Sequence[Path]) -> Results:
    """Read the results of one or more folders.

    Raises:
        UsageError: if no folder is given, or one holds no suite's results.
        PrefrlError: if no cell has a final return, or a manifest is damaged.
    """
    if not folders:
        raise UsageError("there is nothing to report: name the folder of a `prefrl bench run`")
    manifests = [read_manifest(folder) for folder in folders]
    cells: dict[tuple[str, str], Result] = {}
    recipes: dict[tuple[str, str, str], Result] = {}
    problems: list[str] = []
    for folder, manifest in zip(folders, manifests, strict=True):
        suite = str(manifest["suite"]["name"])
        for cell, hashes in _cells(manifest):
            result = _read(folder, suite, cell, hashes)
            first = recipes.setdefault((suite, cell.task, cell.variant), result)
            known = cells.get((suite, cell.name))
            if first.seedless != result.seedless:
                problems.append(f"{folder}: {cell.name} has other settings than in {first.root.parent}; left out")
            elif known and known.value is not None:
                problems.append(f"{folder}: {cell.name} is in {known.root.parent} too; left out")
            else:
                cells[suite, cell.name] = result
    results = Results(tuple(folders), tuple(manifests), tuple(cells.values()), ())
    for suite in dict.fromkeys(result.suite for result in results.cells):
        results = results.with_returns(suite, common_returns(results.of_suite(suite)))
    if not results.finished:
        why = next((f"{result.cell.name}: {result.reason}" for result in results.unfinished), NOT_BEGUN)
        raise PrefrlError(f"no cell of {', '.join(map(str, folders))} has a final return ({why}): nothing to report")
    return dataclasses.replace(results, problems=(*_problems(results), *problems))


def last_words(log: Path) -> str:
    """The last non-empty line of a log, which usually states why the process ended."""
    lines = log.read_text(errors="replace").split("\n") if log.exists() else []
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].removeprefix("prefrl: ") if said else NOT_BEGUN


def _read(folder: Path, suite: str, cell: Cell, hashes: dict[str, str]) -> Result:
    root = folder / cell.name
    known = partial(Result, suite, cell, hashes["hash"], hashes["seedless"], root)
    if not (root / "summary.json").exists():
        return known(None, last_words(folder / f"{cell.name}.log"))
    if (found := fingerprint_of(root)) != hashes["hash"]:
        why = "made with other settings than the suite's" if found else "its config.json cannot be read"
        return known(None, f"{why}; `prefrl bench run` runs it again")
    try:
        summary = read_summary(root)
    except DamagedFileError:
        return known(None, "its summary.json is damaged; `prefrl bench run` writes it again")
    return known(summary)


def _problems(results: Results) -> list[str]:
    lines = []
    if left := len(results.cells) - len(results.finished):
        lines.append(f"partial: {left} of {len(results.cells)} cells are not finished")
    lines += [f"{result.cell.name}: left out: {result.reason}" for result in results.unfinished]
    lines += [f"{result.cell.name}: no learning curve: {result.flaw}" for result in results.finished if result.flaw]
    lines += [f"{result.cell.name}: {line}" for result in results.finished for line in result.symptoms]
    if names := [result.cell.name for result in results.not_begun]:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        lines.append(f"left out: not begun: {', '.join(names[:_NAMED])}{more}")
    suites = dict.fromkeys(each.suite for each in results.cells)
    lines += [line for suite in suites for line in (*_mixed(results, suite), *_commits(results, suite))]
    versions = sorted({str(result.summary.get("version")) for result in results.finished if result.summary})
    if len(versions) > 1:
        lines.append(f"the cells were run by several versions of prefrl: {', '.join(versions)}")
    return lines


def _mixed(results: Results, suite: str) -> list[str]:
    """A line if only some finished cells of a suite were evaluated, so that training returns are reported."""
    finished = [each for each in results.finished if each.suite == suite]
    lacking = [each.cell.name for each in finished if return_of(each.summary or {}, "evaluation") is None]
    if not 0 < len(lacking) < len(finished):
        return []
    more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
    return [
        f"{suite}: all returns are of the {results.returns_text(suite)}, since {len(lacking)} of {len(finished)} cells "
        f"were not evaluated: {', '.join(lacking[:_NAMED])}{more}"
    ]


def _commits(results: Results, suite: str) -> list[str]:
    """A line if the finished cells of a suite were run by different code, which their settings do not say."""
    found: dict[str, dict[str, None]] = {}
    for each in results.finished:
        if each.suite == suite and each.summary and each.summary.get("commit"):
            found.setdefault(printable(str(each.summary["commit"])[:9], 80), {})[each.cell.variant] = None
    if len(found) < 2:
        return []
    said = "; ".join(f"{', '.join(filter(None, variants)) or suite} at {name}" for name, variants in found.items())
    return [f"{suite}: the cells were run at several commits of prefrl: {said}"]


def _hashes(cell: Cell) -> dict[str, str]:
    return {"id": cell.name, "hash": fingerprint(cell.config), "seedless": fingerprint(cell.seedless.config)}


def _cells(manifest: dict[str, Any]) -> list[tuple[Cell, dict[str, str]]]:
    """The cells of a manifest with their hashes."""
    names = {each.name for each in dataclasses.fields(Cell)}
    cells = []
    for place, entry in enumerate(manifest["cells"]):
        said = {name: value for name, value in entry.items() if name in names}
        cell: Cell = conform(Cell, said, f"cells.{place}")
        if Path(cell.name).name != cell.name:
            raise UsageError(f"a cell cannot be called {printable(cell.name, 80)}")
        hashes = {name: conform(str, entry.get(name), f"cells.{place}.{name}") for name in ("hash", "seedless")}
        cells.append((cell, hashes))
    return cells


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
