"""What an executor is: it starts a cell and returns a job to poll. The cell's files end up in the suite's folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from prefrl_benchmarks.cells import Cell


class Job(Protocol):
    """A running cell."""

    def poll(self) -> int | None:
        """Exit status; None while the cell runs."""

    def stop(self) -> None:
        """Ask the cell to stop so that it can be resumed."""

    def kill(self) -> None:
        """Kill the cell; files that it has written are kept."""


Executor = Callable[[Cell, Path], Job]
"""Starts or resumes a cell whose run directory is `folder / cell.name`."""
