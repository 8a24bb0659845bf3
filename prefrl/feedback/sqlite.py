"""SQLite under the label store: how its file is opened, what a connection may do, and its errors in one clear line."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import DatabaseError

from prefrl.errors import PrefrlError, is_disk_full

BUSY_SECONDS = 5.0
"""How long SQLite waits for another process's transaction before the store is told that it waits."""
_HARDENED = ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0")
"""A store may be somebody else's: no function is called by its schema, and broken pages are noticed."""
_OURS = ("journal_mode=WAL", "synchronous=FULL")
_INSTRUCTIONS = 100_000
"""SQLite's instructions between two looks at what a transaction has used."""
_MOST_LOOKS = 2_000
"""A transaction of the largest store takes some tens; what takes more comes to no end."""
_ADMISSION_SECONDS = 0.5
"""Of the processor, that reading a schema may take; a whole one takes a millisecond."""


def engine(path: Path, *, writable: bool = True, foreign_keys: bool = True) -> sa.Engine:
    """A way to a database file that is there and was admitted.

    Args:
        path: The file.
        writable: Whether it, and SQLite's files beside it, can be written.
        foreign_keys: Whether to enforce them; tables can be replaced only where they are not.
    """
    # On a disk that cannot be written, SQLite needs to be told that nobody else writes there either.
    mode = {"mode": "rw"} if writable else {"mode": "ro", "immutable": "1"}
    url = sa.URL.create("sqlite", database=_uri(path), query={**mode, "uri": "true"})
    made = sa.create_engine(url, connect_args={"timeout": BUSY_SECONDS})
    keys = f"foreign_keys={'ON' if foreign_keys else 'OFF'}"
    pragmas = (*_HARDENED, *_OURS, keys) if writable else _HARDENED

    def configure(connection: sqlite3.Connection, record: Any) -> None:
        connection.isolation_level = None  # transactions begin explicitly
        connection.text_factory = _as_text
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}").close()
        record.info["bound"] = bound = _Bound()
        connection.set_progress_handler(bound.look, _INSTRUCTIONS)

    sa.event.listen(made, "connect", configure)
    sa.event.listen(made, "begin", _begin)
    return made


def inspect(path: Path, look: Callable[[sqlite3.Connection], None]) -> None:
    """Look at a database that may be anything, without changing it: not even its log is brought into it.

    Args:
        path: The file.
        look: Reads what it needs, within half a second.

    Raises:
        PrefrlError: if the file is damaged, or reading it takes too long.
    """
    log = path.with_name(f"{path.name}-wal")
    writable = os.access(path.parent, os.W_OK)
    # The last to close a writable connection brings the log into the file; without a log, it takes its files away.
    mode = "rw" if writable and not log.exists() else "ro" if writable else "ro&immutable=1"
    started = time.thread_time()
    try:
        connection = sqlite3.connect(f"{_uri(path)}?mode={mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            connection.text_factory = _as_text
            connection.set_progress_handler(lambda: time.thread_time() - started > _ADMISSION_SECONDS, 1000)
            for pragma in _HARDENED:
                connection.execute(f"PRAGMA {pragma}").close()
            look(connection)
        finally:
            connection.close()
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise _explain(error, path) from error


def _as_text(content: bytes) -> str:
    """A text, be there a bit of it that has turned: a checksum tells, and only that text is lost."""
    return content.decode(errors="replace")


def explained(error: DatabaseError | UnicodeError, path: Path) -> PrefrlError:
    """A database error as one line that names the file."""
    return _explain(_cause(error), path)


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


def _uri(path: Path) -> str:
    """A file as SQLite's URI, whatever letters are in its path."""
    return f"file:{urllib.parse.quote(os.fsencode(path.absolute()))}"


def _begin(connection: sa.Connection) -> None:
    """Writers take the lock at once, so that no transaction can fail half-way; readers never wait for them."""
    connection.info["bound"].looks = 0
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
    if not writes:  # what it sees is what there is now; that somebody locks all others out is noticed here
        connection.exec_driver_sql("SELECT 1 FROM sqlite_master LIMIT 1").close()


def _explain(error: BaseException, path: Path) -> PrefrlError:
    cause = str(error)
    # SQLite reports a disk too full for its shared-memory file as an input/output error.
    cramped = "disk I/O error" in cause or "unable to open" in cause
    if is_disk_full(error) or (cramped and path.parent.is_dir() and shutil.disk_usage(path.parent).free < 2**17):
        return PrefrlError(f"the disk is full: {path} could not be written; nothing stored is lost")
    if isinstance(error, UnicodeError):  # SQLite's own message quotes what it has found
        return PrefrlError(f"{path} is damaged: it holds text that is none")
    if any(damage in cause for damage in ("malformed", "not a database", "no such table")):
        return PrefrlError(f"{path} is damaged: {cause}")
    if cause == "interrupted":
        return PrefrlError(f"{path} is damaged: reading it comes to no end")
    return PrefrlError(f"{path}: {cause}")
