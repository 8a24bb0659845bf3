"""Status messages while a command has nothing else to show, for example while it imports libraries."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from prefrl.printable import printable

_T = TypeVar("_T")

_FIRST_SECONDS, _POLL_SECONDS, _REPEAT_SECONDS = 1.0, 1.0, 10.0
"""Before the first message; between checks for a new activity; before a message is repeated."""


class ActivityPrinter:
    """Prints the current activity from a background thread, once a command has run for a second.

    On a terminal, messages go to standard error, as a run's progress does. Otherwise they go to standard output, so
    that an error remains the only line on standard error.
    """

    def __init__(self, stream: TextIO | None = None, command: str = "starting") -> None:
        """Create a printer; `start` starts its thread.

        Args:
            stream: Where messages are printed; by default as described above.
            command: What the command does, in one word; it starts every message.
        """
        self._command = command
        self._stream = stream or (sys.stderr if sys.stderr.isatty() else sys.stdout)
        self.activity = "loading libraries"
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="prefrl-activity", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Print no further messages."""
        self._stopped.set()

    def _run(self) -> None:
        printed, at, seconds = "", 0.0, _FIRST_SECONDS
        while not self._stopped.wait(seconds):
            seconds, activity = _POLL_SECONDS, self.activity
            if activity == printed and time.monotonic() - at < _REPEAT_SECONDS:
                continue
            line = f"{self._command}: {activity}" + (" (still)" if activity == printed else "")
            printed, at = activity, time.monotonic()
            try:
                print(printable(line), file=self._stream, flush=True)
            except (OSError, ValueError):
                return  # the stream was closed


_current: ActivityPrinter | None = None


@contextmanager
def show_activity(command: str = "starting") -> Iterator[ActivityPrinter]:
    """Print what `set_activity` names while the context is open; `command` is as for `ActivityPrinter`."""
    global _current  # noqa: PLW0603 - one per process
    _current = printer = ActivityPrinter(command=command)
    printer.start()
    try:
        yield printer
    finally:
        printer.stop()
        _current = None


def set_activity(activity: str) -> None:
    """Set the current activity; without effect outside `show_activity`."""
    if _current:
        _current.activity = activity


def then(first: Callable[[], None], second: Callable[[_T], None]) -> Callable[[_T], None]:
    """Return a function that calls both, in this order, and passes its argument to the second."""

    def both(argument: _T) -> None:
        first()
        second(argument)

    return both
