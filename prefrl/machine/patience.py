"""What a program does is said within seconds of its start, also while it only imports, or tries an environment."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO, TypeVar

from prefrl.printable import printable

_T = TypeVar("_T")

_FIRST_SECONDS, _NEXT_SECONDS = 1.0, 10.0


class Patience:
    """Says what is being done where it takes longer than a moment; what is done at once needs no word.

    Where lines are for a terminal they go to standard error, as a run's progress does; elsewhere to standard output, so
    that what is wrong stays the one line of standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
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
        said, seconds = "", _FIRST_SECONDS
        while not self._over.wait(seconds):
            line = f"starting: {self.doing}" + (" (still)" if self.doing == said else "")
            said, seconds = self.doing, _NEXT_SECONDS
            try:
                print(printable(line), file=self._stream, flush=True)
            except (OSError, ValueError):
                return  # nobody reads it


_current: Patience | None = None


@contextmanager
def patience() -> Iterator[Patience]:
    """Within, what `doing` names is said where it takes long."""
    global _current  # noqa: PLW0603 - what is being done is the process's
    _current = speaker = Patience()
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
