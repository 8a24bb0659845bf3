"""The database of a run's labels: its tables and transactions.

All access uses SQLAlchemy Core, so that other databases can be supported by their URL.
"""

from __future__ import annotations

import datetime
import os
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from prefrl.errors import PrefrlError
from prefrl.feedback.columns import invalid_query, invalid_value, is_readable
from prefrl.feedback.sqlite import describe_error, engine, is_locked
from prefrl.feedback.upgrade import upgrade
from prefrl.feedback.waiting import Waiting, give_up
from prefrl.safety.store_schema import STORE_VERSION, VIEWS, admit
from prefrl.storage.durable import sync

METADATA = sa.MetaData()
META = sa.Table(
    "meta",
    METADATA,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)
SEGMENTS = sa.Table(
    "segments",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("length", sa.Integer, nullable=False),
    sa.Column("agent_step", sa.Integer, nullable=False),
)
QUERIES = sa.Table(
    "queries",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("agent_step", sa.Integer, nullable=False),
    sa.Column("wanted", sa.Integer, nullable=False, doc="number of labellers who should answer it"),
    sa.Column("created_at", sa.String, nullable=False),
    sa.UniqueConstraint("round", "rank"),
)
QUERY_SEGMENTS = sa.Table(
    "query_segments",
    METADATA,
    sa.Column("query_id", sa.ForeignKey("queries.id"), primary_key=True),
    sa.Column("place", sa.Integer, primary_key=True, doc="from 0, in the order shown"),
    sa.Column("segment_id", sa.ForeignKey("segments.id"), nullable=False, index=True),
)
ANSWERS = sa.Table(
    "answers",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("query_id", sa.ForeignKey("queries.id"), nullable=False, index=True),
    sa.Column("value", sa.String, nullable=True, doc="JSON; null in a row that undoes another"),
    sa.Column("undoes", sa.ForeignKey("answers.id"), nullable=True, unique=True),
    sa.Column("teacher", sa.String, nullable=False),
    sa.Column("labeller", sa.String, nullable=True),
    sa.Column("agent_step", sa.Integer, nullable=False),
    sa.Column("shown", sa.String, nullable=False, doc="JSON: the segments' ids, in the order shown"),
    sa.Column("response_seconds", sa.Float, nullable=True),
    sa.Column("created_at", sa.String, nullable=False),
    sa.Column("late", sa.Integer, nullable=False, doc="1 if the query already had all answers it wants; never stands"),
    sqlite_autoincrement=True,
)
LEASES = sa.Table(
    "leases",
    METADATA,
    sa.Column("query_id", sa.ForeignKey("queries.id"), primary_key=True),
    sa.Column("viewer", sa.String, primary_key=True),
    sa.Column("boot", sa.String, nullable=False, doc="identifies the start of the machine"),
    sa.Column("expires_at", sa.Float, nullable=False, doc="seconds since that start"),
)
RENDERED = sa.Table(
    "rendered",
    METADATA,
    sa.Column("segment_id", sa.ForeignKey("segments.id"), primary_key=True),
    sa.Column("frames", sa.Integer, nullable=False, doc="0 if it could not be rendered"),
    sa.Column("problem", sa.String, nullable=True),
    sa.Column("created_at", sa.String, nullable=False),
)
WITHDRAWALS = sa.Table(
    "withdrawals",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("query_id", sa.ForeignKey("queries.id"), nullable=False, index=True),
    sa.Column("reason", sa.String, nullable=True, doc="null in a row that undoes another"),
    sa.Column("undoes", sa.ForeignKey("withdrawals.id"), nullable=True, unique=True),
    sa.Column("labeller", sa.String, nullable=True, doc="null if a program withdrew it"),
    sa.Column("after_answer", sa.Integer, nullable=False, doc="id of the newest answer at that time"),
    sa.Column("created_at", sa.String, nullable=False),
    sqlite_autoincrement=True,
)
REPEATS = sa.Table(
    "repeats",
    METADATA,
    sa.Column("query_id", sa.ForeignKey("queries.id"), primary_key=True),
    sa.Column("original_id", sa.ForeignKey("queries.id"), nullable=False, unique=True),
)
CHECKSUMS = sa.Table(
    "checksums",
    METADATA,
    sa.Column("answer_id", sa.ForeignKey("answers.id"), primary_key=True),
    sa.Column("crc32", sa.Integer, nullable=False),
)
_CONTENT = ("value", "teacher", "labeller", "agent_step", "segments", "response_seconds", "created_at")
_STANDS = sa.table("answers_standing", *(sa.column(name) for name in ("id", "query_id", "kind", *_CONTENT)))
_READABLE = is_readable(_STANDS, ANSWERS, _STANDS.c.kind, shown=_STANDS.c.segments)
STANDING = sa.select(_STANDS).where(_READABLE).subquery("standing")
"""Standing answers that are readable. A query with an unreadable answer is asked again."""
UNREADABLE = sa.select(_STANDS.c.id, _STANDS.c.query_id).where(~_READABLE).subquery("unreadable")
"""Standing answers that are unreadable."""
_WITHDRAWN = ("id", "query_id", "reason", "labeller", "after_answer", "created_at")
WITHDRAWN = sa.table("withdrawn", *(sa.column(name) for name in _WITHDRAWN))


class Database:
    """The SQLite file of a run. Several processes may use it at the same time."""

    def __init__(self, path: Path, *, create: bool = False, waiting: Waiting | None = None) -> None:
        """Open the database, and upgrade it if an older version made it.

        Args:
            path: The file.
            create: Whether to create the file if it is missing.
            waiting: Called while another program's transaction is in the way; by default, PrefrlError is raised after
                30 seconds.

        Raises:
            UsageError: if it was made by a newer version.
            PrefrlError: if it is missing, damaged or not a label store, or was made by an older version and is
                read-only.
        """
        if create and not path.exists():
            _make(path)
        if not path.exists():
            raise PrefrlError(f"{path} is missing")
        if path.stat().st_size == 0:
            raise PrefrlError(f"{path} is damaged: it is empty")
        version = admit(path)
        writable = create or os.access(path.parent, os.W_OK)
        self._path, self._engine = path, engine(path, writable=writable)
        self._waiting = waiting or give_up(path)
        if version < STORE_VERSION:
            if not writable:
                raise PrefrlError(f"{path} was made by an older version and is read-only: it cannot be upgraded")
            self._upgrade()
        with self.read() as connection:
            problem = invalid_value(connection, METADATA) or invalid_query(connection)
        if problem:
            self.close()
            raise PrefrlError(f"{path} is damaged: {problem}")

    def _upgrade(self) -> None:
        old = engine(self._path, foreign_keys=False).execution_options(writes=True)
        with Transaction(old, self._path, self._waiting) as connection:
            upgrade(connection, METADATA)
        old.dispose()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def check(self) -> None:
        """Read and verify the whole file.

        Raises:
            PrefrlError: if it is damaged.
        """
        with self.read() as connection:
            report = connection.exec_driver_sql("PRAGMA quick_check").scalars().all()
            # SQLite reads bytes beyond the end of the file as zeros, which can look like an empty page.
            page = int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())
        if self._path.stat().st_size % page:
            raise PrefrlError(f"{self._path} is damaged: it is truncated")
        if report != ["ok"]:
            raise PrefrlError(f"{self._path} is damaged: {report[0]}")

    def read(self) -> Transaction:
        """Begin a transaction that only reads. It never waits for a writer."""
        return Transaction(self._engine, self._path, self._waiting)

    def write(self) -> Transaction:
        """Begin a transaction with exclusive write access."""
        return Transaction(self._engine.execution_options(writes=True), self._path, self._waiting)


class Transaction:
    """A transaction that raises database errors as PrefrlError."""

    def __init__(self, engine: sa.Engine, path: Path, waiting: Waiting) -> None:
        self._engine, self._path, self._waiting = engine, path, waiting

    def __enter__(self) -> sa.Connection:
        started = time.monotonic()
        while True:
            self._context = self._engine.begin()
            try:
                return self._context.__enter__()
            except (DatabaseError, UnicodeError) as error:
                if not is_locked(error):
                    raise describe_error(error, self._path) from error
            self._waiting(time.monotonic() - started)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            self._context.__exit__(kind, error, trace)
        except DatabaseError as failure:
            raise describe_error(failure, self._path) from failure
        if isinstance(error, DatabaseError | UnicodeDecodeError):
            raise describe_error(error, self._path) from error


def _make(path: Path) -> None:
    """Create an empty store. It appears at `path` only when it is complete, because a viewer may wait for it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    _clear(temporary)  # may be left by a killed process with the same process id
    os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))  # private: people's answers
    made = engine(temporary)
    try:
        with Transaction(made.execution_options(writes=True), path, give_up(path)) as connection:
            METADATA.create_all(connection)
            for view in VIEWS:
                connection.exec_driver_sql(view)
            connection.execute(META.insert().values(key="version", value=str(STORE_VERSION)))
        made.dispose()  # merges the write-ahead log into the file
        temporary.replace(path)
        sync([path])
    finally:
        made.dispose()
        _clear(temporary)


def _clear(temporary: Path) -> None:
    for left in temporary.parent.iterdir():
        if left.name.startswith(temporary.name):
            left.unlink()


def segments_of(connection: sa.Connection, query_ids: sa.Select[Any] | None = None) -> dict[int, tuple[int, ...]]:
    """Return the segments of queries, in the order shown, by query id.

    Args:
        connection: A transaction.
        query_ids: Selects the ids of the queries; by default all.
    """
    rows = sa.select(QUERY_SEGMENTS.c.query_id, QUERY_SEGMENTS.c.segment_id)
    if query_ids is not None:
        rows = rows.where(QUERY_SEGMENTS.c.query_id.in_(query_ids))
    found: dict[int, list[int]] = {}
    for query_id, segment in connection.execute(rows.order_by(QUERY_SEGMENTS.c.query_id, QUERY_SEGMENTS.c.place)).all():
        found.setdefault(query_id, []).append(segment)
    return {query_id: tuple(segments) for query_id, segments in found.items()}


def now() -> str:
    """Return the current time in the format of the store."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
