"""Progress of a running suite: one bar for all cells and one for each running cell; plain lines without a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TimeElapsedColumn

from prefrl.commands.display import Live, details, plain_column
from prefrl.printable import LONGEST_LINE, printable
from prefrl.runs.directory import read_progress, read_summary
from prefrl.runs.progress import Progress as RunProgress
from prefrl_benchmarks.cells import Cell
from prefrl_benchmarks.returns import common_returns, return_of, returns_text

_REFRESH_SECONDS = 0.5


class SuiteDisplay(Live):
    """Shows the progress of a suite."""

    def __init__(self, console: Console | None = None) -> None:
        """Create a display; by default on standard error."""
        self._console = console or Console(stderr=True)
        columns = (plain_column("description"), BarColumn(bar_width=24), plain_column("fields[details]"))
        self._live = (
            Progress(*columns, TimeElapsedColumn(), console=self._console) if self._console.is_terminal else None
        )
        self._bars: dict[Cell, TaskID] = {}
        self._refreshed = 0.0
        self.total = self._done = 0

    def note(self, line: str) -> None:
        """Print a permanent line."""
        self._console.print(printable(line, LONGEST_LINE), soft_wrap=True, highlight=False, markup=False, emoji=False)

    def begin(self, total: int, finished: int) -> None:
        """Show how many cells there are and how many are finished."""
        self.total, self._done = total, finished
        if finished:
            self.note(f"{finished} of {total} cells are already finished")
        if self._live:
            self._overall = self._live.add_task("all cells", total=total, completed=finished, details=self._count)

    def started(self, cell: Cell) -> None:
        """Show that a cell was started."""
        if self._live:
            self._bars[cell] = self._live.add_task(cell.name, total=cell.steps, details="starting")

    def finished(self, cell: Cell, folder: Path) -> None:
        """Show that a cell has finished, with its return."""
        summary = read_summary(folder / cell.name)
        value = return_of(summary, (returns := common_returns([summary])))
        told = "finished" if value is None else f"true return {value:.1f} ({returns_text(returns, [summary])})"
        self._end(cell, told, counts=True)

    def failed(self, cell: Cell, reason: str) -> None:
        """Show that a cell has failed."""
        self._end(cell, f"failed: {reason}", counts=False)

    def refresh(self, folder: Path, cells: Iterable[Cell]) -> None:
        """Update the bars of the running cells."""
        if self._live is None or time.monotonic() - self._refreshed < _REFRESH_SECONDS:
            return
        self._refreshed = time.monotonic()
        for cell in cells:
            if said := _progress(folder / cell.name):
                self._live.update(self._bars[cell], completed=said.step, details=details(said, None))

    def _end(self, cell: Cell, told: str, *, counts: bool) -> None:
        self._done += counts
        self.note(f"[{self._count}] {cell.name}: {told}")
        if self._live:
            self._live.remove_task(self._bars.pop(cell))
            self._live.update(self._overall, completed=self._done, details=self._count)

    @property
    def _count(self) -> str:
        return f"{self._done}/{self.total}"


def _progress(root: Path) -> RunProgress | None:
    """A run's last report; None before its training starts."""
    said = read_progress(root)
    return said if said is not None and said.steps else None
