"""Measure the time saved by running cells in parallel, and the overhead of the runner."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefrl.errors import PrefrlError, UsageError
from prefrl.runs.directory import commit, version
from prefrl_benchmarks.cells import Cell, start_cell
from prefrl_benchmarks.executors.job import Job
from prefrl_benchmarks.executors.local import ProcessJob
from prefrl_benchmarks.results import machine
from prefrl_benchmarks.runner import run_suite
from prefrl_benchmarks.suites import find_suite


class _Timed:
    """A local executor that records how long the process of each cell runs."""

    def __init__(self) -> None:
        self.lives: list[float] = []

    def __call__(self, cell: Cell, folder: Path) -> Job:
        started = time.monotonic()
        process = start_cell(cell, folder, threads=1)

        def wait() -> None:
            process.wait()
            self.lives.append(time.monotonic() - started)

        threading.Thread(target=wait, daemon=True).start()
        return ProcessJob(process)


def measure(suite: str, *, jobs: int = 2, trusted: Sequence[str] = ()) -> dict[str, Any]:
    """Run a suite with one job, then with several, each in an empty folder.

    Args:
        suite: Name of a suite, or a TOML file.
        jobs: Number of cells to run at a time.
        trusted: Modules that tasks of a file may import.

    Returns:
        The machine, and for each number of jobs the seconds for the suite and the summed run times of its processes.

    Raises:
        UsageError: for fewer than two jobs, or an unknown suite.
        PrefrlError: if a cell fails.
    """
    if jobs < 2:
        raise UsageError("--at-once must be at least 2: it is compared with one job")
    found = find_suite(suite, trusted)
    timings = {}
    for count in (1, jobs):
        executor = _Timed()
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            outcome = run_suite(found, Path(folder), count, executor=executor)
            seconds = time.monotonic() - started
        if outcome.failed or outcome.stopped:
            raise PrefrlError(f"the suite was not finished: {outcome.failed or 'it was stopped'}")
        timings[str(count)] = {"seconds": seconds, "cells_seconds": sum(executor.lives)}
    about = {"suite": suite, "cells": len(found.cells()), "machine": machine()}
    return about | {"version": version(), "commit": commit(), "timings": timings}


def report_lines(result: dict[str, Any]) -> list[str]:
    """The time relative to one job, and the share of one job's time in which no cell was running."""
    (_, alone), (count, together) = result["timings"].items()
    overhead = 1 - alone["cells_seconds"] / alone["seconds"]
    return [
        f"{result['cells']} cells: {alone['seconds']:.1f} s with one job, {together['seconds']:.1f} s with {count}: "
        f"{together['seconds'] / alone['seconds']:.2f} of it",
        f"the runner itself: {overhead:.2%} of the time with one job",
    ]
