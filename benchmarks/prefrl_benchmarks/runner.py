"""Run the cells of a suite, several at a time.

All state is in the run directories of the cells: finished cells are skipped, unfinished ones are resumed. A runner that
was stopped or killed is therefore restarted with the same command.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from prefrl.errors import UsageError
from prefrl.runs.directory import is_finished
from prefrl.storage.files import DamagedFileError, read_json
from prefrl_benchmarks.cells import Cell, fingerprint, fingerprint_of
from prefrl_benchmarks.display import SuiteDisplay
from prefrl_benchmarks.executors.job import Executor, Job
from prefrl_benchmarks.executors.local import start_process
from prefrl_benchmarks.results import last_words, write_manifest
from prefrl_benchmarks.suites import Suite

SUPERSEDED = "superseded"
"""Folder to which runs with other settings are moved; they are never deleted."""
_POLL_SECONDS = 0.02


@dataclass
class Outcome:
    """The outcome of running a suite."""

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Reason of failure for each cell, by name."""
    stopped: bool = False
    """Whether it was asked to stop before the end."""


@dataclass
class _Stop:
    """Counts requests to stop."""

    asked: int = 0


def run_suite(
    suite: Suite, out: Path, jobs: int, *, executor: Executor = start_process, display: SuiteDisplay | None = None
) -> Outcome:
    """Run all cells that are not finished yet.

    Args:
        suite: The suite.
        out: Folder of the run directories.
        jobs: Number of cells to run at a time, each with one thread.
        executor: Starts the cells.
        display: Shows the progress.

    Returns:
        The outcome; cells that were already finished count as finished.

    Raises:
        UsageError: if the folder is in use, holds another suite, or cannot be written.
    """
    if jobs < 1:
        raise UsageError("--jobs must be at least 1")
    with _locked(out):
        write_manifest(suite, out)
        with display or SuiteDisplay() as shown:
            cells = suite.cells()
            pending = [cell for cell in cells if not prepare(cell, out, shown.note)]
            outcome = Outcome([cell.name for cell in cells if cell not in pending])
            shown.begin(len(cells), len(outcome.finished))
            with _stop_requests(shown.note) as stop:
                _work(pending, out, jobs, executor, shown, stop, outcome)
    return outcome


def prepare(cell: Cell, out: Path, note: Callable[[str], None]) -> bool:
    """Whether a cell is finished. A run directory with other settings is moved aside first.

    Args:
        cell: The cell.
        out: Folder of the suite.
        note: Called with a line for each run that is moved or resumed.
    """
    root = out / cell.name
    if not root.exists():
        return False
    outdated = _outdated(cell, out)
    if fingerprint_of(root) == fingerprint(cell.config) and not outdated:
        if not (finished := is_finished(root)) and (root / "summary.json").exists():
            note(f"{cell.name}: its summary.json is damaged; resumed to write it again")
        return finished
    aside = _free(out / SUPERSEDED / cell.name)
    aside.parent.mkdir(exist_ok=True)
    shutil.move(root, aside)
    log = out / f"{cell.name}.log"
    if log.exists():
        shutil.move(log, aside.with_name(f"{aside.name}.log"))
    why = f"used a run of {outdated} that is not there any more" if outdated else "was made with other settings"
    note(f"{cell.name} {why}; moved to {aside} and run again")
    return False


def _outdated(cell: Cell, out: Path) -> str:
    """The name of a cell whose run a cell has used, and which is gone or was begun later; empty if there is none."""
    begun = _begun(out / cell.name)
    for name in cell.uses.values():
        if not (out / name).exists() or (begun and _begun(out / name) > begun):
            return name
    return ""


def _begun(root: Path) -> str:
    """When a run was begun, in ISO format; empty if its configuration does not say."""
    try:
        data: Any = read_json(root / "config.json")
        return str(data["created_at"])
    except (DamagedFileError, OSError, KeyError, TypeError):
        return ""


def _work(
    pending: Iterable[Cell],
    out: Path,
    jobs: int,
    executor: Executor,
    display: SuiteDisplay,
    stop: _Stop,
    outcome: Outcome,
) -> None:
    waiting, running = list(pending), dict[Cell, Job]()
    heard = 0
    try:
        while running or (waiting and not stop.asked):
            while len(running) < jobs and not stop.asked and (cell := _take(waiting, out)):
                running[cell] = executor(cell, out)
                display.started(cell)
            if not running and not stop.asked:
                _give_up(waiting, out, display, outcome)
            for cell in [cell for cell, job in running.items() if job.poll() is not None]:
                _settle(cell, running.pop(cell), out, display, stop, outcome)
            if stop.asked > heard:
                for job in running.values():
                    job.stop() if heard == 0 else job.kill()
                heard = stop.asked
            display.refresh(out, running)
            time.sleep(_POLL_SECONDS)
    finally:
        for job in running.values():
            job.kill()
    outcome.stopped = bool(stop.asked and (waiting or len(outcome.finished) < display.total))


def _take(waiting: list[Cell], out: Path) -> Cell | None:
    """Take the first cell for which all runs are finished that it uses; None if there is none."""
    cell = next((cell for cell in waiting if not cell.lacks(out)), None)
    if cell:
        waiting.remove(cell)
    return cell


def _give_up(waiting: list[Cell], out: Path, display: SuiteDisplay, outcome: Outcome) -> None:
    """Record that the remaining cells cannot be run, because cells that they use have failed."""
    for cell in waiting:
        outcome.failed[cell.name] = f"it uses {cell.lacks(out)[0]}, which is not finished"
        display.failed(cell, outcome.failed[cell.name])
    waiting.clear()


def _settle(cell: Cell, job: Job, out: Path, display: SuiteDisplay, stop: _Stop, outcome: Outcome) -> None:
    """Record how a cell ended."""
    if job.poll() == 0 and is_finished(out / cell.name):
        outcome.finished.append(cell.name)
        display.finished(cell, out)
    elif not stop.asked:
        outcome.failed[cell.name] = last_words(out / f"{cell.name}.log")
        display.failed(cell, outcome.failed[cell.name])


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".bench.lock", timeout=0):
            yield
    except Timeout:
        raise UsageError(f"{out} is in use by another `prefrl bench run`") from None
    except FileExistsError:
        raise UsageError(f"{out} is a file, not a folder") from None
    except PermissionError:
        raise UsageError(f"{out} cannot be written") from None


@contextmanager
def _stop_requests(note: Callable[[str], None]) -> Iterator[_Stop]:
    """Stop cleanly on Ctrl-C or SIGTERM, and at once on a second one."""
    stop = _Stop()

    def ask(number: int, frame: object) -> None:
        stop.asked += 1
        if stop.asked == 1:
            note("stopping after the current round of each run; press Ctrl-C again to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free(path: Path) -> Path:
    """The path, with a number appended if it already exists."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
