"""Automatic labels, which prefer demonstrated clips to the agent's first clips (Ibarz et al., 2018).

They train the reward model, but are not part of the label budget. The store has them under a teacher's name of their
own, as if they had been imported before the first round.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from prefrl.config import RunConfig
from prefrl.errors import UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.demonstrations import Demonstrations
from prefrl.experience.segment import Segment
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.merge import free_segments
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import DEMONSTRATIONS, IMPORTED_ROUND, Answer
from prefrl.seeding import stream


class AutomaticLabels:
    """Adds the automatic labels of a run to its store."""

    def __init__(
        self,
        config: RunConfig,
        store: LabelStore,
        clips: ClipFolder,
        pool: Sequence[Segment],
        shown: Demonstrations,
    ) -> None:
        """Initialise the labels.

        Args:
            config: The run.
            store: Stores the labels.
            clips: Stores their segments.
            pool: The newest segments, filled by the recorder.
            shown: The demonstrations.
        """
        self._config, self._store, self._clips, self._pool = config, store, clips, pool
        self._shown = shown

    @property
    def segments(self) -> int:
        """Number of the agent's first segments that they need."""
        return min(self._config.automatic_labels, self._config.queries.pool)

    @property
    def _done(self) -> bool:
        return DEMONSTRATIONS in self._store.by_teacher()

    def add(self, step: int) -> None:
        """Add the labels, unless the store has them already.

        Args:
            step: Agent steps taken.

        Raises:
            UsageError: if no clip can be cut from the demonstrations.
        """
        if self._done or not self._config.automatic_labels:
            return
        pairs, rng = self._pairs(), stream(self._config.seed, "demonstrations", 1)
        for segment in {segment.id: segment for pair in pairs for segment in pair}.values():
            self._clips.save(segment)
        self._clips.sync()
        first, preferred = self._store.next_rank(IMPORTED_ROUND), rng.random(len(pairs)) < 0.5
        queries = [
            pair_query(IMPORTED_ROUND, first + rank, *(pair if left else pair[::-1]), step)
            for rank, (pair, left) in enumerate(zip(pairs, preferred, strict=True))
        ]
        ids = self._store.add_queries(queries)
        sides = [Judgement.LEFT if left else Judgement.RIGHT for left in preferred]
        self._store.add_answers(
            [Answer(number, side, DEMONSTRATIONS, step) for number, side in zip(ids, sides, strict=True)]
        )

    def _pairs(self) -> list[tuple[Segment, Segment]]:
        """Draw distinct pairs of a demonstrated clip and one of the agent's."""
        demonstrated = self._shown.clips(length := self._config.queries.segment_length)
        if not demonstrated:
            raise UsageError(
                f"no demonstrated episode has the {length} steps of a clip: set demonstrations.labels=0, or a shorter "
                "queries.segment_length"
            )
        total = len(demonstrated) * len(self._pool)
        codes = stream(self._config.seed, "demonstrations", 2).choice(
            total, size=min(self._config.automatic_labels, total), replace=False
        )
        better, worse = np.divmod(codes, len(self._pool))
        numbers = dict(zip(np.unique(better).tolist(), free_segments(self._store, len(demonstrated)), strict=False))
        named = {place: dataclasses.replace(demonstrated[place], id=number) for place, number in numbers.items()}
        return [(named[one], self._pool[other]) for one, other in zip(better.tolist(), worse.tolist(), strict=True)]
