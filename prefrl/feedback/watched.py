"""The true rewards of the segments that a run has asked about, by which a simulated teacher knows what is usual."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from prefrl.arrays import Floats
from prefrl.errors import PrefrlError
from prefrl.experience.clips import ClipFolder


class WatchedRewards:
    """Reads the true rewards of segments from the clips, each once, so that a resumed run knows the same."""

    def __init__(self, clips: ClipFolder) -> None:
        """Initialise without rewards.

        Args:
            clips: The folder with the segments of the queries.
        """
        self._clips = clips
        self._known: dict[int, Floats | None] = {}
        self._newest: tuple[frozenset[int], Floats] = (frozenset(), np.zeros((0, 0), np.float32))

    def __call__(self, asked: Iterable[tuple[int, ...]]) -> Floats:
        """Return the (N, L) true rewards of the segments of queries, sorted by id; damaged clips are left out.

        Args:
            asked: Segment ids of each query.
        """
        numbers = frozenset(number for query in asked for number in query)
        if numbers != self._newest[0]:
            found = [rewards for number in sorted(numbers) if (rewards := self._rewards(number)) is not None]
            self._newest = numbers, np.stack(found) if found else np.zeros((0, 0), np.float32)
        return self._newest[1]

    def _rewards(self, number: int) -> Floats | None:
        if number not in self._known:
            try:
                self._known[number] = self._clips.load(number).true_rewards
            except PrefrlError:
                self._known[number] = None
        return self._known[number]
