"""Distinguish intended key presses from repeats of a held key and accidental second presses. Independent of Qt."""

from __future__ import annotations

SECONDS = 0.25
"""Minimum time that a pair must be visible before an answer, and between two presses of the same key."""


class Guard:
    """Decides which presses count. Times are in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._shown_at = float("-inf")
        self._touched: dict[object, float] = {}

    def shown(self, at: float) -> None:
        """Record that another pair is shown."""
        self._shown_at = at

    def touched(self, what: object, at: float) -> None:
        """Record that a key was released or auto-repeated."""
        self._touched[what] = at

    def repeats(self, what: object, at: float) -> bool:
        """Whether a press only repeats the previous one; records the press.

        Systems that do not mark auto-repeat send each press of a held key together with a release.
        """
        before = self._touched.get(what, float("-inf"))
        self._touched[what] = at
        return at - before < SECONDS

    def too_soon(self, at: float) -> bool:
        """Whether the pair has appeared too recently for an answer to be meant for it."""
        return at - self._shown_at < SECONDS
