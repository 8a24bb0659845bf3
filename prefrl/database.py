"""The database under a run's labels: its tables, its transactions, and its errors in one clear line.

Everything goes through SQLAlchemy Core, so that another database can serve by its URL.
"""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from prefrl.errors import PrefrlError, UsageError, is_disk_full

STORE_VERSION = 4

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
    sa.Column("round", sa.Integer, nullable=False),
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("segment_left", sa.ForeignKey("segments.id"), nullable=False),
    sa.Column("segment_right", sa.ForeignKey("segments.id"), nullable=False),
    sa.Column("agent_step", sa.Integer, nullable=False),
    sa.Column("created_at", sa.String, nullable=False),
    sa.UniqueConstraint("round", "rank"),
)
HISTORY = sa.Table(
    "comparisons",
    METADATA,
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
LEASES = sa.Table(
    "leases",
    METADATA,
    sa.Column("query_id", sa.ForeignKey("queries.id"), primary_key=True),
    sa.Column("viewer", sa.String, nullable=False),
    sa.Column("expires_at", sa.Float, nullable=False, doc="seconds since 1970"),
)
RENDERED = sa.Table(
    "rendered",
    METADATA,
    sa.Column("segment_id", sa.ForeignKey("segments.id"), primary_key=True),
    sa.Column("frames", sa.Integer, nullable=False, doc="0 where it could not be rendered"),
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
    sa.Column("labeller", sa.String, nullable=True, doc="null where a program withdrew it"),
    sa.Column("after_answer", sa.Integer, nullable=False, doc="the newest comparison's id at that time"),
    sa.Column("created_at", sa.String, nullable=False),
    sqlite_autoincrement=True,
)
REPEATS = sa.Table(
    "repeats",
    METADATA,
    sa.Column("query_id", sa.ForeignKey("queries.id"), primary_key=True),
    sa.Column("original_id", sa.ForeignKey("queries.id"), nullable=False, unique=True),
)
_CREATE_VIEW = """
CREATE VIEW labels AS
SELECT id, query_id, judgement, teacher, labeller, agent_step, shown_left, response_seconds, created_at
FROM comparisons AS given
WHERE judgement IS NOT NULL AND NOT EXISTS (SELECT 1 FROM comparisons AS undo WHERE undo.undoes = given.id)
"""
_CREATE_WITHDRAWN = """
CREATE VIEW withdrawn AS
SELECT id, query_id, reason, labeller, after_answer, created_at
FROM withdrawals AS made
WHERE reason IS NOT NULL AND NOT EXISTS (SELECT 1 FROM withdrawals AS undo WHERE undo.undoes = made.id)
"""
_SHOWN = ("teacher", "labeller", "agent_step", "shown_left", "response_seconds", "created_at")
LABELS = sa.table("labels", *(sa.column(name) for name in ("id", "query_id", "judgement", *_SHOWN)))
_STANDING = ("id", "query_id", "reason", "labeller", "after_answer", "created_at")
WITHDRAWN = sa.table("withdrawn", *(sa.column(name) for name in _STANDING))


class Database:
    """One run's SQLite file. Any number of processes may have it open at once."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        """Open it.

        Args:
            path: The file.
            create: Whether to make it where it is missing.

        Raises:
            UsageError: if it was made by a newer version.
            PrefrlError: if it is missing or damaged, or an older version's on a disk that cannot be written.
        """
        if create and not path.exists():
            _make(path)
        if not path.exists():
            raise PrefrlError(f"{path} is missing")
        if path.stat().st_size == 0:
            raise PrefrlError(f"{path} is damaged: it is empty")
        self._path = path
        writable = create or os.access(path.parent, os.W_OK)
        self._engine = _engine(path, writable=writable)
        with self.read() as connection:
            version = self._version(connection)
        if version < STORE_VERSION:
            if not writable:
                raise PrefrlError(f"{path} is an older version's and cannot be written, so not be brought up to date")
            self._upgrade()

    def _version(self, connection: sa.Connection) -> int:
        version = connection.scalar(sa.select(META.c.value).where(META.c.key == "version"))
        if version is None or not str(version).isdigit():
            raise PrefrlError(f"{self._path} is damaged: it has no version")
        if int(version) > STORE_VERSION:
            raise UsageError(f"{self._path} was made by a newer version of prefrl (store version {version})")
        return int(version)

    def _upgrade(self) -> None:
        """Add the tables that older versions lacked; what is there stays as it is."""
        with self.write() as connection:
            if self._version(connection) == STORE_VERSION:
                return  # another process has done so meanwhile
            METADATA.create_all(connection)
            _keep_withdrawn(connection)
            connection.execute(META.update().where(META.c.key == "version").values(value=str(STORE_VERSION)))

    def close(self) -> None:
        """Let go of the file."""
        self._engine.dispose()

    def check(self) -> None:
        """Read the whole file.

        Raises:
            PrefrlError: if any of it is damaged.
        """
        with self.read() as connection:
            report = connection.exec_driver_sql("PRAGMA quick_check").scalars().all()
            # SQLite takes what is cut off from the end for zeros, which may pass for an empty page.
            page = int(connection.exec_driver_sql("PRAGMA page_size").scalar_one())
        if self._path.stat().st_size % page:
            raise PrefrlError(f"{self._path} is damaged: its end is cut off")
        if report != ["ok"]:
            raise PrefrlError(f"{self._path} is damaged: {report[0]}")

    def read(self) -> Transaction:
        """A transaction that only reads; it never waits for a writer."""
        return Transaction(self._engine, self._path)

    def write(self) -> Transaction:
        """A transaction that has the file for itself."""
        return Transaction(self._engine.execution_options(writes=True), self._path)


class Transaction:
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


def _make(path: Path) -> None:
    """Make an empty store, which is there only once it is whole: a viewer may be waiting for it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    engine = _engine(temporary)
    try:
        with Transaction(engine.execution_options(writes=True), path) as connection:
            METADATA.create_all(connection)
            connection.execute(sa.text(_CREATE_VIEW))
            connection.execute(sa.text(_CREATE_WITHDRAWN))
            connection.execute(META.insert().values(key="version", value=str(STORE_VERSION)))
        engine.dispose()  # the last to close it brings the write-ahead log into the file
        temporary.replace(path)
    finally:
        engine.dispose()
        for left in path.parent.glob(f"{temporary.name}*"):
            left.unlink()


def _keep_withdrawn(connection: sa.Connection) -> None:
    """Before version 4, `withdrawn` was a table without a history, and not in every store."""
    if sa.inspect(connection).has_table("withdrawn"):
        newest = "(SELECT coalesce(max(id), 0) FROM comparisons)"
        columns = "INSERT INTO withdrawals (query_id, reason, after_answer, created_at)"
        connection.exec_driver_sql(f"{columns} SELECT query_id, reason, {newest}, created_at FROM withdrawn")
        connection.exec_driver_sql("DROP TABLE withdrawn")
    connection.exec_driver_sql(_CREATE_WITHDRAWN)


def _engine(path: Path, *, writable: bool = True) -> sa.Engine:
    # On a disk that cannot be written, SQLite needs to be told that nobody else writes there either.
    url = f"sqlite:///{path}" if writable else f"sqlite:///file:{path}?mode=ro&immutable=1&uri=true"
    engine = sa.create_engine(url, connect_args={"timeout": 30.0})
    sa.event.listen(engine, "connect", _configure_sqlite if writable else _configure_reader)
    sa.event.listen(engine, "begin", _begin_explicitly)
    return engine


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


def now() -> str:
    """The time of day, as it is stored."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
