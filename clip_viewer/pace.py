"""How fast a person labels, and how long the rest will take."""

from __future__ import annotations

from collections import deque

_ANSWERS = 20
"""The newest answers that the pace is taken from."""
_LONGEST_SECONDS = 60.0
"""A longer gap was a pause, and no part of the pace."""


class Pace:
    """Labels a minute over the newest answers, pauses left out."""

    def __init__(self) -> None:
        self._gaps: deque[float] = deque(maxlen=_ANSWERS)
        self._last: float | None = None

    def answered(self, at: float) -> None:
        """Note an answer at this many seconds of a clock that never jumps."""
        if self._last is not None and at - self._last <= _LONGEST_SECONDS:
            self._gaps.append(at - self._last)
        self._last = at

    @property
    def per_minute(self) -> float | None:
        """Labels a minute; None before the second answer."""
        return 60 * len(self._gaps) / sum(self._gaps) if self._gaps and sum(self._gaps) > 0 else None

    def seconds_left(self, labels: int) -> float | None:
        """How long this many labels will take at this pace."""
        return None if self.per_minute is None else 60 * labels / self.per_minute
