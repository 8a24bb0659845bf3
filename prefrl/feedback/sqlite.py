"""SQLite under the label store: how its file is opened, what a connection may do, and its errors in one clear line."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from prefrl.errors import PrefrlError
from prefrl.safety.sqlite_file import BUSY_SECONDS, HARDENED, as_text, explain_file_error, uri_of

_OURS = ("journal_mode=WAL", "synchronous=FULL")
_INSTRUCTIONS = 100_000
"""SQLite's instructions between two looks at what a transaction has used."""
_MOST_LOOKS = 2_000
"""A transaction of the largest store takes some tens; what takes more comes to no end."""


def engine(path: Path, *, writable: bool = True, foreign_keys: bool = True) -> sa.Engine:
    """A way to a database file that is there and was admitted.

    Args:
        path: The file.
        writable: Whether it, and SQLite's files beside it, can be written.
        foreign_keys: Whether to enforce them; tables can be replaced only where they are not.
    """
    # On a disk that cannot be written, SQLite needs to be told that nobody else writes there either.
    mode = {"mode": "rw"} if writable else {"mode": "ro", "immutable": "1"}
    url = sa.URL.create("sqlite", database=uri_of(path), query={**mode, "uri": "true"})
    made = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    keys = f"foreign_keys={'ON' if foreign_keys else 'OFF'}"
    pragmas = (*HARDENED, *_OURS, keys) if writable else HARDENED

    def configure(connection: sqlite3.Connection, record: Any) -> None:
        connection.isolation_level = None  # transactions begin explicitly
        connection.text_factory = as_text
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()
        record.info["bound"] = bound = _Bound()
        connection.set_progress_handler(bound.look, _INSTRUCTIONS)

    sa.event.listen(made, "connect", configure)
    sa.event.listen(made, "begin", _begin)
    return made


def explained(error: DatabaseError | UnicodeError, path: Path) -> PrefrlError:
    """A database error as one line that names the file."""
    return explain_file_error(_cause(error), path)


def is_locked(error: DatabaseError | UnicodeError) -> bool:
    """Whether another process's transaction was in the way."""
    return "database is locked" in str(_cause(error))


def _cause(error: DatabaseError | UnicodeError) -> BaseException:
    return (isinstance(error, DatabaseError) and error.orig) or error


class _Bound:
    """Ends a transaction whose queries come to no end."""

    looks = 0

    def look(self) -> bool:
        self.looks += 1
        return self.looks > _MOST_LOOKS


def _begin(connection: sa.Connection) -> None:
    """Writers take the lock at once, so that no transaction can fail half-way; readers never wait for them."""
    connection.info["bound"].looks = 0
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    if not writes:  # what it sees is what there is now; that somebody locks all others out is noticed here
        connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").close()
