"""How a training is stopped from outside, and whom it tells.

This module imports nothing slow: signals are taken care of before libraries start up, some of which would swallow an
interrupt.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prefrl.machine.processes import WorkerProcess
from prefrl.runs.progress import Progress


class StopTraining(Exception):  # noqa: N818 - no error: somebody asked for it
    """Leaves training between two rounds, with a checkpoint written."""


@dataclass
class Control:
    """What the outside tells a training, and how it is told of it."""

    stop: bool = False
    """Set to leave training at the next round."""
    report: Callable[[Progress], None] = lambda progress: None
    """Called with the run's progress at each round."""
    warn: Callable[[str], None] = lambda line: None
    """Called with a line that the user should see."""
    learner: WorkerProcess | None = None
    """The reward learner's process, where it was started ahead; an asynchronous training takes it over."""


@contextmanager
def stop_on_signals(control: Control) -> Iterator[None]:
    """Ctrl-C or SIGTERM asks for a clean stop; a second one does not wait for it."""

    def ask(number: int, frame: object) -> None:
        if control.stop:
            raise KeyboardInterrupt
        control.stop = True
        control.warn("stopping after this round; once more to stop at once")

    try:
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller's signals are the caller's
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
