"""SQLite connections of the label store: settings, limits and error messages."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from prefrl.errors import PrefrlError
from prefrl.safety.sqlite_file import BUSY_SECONDS, HARDENED, as_text, explain_file_error, uri_of

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL")
_INSTRUCTIONS = 100_000
"""SQLite instructions between two checks of a transaction's limit."""
_MOST_CHECKS = 2_000
"""Maximum number of checks per transaction. The largest store needs some tens."""


def engine(path: Path, *, writable: bool = True, foreign_keys: bool = True) -> sa.Engine:
    """Create an SQLAlchemy engine for an existing database file that was checked by `store_schema.admit`.

    Args:
        path: The file.
        writable: Whether the file, and SQLite's files next to it, can be written.
        foreign_keys: Whether to enforce foreign keys; tables can be replaced only if False.
    """
    # On a read-only disk, SQLite must be told that no other process writes the file either.
    mode = {"mode": "rw"} if writable else {"mode": "ro", "immutable": "1"}
    url = sa.URL.create("sqlite", database=uri_of(path), query={**mode, "uri": "true"})
    made = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    keys = f"foreign_keys={'ON' if foreign_keys else 'OFF'}"
    pragmas = (*HARDENED, *_PRAGMAS, keys) if writable else HARDENED

    def configure(connection: sqlite3.Connection, record: Any) -> None:
        connection.isolation_level = None  # transactions begin explicitly
        connection.text_factory = as_text
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()
        record.info["limit"] = limit = _Limit()
        connection.set_progress_handler(limit.exceeded, _INSTRUCTIONS)

    sa.event.listen(made, "connect", configure)
    sa.event.listen(made, "begin", _begin)
    return made


def describe_error(error: DatabaseError | UnicodeError, path: Path) -> PrefrlError:
    """Describe a database error in one line that names the file."""
    return explain_file_error(_cause(error), path)


def is_locked(error: DatabaseError | UnicodeError) -> bool:
    """Return whether an error was caused by another process's transaction."""
    return "database is locked" in str(_cause(error))


def _cause(error: DatabaseError | UnicodeError) -> BaseException:
    return (isinstance(error, DatabaseError) and error.orig) or error


class _Limit:
    """Aborts a transaction whose queries do not end."""

    checks = 0

    def exceeded(self) -> bool:
        self.checks += 1
        return self.checks > _MOST_CHECKS


def _begin(connection: sa.Connection) -> None:
    """Begin a transaction. Writers lock the database at once, so that they cannot fail midway; readers never wait."""
    connection.info["limit"].checks = 0
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    if not writes:  # take the read snapshot now, and detect an exclusive lock here
        connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").close()
