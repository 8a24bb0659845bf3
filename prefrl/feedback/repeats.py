"""Asking again, sides swapped: how well people agree with themselves, and with one another.

A repeat is a query of its own. It trains nothing and is none of the budget; `prefrl.feedback.quality` reads its answer.
"""

from __future__ import annotations

import sqlalchemy as sa

from prefrl.chance import stream
from prefrl.feedback.database import LABELS, QUERIES, REPEATS, now
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore, is_closed, is_open
from prefrl.types import Judgement

REPEAT_ROUND = -1
"""The selection round of all repeats; their rank is the id of the query that they repeat."""
FORGOTTEN_AFTER = 10
"""A labeller's answers between a pair and its repeat at least, so that it is judged and not remembered."""


class Repeats:
    """Puts repeats among the pairs that viewers get."""

    def __init__(self, store: LabelStore, queue: LabelQueue, share: float, seed: int = 0) -> None:
        """Make it.

        Args:
            store: The run's labels.
            queue: Its pairs.
            share: Repeats for each of a labeller's answers.
            seed: Of the choice among them.
        """
        self._read, self._write = store.database.read, store.database.write
        self._queue, self._share, self._seed = queue, share, seed

    def is_repeat(self, query_id: int) -> bool:
        """Whether a query only asks again."""
        with self._read() as connection:
            return connection.scalar(sa.select(REPEATS.c.query_id).where(REPEATS.c.query_id == query_id)) is not None

    def answered(self) -> int:
        """Standing answers to repeats, by whomever."""
        repeats = sa.select(REPEATS.c.query_id)
        count = sa.select(sa.func.count()).select_from(LABELS).where(LABELS.c.query_id.in_(repeats))
        with self._read() as connection:
            return int(connection.scalar(count) or 0)

    def ask(self, viewer: str, labeller: str) -> int | None:
        """Give a labeller a pair that was answered before, where one is due.

        Every other repeat is of a pair that somebody else answered, where there is one.

        Returns:
            The new query, leased to the viewer; None where none is due.
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
            mine, others = (
                candidates.where(LABELS.c.labeller == labeller),
                candidates.where(LABELS.c.labeller != labeller),
            )
            order = (others, mine) if repeated % 2 else (mine, others)
            there = connection.execute(order[0]).all() or connection.execute(order[1]).all()
            if not there:
                return None
            before = connection.scalar(sa.select(sa.func.count()).select_from(REPEATS))
            original = there[int(stream(self._seed, "repeats", before or 0).integers(len(there)))]
            row = {
                "round": REPEAT_ROUND,
                "rank": original.id,
                "segment_left": original.segment_right,
                "segment_right": original.segment_left,
                "agent_step": original.agent_step,
                "created_at": now(),
            }
            query_id = int(connection.execute(QUERIES.insert().values(row)).inserted_primary_key[0])  # type: ignore[index]
            connection.execute(REPEATS.insert().values(query_id=query_id, original_id=original.id))
            self._queue.give(connection, query_id, viewer)
        return query_id


def _answers(labeller: str) -> sa.Select[tuple[int, int | None]]:
    """A labeller's standing answers in order, each with the query that it repeats, if any."""
    joined = sa.join(LABELS, REPEATS, LABELS.c.query_id == REPEATS.c.query_id, isouter=True)
    columns = sa.select(LABELS.c.query_id, REPEATS.c.original_id).select_from(joined)
    return columns.where(LABELS.c.labeller == labeller).order_by(LABELS.c.id)


def _repeatable() -> sa.Select[tuple[int, int, int, int]]:
    """People's answers to queries that are no repeats and were not repeated yet."""
    repeats = sa.select(REPEATS.c.query_id).union(sa.select(REPEATS.c.original_id))
    columns = (QUERIES.c.id, QUERIES.c.segment_left, QUERIES.c.segment_right, QUERIES.c.agent_step)
    joined = sa.join(QUERIES, LABELS, QUERIES.c.id == LABELS.c.query_id)
    told = LABELS.c.judgement != Judgement.INCOMPARABLE.value
    return sa.select(*columns).select_from(joined).where(QUERIES.c.id.not_in(repeats), told)
