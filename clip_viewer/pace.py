"""Labelling rate, and estimated time for the remaining labels."""

from __future__ import annotations

from collections import deque

_ANSWERS = 20
"""Number of newest answers that determine the rate."""
_LONGEST_SECONDS = 60.0
"""Longer gaps are pauses and are ignored."""


class Pace:
    """Labels per minute over the newest answers, without pauses."""

    def __init__(self) -> None:
        self._gaps: deque[float] = deque(maxlen=_ANSWERS)
        self._last: float | None = None

    def answered(self, at: float) -> None:
        """Record an answer at a time in seconds of a monotonic clock."""
        if self._last is not None and at - self._last <= _LONGEST_SECONDS:
            self._gaps.append(at - self._last)
        self._last = at

    @property
    def per_minute(self) -> float | None:
        """Labels per minute; None before the second answer."""
        return 60 * len(self._gaps) / sum(self._gaps) if self._gaps and sum(self._gaps) > 0 else None

    def seconds_left(self, labels: int) -> float | None:
        """Estimated seconds for a number of labels; None before the second answer."""
        return None if self.per_minute is None else 60 * labels / self.per_minute
