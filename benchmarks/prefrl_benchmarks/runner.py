"""Runs a suite's cells, some at a time, in a folder that can be left and come back to at any moment.

All state is the cells' own run directories: one that is finished is skipped, one that is not is resumed. So a runner
that was stopped, killed or lost its machine is started again with the same command.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from prefrl.errors import UsageError
from prefrl.runs.directory import is_finished
from prefrl_benchmarks.cells import Cell, fingerprint, fingerprint_of
from prefrl_benchmarks.display import SuiteDisplay
from prefrl_benchmarks.executors.local import PROCESSES, Executor, Job
from prefrl_benchmarks.results import last_words, write_manifest
from prefrl_benchmarks.suites import Suite

SUPERSEDED = "superseded"
"""The folder for what was made with other settings: moved aside, never deleted."""
_POLL_SECONDS = 0.02


@dataclass
class Outcome:
    """What came of running a suite."""

    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Why, by the cell's id."""
    stopped: bool = False
    """Whether somebody asked it to stop before the end."""


@dataclass
class _Stop:
    """How often somebody asked to stop."""

    asked: int = 0


def run_suite(
    suite: Suite, out: Path, jobs: int, *, executor: Executor = PROCESSES, display: SuiteDisplay | None = None
) -> Outcome:
    """Run what is not finished yet.

    Args:
        suite: What to run.
        out: The folder of its run directories.
        jobs: Cells at a time; each may use one thread.
        executor: Where they run.
        display: Shows how it goes.

    Returns:
        What came of it; cells that were finished before count as finished.

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
    """Whether a cell is finished; a run directory of other settings than its own is moved aside.

    Args:
        cell: The cell.
        out: The suite's folder.
        note: Told of what is moved.
    """
    root = out / cell.name
    if not root.exists():
        return False
    if fingerprint_of(root) == fingerprint(cell.config):
        if not (finished := is_finished(root)) and (root / "summary.json").exists():
            note(f"{cell.name}: its summary.json is damaged; resumed to write it anew")
        return finished
    aside = _free(out / SUPERSEDED / cell.name)
    aside.parent.mkdir(exist_ok=True)
    shutil.move(root, aside)
    log = out / f"{cell.name}.log"
    if log.exists():
        shutil.move(log, aside.with_name(f"{aside.name}.log"))
    note(f"{cell.name} was made with other settings; moved to {aside}, and run anew")
    return False


def _work(
    pending: Iterable[Cell],
    out: Path,
    jobs: int,
    executor: Executor,
    display: SuiteDisplay,
    stop: _Stop,
    outcome: Outcome,
) -> None:
    waiting, running = deque(pending), dict[Cell, Job]()
    heard = 0
    try:
        while running or (waiting and not stop.asked):
            while waiting and len(running) < jobs and not stop.asked:
                cell = waiting.popleft()
                running[cell] = executor(cell, out)
                display.started(cell)
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


def _settle(cell: Cell, job: Job, out: Path, display: SuiteDisplay, stop: _Stop, outcome: Outcome) -> None:
    """Note how a cell ended."""
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
    """Ctrl-C or SIGTERM asks for a clean stop; a second one does not wait for it."""
    stop = _Stop()

    def ask(number: int, frame: object) -> None:
        stop.asked += 1
        if stop.asked == 1:
            note("stopping after each run's present round; once more to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _free(path: Path) -> Path:
    """The path, or one like it that does not exist yet."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free
