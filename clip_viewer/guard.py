"""Tells what a person means from what a held key or a second press only repeats. Knows nothing of windows."""

from __future__ import annotations

SECONDS = 0.25
"""Nobody has seen a pair that was on the screen for less, nor means a press that follows the same one so soon."""


class Guard:
    """Which presses count. Times are in seconds, of a clock that never jumps."""

    def __init__(self) -> None:
        self._shown_at = float("-inf")
        self._touched: dict[object, float] = {}

    def shown(self, at: float) -> None:
        """Note that another pair is on the screen."""
        self._shown_at = at

    def touched(self, what: object, at: float) -> None:
        """Note that a key was let go, or that the system repeats it."""
        self._touched[what] = at

    def repeats(self, what: object, at: float) -> bool:
        """Whether a press only repeats the one before; notes it.

        A system that does not mark the presses of a held key sends each at the same time as a release.
        """
        before = self._touched.get(what, float("-inf"))
        self._touched[what] = at
        return at - before < SECONDS

    def too_soon(self, at: float) -> bool:
        """Whether the pair has only just appeared, so that an answer cannot be meant for it."""
        return at - self._shown_at < SECONDS
