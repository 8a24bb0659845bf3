"""Runs cells as processes on this machine."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from prefrl_benchmarks import groups
from prefrl_benchmarks.cells import Cell, start_cell
from prefrl_benchmarks.executors.job import Executor, Job


class ProcessJob:
    """A cell in a process on this machine."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        """Exit status; None while the cell runs."""
        code = self._process.poll()
        if code is not None and self._process.stdin:
            self._process.stdin.close()
        return code

    def stop(self) -> None:
        """Ask the cell to stop after its current round; if it is still starting, it ends at once.

        SIGTERM is used because background processes ignore SIGINT. On Windows, which has no SIGTERM, the cell ends at
        once and can be resumed from its newest checkpoint.
        """
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the cell and its worker processes."""
        groups.kill(self._process.pid)
        self._process.wait()
        self.poll()


def start_process(cell: Cell, folder: Path) -> Job:
    """Start a cell with one thread on this machine."""
    return ProcessJob(start_cell(cell, folder, threads=1))


def processes() -> Executor:
    """Return the executor of this machine's processes."""
    return start_process
