"""What a program does is said within seconds of its start, also while it only imports, or tries an environment."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from prefrl.printable import printable

_T = TypeVar("_T")

_FIRST_SECONDS, _LOOK_SECONDS, _NEXT_SECONDS = 1.0, 1.0, 10.0
"""Until the first word; between two looks for something new to say; until the same is said again."""


class Patience:
    """Says what is being done where it takes longer than a moment; what is done at once needs no word.

    Where lines are for a terminal they go to standard error, as a run's progress does; elsewhere to standard output, so
    that what is wrong stays the one line of standard error.
    """

    def __init__(self, stream: TextIO | None = None, activity: str = "starting") -> None:
        """Make it.

        Args:
            stream: Where lines go.
            activity: What the command does, in a word.
        """
        self._activity = activity
        self._stream = stream or (sys.stderr if sys.stderr.isatty() else sys.stdout)
        self.doing = "loading libraries"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._speak, name="prefrl-patience", daemon=True)

    def start(self) -> None:
        """Begin to wait."""
        self._thread.start()

    def stop(self) -> None:
        """Be silent from now on."""
        self._over.set()

    def _speak(self) -> None:
        said, at, seconds = "", 0.0, _FIRST_SECONDS
        while not self._over.wait(seconds):
            seconds, doing = _LOOK_SECONDS, self.doing
            if doing == said and time.monotonic() - at < _NEXT_SECONDS:
                continue
            line = f"{self._activity}: {doing}" + (" (still)" if doing == said else "")
            said, at = doing, time.monotonic()
            try:
                print(printable(line), file=self._stream, flush=True)
            except (OSError, ValueError):
                return  # nobody reads it


_current: Patience | None = None


@contextmanager
def patience(activity: str = "starting") -> Iterator[Patience]:
    """Within, what `doing` names is said where it takes long; `activity` is what the command does, in a word."""
    global _current  # noqa: PLW0603 - what is being done is the process's
    _current = speaker = Patience(activity=activity)
    speaker.start()
    try:
        yield speaker
    finally:
        speaker.stop()
        _current = None


def doing(what: str) -> None:
    """Name what is being done from now on."""
    if _current:
        _current.doing = what


def then(first: Callable[[], None], second: Callable[[_T], None]) -> Callable[[_T], None]:
    """What does both, one after the other."""

    def both(argument: _T) -> None:
        first()
        second(argument)

    return both
