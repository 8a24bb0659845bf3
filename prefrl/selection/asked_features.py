"""The features of the queries that were asked before, for query rules that look for new ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from prefrl.arrays import Array
from prefrl.errors import PrefrlError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.segment import Segment
from prefrl.selection.kcentre import state_features


class AskedFeatures:
    """Features of queries, from the pool or from the clips; those of each segment are read once."""

    def __init__(self, clips: ClipFolder) -> None:
        """Initialise without features.

        Args:
            clips: The folder with the segments of the queries.
        """
        self._clips = clips
        self._known: dict[int, Array | None] = {}

    def __call__(self, asked: Iterable[tuple[int, ...]], pool: Sequence[Segment]) -> Array:
        """Return the features of queries.

        Args:
            asked: Segment ids of each query, smallest first.
            pool: Segments that need not be read from the clips.

        Returns:
            (N, D) the states of each query's segments, in the order of their ids. Queries with a damaged clip are left
            out.
        """
        at_hand = {segment.id: segment for segment in pool}
        queries = [[self._features(number, at_hand) for number in query] for query in sorted(asked)]
        whole = [np.concatenate(states) for query in queries if len(states := _present(query)) == len(query)]
        return np.stack(whole) if whole else np.zeros((0, 0), np.float32)

    def _features(self, number: int, at_hand: dict[int, Segment]) -> Array | None:
        if number not in self._known:
            try:
                self._known[number] = state_features(at_hand[number] if number in at_hand else self._clips.load(number))
            except PrefrlError:
                self._known[number] = None
        return self._known[number]


def _present(states: Iterable[Array | None]) -> list[Array]:
    return [state for state in states if state is not None]
