"""The label store: segments, queries, and an append-only history of answers.

Answers are never changed or deleted: undoing one adds a row. The view `labels` shows the answers that stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from prefrl.errors import UsageError
from prefrl.feedback.answers import append, damaged
from prefrl.feedback.database import (
    HISTORY,
    ILLEGIBLE,
    LABELS,
    LATE,
    META,
    QUERIES,
    REPEATS,
    SEGMENTS,
    WITHDRAWN,
    Database,
    Waiting,
    now,
)
from prefrl.types import Answer, Comparison, Judgement, Label, Pending, Query

IMPORTED_ROUND = 0
"""The selection round of labels that came from a file: before a run's own, so that it sees them whatever it replays."""
_COUNTED = (Judgement.LEFT.value, Judgement.RIGHT.value, Judgement.EQUAL.value)
_NO_REPEAT = QUERIES.c.id.not_in(sa.select(REPEATS.c.query_id))
"""Queries that only ask again measure the people: they are no labels to train on, and none of the budget."""
_ASKING, _CLOSED = "asking", "closed"


class LabelStore:
    """One run's labels. Any number of processes may have it open at once."""

    def __init__(self, path: Path, *, create: bool = False, waiting: Waiting | None = None) -> None:
        """Open a store.

        Args:
            path: The SQLite file.
            create: Whether to make it where it is missing.
            waiting: As for `Database`.

        Raises:
            UsageError: if it was made by a newer version.
            PrefrlError: if it is missing or damaged.
        """
        self.database = Database(path, create=create, waiting=waiting)
        self._read, self._write = self.database.read, self.database.write
        self.close, self.check = self.database.close, self.database.check

    def add_queries(self, queries: Sequence[Query]) -> dict[int, Query]:
        """Store queries and their segments; a query whose (round, rank) is there stays as it was.

        Returns:
            The queries by their ids, those that were there before included.
        """
        if not queries:
            return {}
        segments = {segment.id: query for query in queries for segment in (query.left, query.right)}
        lengths = {segment.id: len(segment) for query in queries for segment in (query.left, query.right)}
        keys = QUERIES.c.round.in_({query.round for query in queries})
        columns = sa.select(QUERIES.c.round, QUERIES.c.rank, QUERIES.c.id).where(keys)
        with self._write() as connection:
            known = set(connection.scalars(sa.select(SEGMENTS.c.id).where(SEGMENTS.c.id.in_(segments))))
            rows = [
                {"id": number, "length": lengths[number], "agent_step": query.agent_step}
                for number, query in segments.items()
                if number not in known
            ]
            if rows:
                connection.execute(SEGMENTS.insert(), rows)
            there = {(row[0], row[1]) for row in connection.execute(columns)}
            new = [_query_row(query) for query in queries if (query.round, query.rank) not in there]
            if new:
                connection.execute(QUERIES.insert(), new)
            ids = {(row[0], row[1]): int(row[2]) for row in connection.execute(columns)}
        return {ids[query.round, query.rank]: query for query in queries}

    def differs(self, queries: Sequence[Query]) -> bool:
        """Whether the store holds one of these queries' keys with other segments."""
        columns = (QUERIES.c.round, QUERIES.c.rank, QUERIES.c.segment_left, QUERIES.c.segment_right)
        rounds = sa.select(*columns).where(QUERIES.c.round.in_({query.round for query in queries}))
        with self._read() as connection:
            held = {(row[0], row[1]): (row[2], row[3]) for row in connection.execute(rounds)}
        sides = {(query.round, query.rank): (query.left.id, query.right.id) for query in queries}
        return any(held[key] != sides[key] for key in held.keys() & sides.keys())

    def unanswered(self, query_ids: Iterable[int]) -> set[int]:
        """Those of the queries that no answer stands for."""
        asked = set(query_ids)
        with self._read() as connection:
            answered = set(connection.scalars(sa.select(LABELS.c.query_id).where(LABELS.c.query_id.in_(asked))))
        return asked - answered

    def pending(self) -> list[Pending]:
        """Queries still waiting for an answer, in the order of their ids."""
        sides = (QUERIES.c.segment_left, QUERIES.c.segment_right)
        query = sa.select(QUERIES.c.id, *sides, QUERIES.c.agent_step, QUERIES.c.round, QUERIES.c.rank)
        query = query.where(is_open(QUERIES.c.id), _NO_REPEAT).order_by(QUERIES.c.id)
        with self._read() as connection:
            return [Pending(*row) for row in connection.execute(query)]

    def add_answers(self, answers: Sequence[Answer]) -> set[int]:
        """Append answers in one transaction; one to a query that has an answer is kept too, but never stands.

        Returns:
            The queries whose answers were taken.
        """
        if not answers:
            return set()
        asked = {answer.query_id: answer for answer in reversed(answers)}
        with self._write() as connection:
            answered = set(connection.scalars(sa.select(LABELS.c.query_id).where(LABELS.c.query_id.in_(asked))))
            sides = sa.select(QUERIES.c.id, QUERIES.c.segment_left).where(QUERIES.c.id.in_(asked))
            left = {row[0]: row[1] for row in connection.execute(sides)}
            if unknown := set(asked) - set(left):
                raise UsageError(f"there is no query {min(unknown)}")
            at = now()
            rows = [
                answer._asdict() | {"judgement": answer.judgement.value, "shown_left": left[number], "created_at": at}
                for number, answer in sorted(asked.items())
                if number not in answered
            ]
            if rows:
                append(connection, rows)
            if late := [given for given in answers if given is not asked[given.query_id] or given.query_id in answered]:
                sides_of = (given._asdict() | {"shown_left": left[given.query_id]} for given in late)
                said = [row | {"judgement": str(row["judgement"].value), "created_at": at} for row in sides_of]
                connection.execute(LATE.insert(), said)
        return set(asked) - answered

    def damaged(self, after: int = 0) -> set[int]:
        """Rows of the history, with ids above `after`, that are not what was stored."""
        with self._read() as connection:
            return damaged(connection, after)

    def late_answers(self) -> int:
        """How many answers came to queries that had one: they are kept, and stand for nothing."""
        with self._read() as connection:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(LATE)) or 0)

    def undo(self, comparison_id: int) -> None:
        """Append a row that takes an answer back; the answer itself stays in the history.

        Raises:
            UsageError: if there is no such answer, or it was taken back before.
        """
        with self._write() as connection:
            undo(connection, comparison_id)

    def counts(self, max_round: int | None = None) -> dict[str, int]:
        """Standing answers by judgement, and `pending`: queries without one that is still wanted.

        Args:
            max_round: Count only queries up to this selection round.
        """
        asked = sa.select(LABELS.c.judgement, sa.func.count()).select_from(
            QUERIES.outerjoin(LABELS, QUERIES.c.id == LABELS.c.query_id)
        )
        wanted = QUERIES.c.id.not_in(sa.select(WITHDRAWN.c.query_id)) & (QUERIES.c.round != IMPORTED_ROUND)
        asked = asked.where(LABELS.c.id.is_not(None) | wanted, _NO_REPEAT)
        if max_round is not None:
            asked = asked.where(QUERIES.c.round <= max_round)
        counts = dict.fromkeys((*Judgement, "pending"), 0)
        with self._read() as connection:
            counts |= {row[0] or "pending": row[1] for row in connection.execute(asked.group_by(LABELS.c.judgement))}
            if is_closed(connection):
                counts["pending"] = 0
        counts["answered"] = sum(counts[name] for name in _COUNTED)
        return counts

    def comparisons(self, *, after: int = 0, upto: int | None = None, max_round: int | None = None) -> list[Comparison]:
        """Standing labels (incomparable ones left out) in the order of their ids.

        Args:
            after: Only ids above this.
            upto: Only ids up to this.
            max_round: Only queries up to this selection round.
        """
        query = (
            sa.select(LABELS.c.id, QUERIES.c.segment_left, QUERIES.c.segment_right, LABELS.c.judgement)
            .join(QUERIES, QUERIES.c.id == LABELS.c.query_id)
            .where(LABELS.c.id > after, LABELS.c.judgement.in_(_COUNTED), _NO_REPEAT)
            .order_by(LABELS.c.id)
        )
        if upto is not None:
            query = query.where(LABELS.c.id <= upto)
        if max_round is not None:
            query = query.where(QUERIES.c.round <= max_round)
        with self._read() as connection:
            rows = connection.execute(query).all()
        return [Comparison(row[0], row[1], row[2], Judgement(row[3]).mu or 0.0) for row in rows]

    @property
    def closed(self) -> bool:
        """Whether the run is to finish with the labels there are: nothing is asked any more."""
        with self._read() as connection:
            return is_closed(connection)

    @closed.setter
    def closed(self, closed: bool) -> None:
        with self._write() as connection:
            connection.execute(META.delete().where(META.c.key == _ASKING))
            if closed:
                connection.execute(META.insert().values(key=_ASKING, value=_CLOSED))

    def illegible(self) -> set[int]:
        """Labels that stand and cannot be read any more, and in whose place no other was given yet."""
        ids = sa.select(ILLEGIBLE.c.id).join(QUERIES, QUERIES.c.id == ILLEGIBLE.c.query_id)
        ids = ids.where(_NO_REPEAT, QUERIES.c.id.not_in(sa.select(LABELS.c.query_id)))
        with self._read() as connection:
            return set(connection.scalars(ids))

    def labels(self) -> list[Label]:
        """Standing labels with all that is known of them, incomparable ones included, in the order of their ids.

        Those that are not what was stored are left out: a copy would pass for what somebody said.
        """
        sides = (QUERIES.c.segment_left, QUERIES.c.segment_right)
        given = (LABELS.c.teacher, LABELS.c.labeller, LABELS.c.agent_step, LABELS.c.response_seconds)
        query = sa.select(LABELS.c.id, *sides, LABELS.c.judgement, *given, LABELS.c.created_at)
        query = query.join(QUERIES, QUERIES.c.id == LABELS.c.query_id).where(_NO_REPEAT).order_by(LABELS.c.id)
        with self._read() as connection:
            rotten = damaged(connection)
            rows = [row for row in connection.execute(query) if row.id not in rotten]
        return [Label(*row)._replace(judgement=Judgement(row.judgement)) for row in rows]

    def imported_after(self, round_: int) -> bool:
        """Whether labels were imported when answers of rounds later than this one were there already."""
        ids = sa.select(sa.func.max(LABELS.c.id), sa.func.min(LABELS.c.id))
        ids = ids.join_from(LABELS, QUERIES, QUERIES.c.id == LABELS.c.query_id)
        with self._read() as connection:
            imported = connection.execute(ids.where(QUERIES.c.round == IMPORTED_ROUND)).one()[0]
            later = connection.execute(ids.where(QUERIES.c.round > round_)).one()[1]
        return imported is not None and later is not None and imported > later

    def asked_pairs(self, max_round: int | None = None) -> set[tuple[int, int]]:
        """Pairs of segment ids, smaller first, that were ever asked about."""
        query = sa.select(QUERIES.c.segment_left, QUERIES.c.segment_right)
        if max_round is not None:
            query = query.where(QUERIES.c.round <= max_round)
        with self._read() as connection:
            return {(min(a, b), max(a, b)) for a, b in connection.execute(query)}

    def last_round(self) -> int:
        """The highest selection round there is; 0 before the first."""
        with self._read() as connection:
            return int(connection.scalar(sa.select(sa.func.max(QUERIES.c.round))) or 0)

    def last_segment(self) -> int:
        """The highest segment id there is; -1 before the first."""
        with self._read() as connection:
            last = connection.scalar(sa.select(sa.func.max(SEGMENTS.c.id)))
        return -1 if last is None else int(last)


def undo(connection: sa.Connection, comparison_id: int, at: str | None = None) -> None:
    """`LabelStore.undo`, within a transaction; `at` is the time of day, now by default."""
    if connection.scalar(sa.select(LABELS.c.id).where(LABELS.c.id == comparison_id)) is None:
        raise UsageError(f"there is no standing answer {comparison_id}")
    row = connection.execute(sa.select(HISTORY).where(HISTORY.c.id == comparison_id)).mappings().one()
    undoing = {"judgement": None, "undoes": comparison_id, "created_at": at or now()}
    append(connection, [{**row, **undoing}])


def is_open(query_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Whether a query is to be answered here: neither answered nor withdrawn, and not from a file."""
    answered, withdrawn = sa.select(LABELS.c.query_id), sa.select(WITHDRAWN.c.query_id)
    imported = sa.select(QUERIES.c.id).where(QUERIES.c.round == IMPORTED_ROUND)
    return sa.and_(*(query_id.not_in(others) for others in (answered, withdrawn, imported)))


def is_closed(connection: sa.Connection) -> bool:
    """`LabelStore.closed`, within a transaction."""
    return connection.scalar(sa.select(META.c.value).where(META.c.key == _ASKING)) == _CLOSED


def _query_row(query: Query) -> dict[str, Any]:
    return {
        "round": query.round,
        "rank": query.rank,
        "segment_left": query.left.id,
        "segment_right": query.right.id,
        "agent_step": query.agent_step,
        "created_at": now(),
    }
