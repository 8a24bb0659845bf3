"""Show progress: a live line on a terminal, plain lines at intervals elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from prefrl.commands.wording import in_words
from prefrl.printable import LONGEST_LINE, printable
from prefrl.runs.progress import Phase
from prefrl.runs.progress import Progress as RunProgress

_PLAIN_SECONDS = 10.0


class Live:
    """A live display on a terminal, used as a context manager."""

    _live: Progress | None

    def __enter__(self) -> Self:
        """Start the live display."""
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the live display."""
        if self._live:
            self._live.stop()


class TrainingDisplay(Live):
    """Shows a run's progress."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._live = None
        self._last = -_PLAIN_SECONDS
        self._phase: Phase | None = None
        self._line = ""
        self._before: tuple[float, int] | None = None
        self._trained = (0.0, 0)
        if self._console.is_terminal:
            columns = (plain_column("description"), BarColumn(bar_width=24), TaskProgressColumn())
            self._live = Progress(*columns, plain_column("fields[details]"), console=self._console)
            self._task = self._live.add_task("starting", total=None, details="")

    def report(self, progress: RunProgress) -> None:
        """Show the run's progress."""
        rate, doing = self._rate(progress), in_words(progress)
        if self._live:
            self._live.update(
                self._task,
                description=printable(doing, 80),
                completed=min(progress.step, progress.steps),
                total=progress.steps,
                details=details(progress, rate),
            )
            return
        now = time.monotonic()
        is_last = progress.step >= progress.steps and progress.phase is Phase.TRAINING
        if progress.phase is not self._phase or now - self._last >= _PLAIN_SECONDS or is_last:
            self._phase, self._last = progress.phase, now
            line = f"{doing}: {details(progress, rate)}"
            if line != self._line:
                self.warn(line)
            self._line = line

    def warn(self, line: str) -> None:
        """Print a permanent line."""
        self._console.print(printable(line, LONGEST_LINE), soft_wrap=True, highlight=False, markup=False, emoji=False)

    def _rate(self, progress: RunProgress) -> float | None:
        """Return the steps per second since this display started, without waiting times; None if unknown."""
        seconds, step = self._before or (progress.seconds, progress.step)
        if step < progress.step:
            self._trained = (self._trained[0] + progress.seconds - seconds, self._trained[1] + progress.step - step)
        self._before = (progress.seconds, progress.step)
        return self._trained[1] / self._trained[0] if self._trained[0] > 0.5 else None


class CountDisplay(Live):
    """Shows the progress of work that can be counted."""

    def __init__(self, unit: str, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._unit, self._live = unit, None
        self._phase, self._since, self._last = "", 0.0, 0.0
        if self._console.is_terminal:
            columns = (plain_column("description"), BarColumn(bar_width=24), TaskProgressColumn())
            self._live = Progress(*columns, plain_column("fields[details]"), console=self._console)
            self._task = self._live.add_task("starting", total=None, details="")

    def say(self, line: str) -> None:
        """Print a permanent line."""
        self._console.print(printable(line, LONGEST_LINE), soft_wrap=True, highlight=False, markup=False, emoji=False)

    def report(self, phase: str, done: int, wanted: int) -> None:
        """Show the progress of a phase.

        Args:
            phase: Name of the phase.
            done: Units done.
            wanted: Total units; 0 if the phase cannot be counted.
        """
        now = time.monotonic()
        begins = phase != self._phase
        if begins:
            self._phase, self._since = phase, now
        said = f"{done:,}/{wanted:,} {self._unit}" if wanted else ""
        if done:
            said += f", {clock((now - self._since) / done * (wanted - done))} left"
        if self._live:
            self._live.update(self._task, description=phase, completed=done, total=wanted or None, details=said)
        elif begins or now - self._last >= _PLAIN_SECONDS:
            self._last = now
            self.say(f"{phase}: {said}" if said else phase)


def plain_column(field: str) -> TextColumn:
    """Return a column that shows a field of a task without markup, because names may contain square brackets."""
    return TextColumn(f"{{task.{field}}}", markup=False)


def details(progress: RunProgress, rate: float | None) -> str:
    """Format a run's metrics in one line; `rate` is in steps per second."""
    parts = [_steps(progress)]
    if progress.labels_budget:
        parts.append(f"labels {progress.labels}/{progress.labels_budget}")
    if progress.true_return is not None:
        parts.append(f"true return {progress.true_return:.1f}")
    if progress.evaluation_return is not None:
        parts.append(f"evaluation {progress.evaluation_return:.1f}")
    if progress.reward_correlation is not None:
        parts.append(f"reward correlation {progress.reward_correlation:.2f}")
    if rate:
        left = max(0, progress.steps - progress.step) / rate
        parts += [f"{rate:,.0f} steps/s", f"{clock(left)} left"]
    return ", ".join(parts)


def _steps(progress: RunProgress) -> str:
    """Format the number of steps. An agent takes whole rollouts, so it may exceed the requested number."""
    if progress.step > progress.steps:
        return f"{progress.step:,} steps ({progress.steps:,} asked for, in whole rollouts)"
    return f"{progress.step:,}/{progress.steps:,} steps"


def clock(seconds: float) -> str:
    """Format seconds as h:mm:ss or m:ss."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
