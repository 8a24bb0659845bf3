"""Repeated queries, with the segments in the opposite order. They measure how consistently people answer.

A repeat is a query of its own. It neither trains the reward model nor counts towards the budget; its answer is used by
`prefrl.feedback.quality`.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from prefrl.feedback.database import QUERIES, REPEATS, STANDING, now, segments_of
from prefrl.feedback.kinds import KINDS, from_json
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.rows import is_closed, is_open, place_segments
from prefrl.feedback.store import LabelStore
from prefrl.seeding import stream

REPEAT_ROUND = -1
"""Selection round of all repeats; their rank is the id of the original query."""
FORGOTTEN_AFTER = 10
"""Minimum number of a labeller's answers between a query and its repeat, so that they do not remember it."""


class Repeats:
    """Inserts repeats into the queue of queries."""

    def __init__(self, store: LabelStore, queue: LabelQueue, share: float, seed: int = 0) -> None:
        """Initialise the repeats.

        Args:
            store: The run's label store.
            queue: The run's queue of queries.
            share: Number of repeats per answer of a labeller.
            seed: Seed of the random choice of originals.
        """
        self._read, self._write = store.database.read, store.database.write
        self._queue, self._share, self._seed = queue, share, seed

    def is_repeat(self, query_id: int) -> bool:
        """Return whether a query is a repeat."""
        with self._read() as connection:
            return connection.scalar(sa.select(REPEATS.c.query_id).where(REPEATS.c.query_id == query_id)) is not None

    def answered(self) -> int:
        """Return the number of standing answers to repeats, of all labellers."""
        repeats = sa.select(REPEATS.c.query_id)
        count = sa.select(sa.func.count()).select_from(STANDING).where(STANDING.c.query_id.in_(repeats))
        with self._read() as connection:
            return int(connection.scalar(count) or 0)

    def ask(self, viewer: str, labeller: str) -> int | None:
        """Ask a labeller a repeat, if one is due.

        Every other repeat is of a query that another labeller answered, if there is one.

        Returns:
            The id of the repeat, which is leased to the viewer; None if no repeat is due.
        """
        if not self._share:
            return None
        with self._write() as connection:
            unanswered = sa.select(REPEATS.c.query_id).where(is_open(REPEATS.c.query_id))
            if is_closed(connection) or connection.scalar(unanswered) is not None:
                return None
            given = connection.execute(_answers(labeller)).all()
            repeated = sum(row.original_id is not None for row in given)
            if int(self._share * (len(given) - repeated)) <= repeated:
                return None
            newest = [row.query_id for row in given[-FORGOTTEN_AFTER:]]
            candidates = _repeatable().where(QUERIES.c.id.not_in(newest)).order_by(QUERIES.c.id)
            mine, others = STANDING.c.labeller == labeller, STANDING.c.labeller != labeller
            order = (others, mine) if repeated % 2 else (mine, others)
            there = _labels(connection, candidates.where(order[0])) or _labels(connection, candidates.where(order[1]))
            if not there:
                return None
            before = connection.scalar(sa.select(sa.func.count()).select_from(REPEATS))
            original = there[int(stream(self._seed, "repeats", before or 0).integers(len(there)))]
            row = {"kind": original.kind, "round": REPEAT_ROUND, "rank": original.id, "wanted": 1}
            row |= {"agent_step": original.agent_step, "created_at": now()}
            query_id = int(connection.execute(QUERIES.insert().values(row)).inserted_primary_key[0])  # type: ignore[index]
            about = segments_of(connection, sa.select(QUERIES.c.id).where(QUERIES.c.id == original.id))
            place_segments(connection, query_id, about[original.id][::-1])
            connection.execute(REPEATS.insert().values(query_id=query_id, original_id=original.id))
            self._queue.give(connection, query_id, viewer)
        return query_id


def _answers(labeller: str) -> sa.Select[tuple[int, int | None]]:
    """Select a labeller's standing answers in order, each with the original query if it answers a repeat."""
    joined = sa.join(STANDING, REPEATS, STANDING.c.query_id == REPEATS.c.query_id, isouter=True)
    columns = sa.select(STANDING.c.query_id, REPEATS.c.original_id).select_from(joined)
    return columns.where(STANDING.c.labeller == labeller).order_by(STANDING.c.id)


def _repeatable() -> sa.Select[tuple[int, str, int, str]]:
    """Select the answers to queries that are neither repeats nor repeated yet."""
    repeats = sa.select(REPEATS.c.query_id).union(sa.select(REPEATS.c.original_id))
    columns = (QUERIES.c.id, QUERIES.c.kind, QUERIES.c.agent_step, STANDING.c.value)
    joined = sa.join(QUERIES, STANDING, QUERIES.c.id == STANDING.c.query_id)
    return sa.select(*columns).select_from(joined).where(QUERIES.c.id.not_in(repeats))


def _labels(connection: sa.Connection, candidates: sa.Select[tuple[int, str, int, str]]) -> list[Any]:
    """Return the answers that count as labels."""
    rows = connection.execute(candidates).all()
    kinds = ((KINDS[row.kind], row) for row in rows)
    return [row for kind, row in kinds if kind.counts(from_json(kind, row.value))]
