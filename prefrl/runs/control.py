"""Stop a training from outside, and receive its progress.

This module has no slow imports, because signal handlers are installed before other libraries are imported. Some of
these would swallow an interrupt.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prefrl.machine.processes import WorkerProcess
from prefrl.runs.progress import Progress


class StopTraining(Exception):  # noqa: N818 - not an error: a stop was requested
    """Ends training after a checkpoint, because a stop was requested."""


@dataclass
class Control:
    """Requests to a training, and callbacks for its reports."""

    stop: bool = False
    """Set to stop training at the next round."""
    report: Callable[[Progress], None] = lambda progress: None
    """Called with the run's progress at each round."""
    warn: Callable[[str], None] = lambda line: None
    """Called with warnings for the user, one line each."""
    learner: WorkerProcess | None = None
    """The reward learner's process, if it was started in advance; an asynchronous training uses it."""


@contextmanager
def stop_on_signals(control: Control) -> Iterator[None]:
    """Request a stop on Ctrl-C or SIGTERM; a second signal raises KeyboardInterrupt."""

    def ask(number: int, frame: object) -> None:
        if control.stop:
            raise KeyboardInterrupt
        control.stop = True
        control.warn("stopping after this round; interrupt again to stop at once")

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread; signals are left to the caller
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
