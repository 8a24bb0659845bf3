"""The label store: segments, queries, and an append-only history of answers, in one SQLite file.

Everything goes through SQLAlchemy Core, so that another database can serve by its URL. Answers are never changed or
deleted: undoing one adds a row. The view `labels` shows the answers that stand.
"""

from __future__ import annotations

import datetime
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from prefrl.errors import PrefrlError, UsageError, is_disk_full
from prefrl.types import Answer, Comparison, Judgement, Query

STORE_VERSION = 1

_metadata = sa.MetaData()
_meta = sa.Table(
    "meta",
    _metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)
_segments = sa.Table(
    "segments",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("length", sa.Integer, nullable=False),
    sa.Column("agent_step", sa.Integer, nullable=False),
)
_queries = sa.Table(
    "queries",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("segment_left", sa.ForeignKey("segments.id"), nullable=False),
    sa.Column("segment_right", sa.ForeignKey("segments.id"), nullable=False),
    sa.Column("agent_step", sa.Integer, nullable=False),
    sa.Column("created_at", sa.String, nullable=False),
    sa.UniqueConstraint("round", "rank"),
)
_history = sa.Table(
    "comparisons",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("query_id", sa.ForeignKey("queries.id"), nullable=False, index=True),
    sa.Column("judgement", sa.String, nullable=True, doc="null in a row that undoes another"),
    sa.Column("undoes", sa.ForeignKey("comparisons.id"), nullable=True, unique=True),
    sa.Column("teacher", sa.String, nullable=False),
    sa.Column("labeller", sa.String, nullable=True),
    sa.Column("agent_step", sa.Integer, nullable=False),
    sa.Column("shown_left", sa.ForeignKey("segments.id"), nullable=False),
    sa.Column("response_seconds", sa.Float, nullable=True),
    sa.Column("created_at", sa.String, nullable=False),
    sqlite_autoincrement=True,
)
_CREATE_VIEW = """
CREATE VIEW labels AS
SELECT id, query_id, judgement, teacher, labeller, agent_step, shown_left, response_seconds, created_at
FROM comparisons AS given
WHERE judgement IS NOT NULL AND NOT EXISTS (SELECT 1 FROM comparisons AS undo WHERE undo.undoes = given.id)
"""
_labels = sa.table("labels", *(sa.column(name) for name in ("id", "query_id", "judgement", "shown_left")))
_COUNTED = (Judgement.LEFT.value, Judgement.RIGHT.value, Judgement.EQUAL.value)


class LabelStore:
    """One run's labels. Any number of processes may have it open at once."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open a store.

        Args:
            path: The SQLite file.
            create: Whether to make it where it is missing.

        Raises:
            UsageError: if it was made by a newer version.
            PrefrlError: if it is missing or damaged.
        """
        if not create and not path.exists():
            raise PrefrlError(f"{path} is missing")
        if not create and path.stat().st_size == 0:
            raise PrefrlError(f"{path} is damaged: it is empty")
        self._path = path
        # On a disk that cannot be written, SQLite needs to be told that nobody else writes there either.
        writable = create or os.access(path.parent, os.W_OK)
        url = f"sqlite:///{path}" if writable else f"sqlite:///file:{path}?mode=ro&immutable=1&uri=true"
        self._engine = sa.create_engine(url, connect_args={"timeout": 30.0})
        sa.event.listen(self._engine, "connect", _configure_sqlite if writable else _configure_reader)
        sa.event.listen(self._engine, "begin", _begin_explicitly)
        with self._write() if create else self._read() as connection:
            if create and not sa.inspect(connection).has_table("meta"):
                _metadata.create_all(connection)
                connection.execute(sa.text(_CREATE_VIEW))
                connection.execute(_meta.insert().values(key="version", value=str(STORE_VERSION)))
            version = connection.scalar(sa.select(_meta.c.value).where(_meta.c.key == "version"))
            if version is None or not str(version).isdigit():
                raise PrefrlError(f"{path} is damaged: it has no version")
            if int(version) > STORE_VERSION:
                raise UsageError(f"{path} was made by a newer version of prefrl (store version {version})")

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def check(self) -> None:
        """Read the whole file.

        Raises:
            PrefrlError: if any of it is damaged.
        """
        with self._read() as connection:
            report = connection.exec_driver_sql("PRAGMA quick_check").scalars().all()
        if report != ["ok"]:
            raise PrefrlError(f"{self._path} is damaged: {report[0]}")

    def add_queries(self, queries: Sequence[Query]) -> dict[int, Query]:
        """Store queries and their segments; a query whose (round, rank) is there stays as it was.

        Returns:
            The queries by their ids, those that were there before included.
        """
        if not queries:
            return {}
        segments = {segment.id: query for query in queries for segment in (query.left, query.right)}
        lengths = {segment.id: len(segment) for query in queries for segment in (query.left, query.right)}
        keys = _queries.c.round.in_({query.round for query in queries})
        columns = sa.select(_queries.c.round, _queries.c.rank, _queries.c.id).where(keys)
        with self._write() as connection:
            known = set(connection.scalars(sa.select(_segments.c.id).where(_segments.c.id.in_(segments))))
            rows = [
                {"id": number, "length": lengths[number], "agent_step": query.agent_step}
                for number, query in segments.items()
                if number not in known
            ]
            if rows:
                connection.execute(_segments.insert(), rows)
            there = {(row[0], row[1]) for row in connection.execute(columns)}
            new = [_query_row(query) for query in queries if (query.round, query.rank) not in there]
            if new:
                connection.execute(_queries.insert(), new)
            ids = {(row[0], row[1]): int(row[2]) for row in connection.execute(columns)}
        return {ids[query.round, query.rank]: query for query in queries}

    def differs(self, queries: Sequence[Query]) -> bool:
        """Whether the store holds one of these queries' keys with other segments."""
        columns = (_queries.c.round, _queries.c.rank, _queries.c.segment_left, _queries.c.segment_right)
        rounds = sa.select(*columns).where(_queries.c.round.in_({query.round for query in queries}))
        with self._read() as connection:
            held = {(row[0], row[1]): (row[2], row[3]) for row in connection.execute(rounds)}
        sides = {(query.round, query.rank): (query.left.id, query.right.id) for query in queries}
        return any(held[key] != sides[key] for key in held.keys() & sides.keys())

    def unanswered(self, query_ids: Iterable[int]) -> set[int]:
        """Those of the queries that no answer stands for."""
        asked = set(query_ids)
        with self._read() as connection:
            answered = set(connection.scalars(sa.select(_labels.c.query_id).where(_labels.c.query_id.in_(asked))))
        return asked - answered

    def pending(self) -> list[tuple[int, int, int, int]]:
        """Queries that no answer stands for: their id, left and right segment, and agent step."""
        answered = sa.select(_labels.c.query_id)
        columns = (_queries.c.id, _queries.c.segment_left, _queries.c.segment_right, _queries.c.agent_step)
        query = sa.select(*columns).where(_queries.c.id.not_in(answered)).order_by(_queries.c.id)
        with self._read() as connection:
            return [(row[0], row[1], row[2], row[3]) for row in connection.execute(query)]

    def add_answers(self, answers: Sequence[Answer]) -> None:
        """Append answers in one transaction; an answer to a query that has one is left out."""
        if not answers:
            return
        asked = {answer.query_id: answer for answer in reversed(answers)}
        with self._write() as connection:
            answered = set(connection.scalars(sa.select(_labels.c.query_id).where(_labels.c.query_id.in_(asked))))
            sides = sa.select(_queries.c.id, _queries.c.segment_left).where(_queries.c.id.in_(asked))
            left = {row[0]: row[1] for row in connection.execute(sides)}
            if unknown := set(asked) - set(left):
                raise UsageError(f"there is no query {min(unknown)}")
            now = _now()
            rows = [
                answer._asdict() | {"judgement": answer.judgement.value, "shown_left": left[number], "created_at": now}
                for number, answer in sorted(asked.items())
                if number not in answered
            ]
            if rows:
                connection.execute(_history.insert(), rows)

    def undo(self, comparison_id: int) -> None:
        """Append a row that takes an answer back; the answer itself stays in the history.

        Raises:
            UsageError: if there is no such answer, or it was taken back before.
        """
        with self._write() as connection:
            standing = sa.select(_labels.c.id).where(_labels.c.id == comparison_id)
            if connection.scalar(standing) is None:
                raise UsageError(f"there is no standing answer {comparison_id}")
            row = connection.execute(sa.select(_history).where(_history.c.id == comparison_id)).mappings().one()
            undo = {**row, "id": None, "judgement": None, "undoes": comparison_id, "created_at": _now()}
            connection.execute(_history.insert().values(undo))

    def counts(self, max_round: int | None = None) -> dict[str, int]:
        """Standing answers by judgement, and `pending`: queries without one.

        Args:
            max_round: Count only queries up to this selection round.
        """
        asked = sa.select(_labels.c.judgement, sa.func.count()).select_from(
            _queries.outerjoin(_labels, _queries.c.id == _labels.c.query_id)
        )
        if max_round is not None:
            asked = asked.where(_queries.c.round <= max_round)
        counts = dict.fromkeys((*Judgement, "pending"), 0)
        with self._read() as connection:
            counts |= {row[0] or "pending": row[1] for row in connection.execute(asked.group_by(_labels.c.judgement))}
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
            sa.select(_labels.c.id, _queries.c.segment_left, _queries.c.segment_right, _labels.c.judgement)
            .join(_queries, _queries.c.id == _labels.c.query_id)
            .where(_labels.c.id > after, _labels.c.judgement.in_(_COUNTED))
            .order_by(_labels.c.id)
        )
        if upto is not None:
            query = query.where(_labels.c.id <= upto)
        if max_round is not None:
            query = query.where(_queries.c.round <= max_round)
        with self._read() as connection:
            rows = connection.execute(query).all()
        return [Comparison(row[0], row[1], row[2], Judgement(row[3]).mu or 0.0) for row in rows]

    def asked_pairs(self, max_round: int | None = None) -> set[tuple[int, int]]:
        """Pairs of segment ids, smaller first, that were ever asked about."""
        query = sa.select(_queries.c.segment_left, _queries.c.segment_right)
        if max_round is not None:
            query = query.where(_queries.c.round <= max_round)
        with self._read() as connection:
            return {(min(a, b), max(a, b)) for a, b in connection.execute(query)}

    def last_round(self) -> int:
        """The highest selection round there is; 0 before the first."""
        with self._read() as connection:
            return int(connection.scalar(sa.select(sa.func.max(_queries.c.round))) or 0)

    def last_segment(self) -> int:
        """The highest segment id there is; -1 before the first."""
        with self._read() as connection:
            last = connection.scalar(sa.select(sa.func.max(_segments.c.id)))
        return -1 if last is None else int(last)

    def _read(self) -> _Transaction:
        return _Transaction(self._engine, self._path)

    def _write(self) -> _Transaction:
        return _Transaction(self._engine.execution_options(writes=True), self._path)


class _Transaction:
    """A transaction whose database errors come out as one clear line."""

    def __init__(self, engine: sa.Engine, path: Path) -> None:
        self._context, self._path = engine.begin(), path

    def __enter__(self) -> sa.Connection:
        try:
            return self._context.__enter__()
        except DatabaseError as error:
            raise _explained(error, self._path) from error

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self._context.__exit__(kind, error, trace)
        except DatabaseError as failure:
            raise _explained(failure, self._path) from failure
        if isinstance(error, DatabaseError):
            raise _explained(error, self._path) from error


def _explained(error: DatabaseError, path: Path) -> PrefrlError:
    # SQLite reports a disk too full for its shared-memory file as an input/output error.
    cramped = "disk I/O error" in str(error.orig) or "unable to open" in str(error.orig)
    if is_disk_full(error) or (cramped and shutil.disk_usage(path.parent).free < 2**17):
        return PrefrlError(f"the disk is full: {path} could not be written; nothing stored is lost")
    cause = str(error.orig)
    if "malformed" in cause or "not a database" in cause or "no such table" in cause:
        return PrefrlError(f"{path} is damaged: {cause}")
    return PrefrlError(f"{path}: {cause}")


def _configure_sqlite(connection: Any, _record: Any) -> None:
    """Autocommit off our hands (transactions begin explicitly), write-ahead log, every commit on the disk."""
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _configure_reader(connection: Any, _record: Any) -> None:
    connection.isolation_level = None


def _begin_explicitly(connection: sa.Connection) -> None:
    """Writers take the lock at once, so that no transaction can fail half-way; readers never wait for them."""
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _query_row(query: Query) -> dict[str, Any]:
    return {
        "round": query.round,
        "rank": query.rank,
        "segment_left": query.left.id,
        "segment_right": query.right.id,
        "agent_step": query.agent_step,
        "created_at": _now(),
    }


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
