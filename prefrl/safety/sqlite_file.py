"""Inspect an untrusted SQLite file without changing it, and describe its errors in one line."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from prefrl.errors import PrefrlError, is_disk_full

BUSY_SECONDS = 5.0
"""How long SQLite waits for another process's transaction before it reports that the database is busy."""
HARDENED = ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0")
"""Pragmas for untrusted files: the schema cannot call functions, and corrupt pages are detected."""
_ADMISSION_SECONDS = 0.5
"""Maximum CPU time for reading a schema; a valid one takes a millisecond."""


def inspect(path: Path, look: Callable[[sqlite3.Connection], None]) -> None:
    """Inspect an untrusted database without changing it; its write-ahead log is not merged either.

    Args:
        path: The file.
        look: Reads from the connection, using at most half a second of CPU time.

    Raises:
        PrefrlError: if the file is damaged, or reading it takes too long.
    """
    log = path.with_name(f"{path.name}-wal")
    writable = os.access(path.parent, os.W_OK)
    # The last writable connection to close merges the log into the file or, without a log, deletes the auxiliary files.
    mode = "rw" if writable and not log.exists() else "ro" if writable else "ro&immutable=1"
    started = time.thread_time()
    try:
        connection = sqlite3.connect(
            f"{uri_of(path)}?mode={mode}", uri=True, timeout=BUSY_SECONDS, isolation_level=None
        )
        try:
            connection.text_factory = as_text
            connection.set_progress_handler(lambda: time.thread_time() - started > _ADMISSION_SECONDS, 1000)
            for pragma in HARDENED:
                connection.execute(f"PRAGMA {pragma}").close()
            look(connection)
        finally:
            connection.close()
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        raise explain_file_error(error, path) from error


def as_text(content: bytes) -> str:
    """Decode text, replacing invalid bytes. A checksum detects the damage, so only this text is lost."""
    return content.decode(errors="replace")


def uri_of(path: Path) -> str:
    """Return the SQLite URI of a file; special characters of the path are quoted."""
    return f"file:{urllib.parse.quote(os.fsencode(path.absolute()))}"


def explain_file_error(error: BaseException, path: Path) -> PrefrlError:
    """Convert an error of SQLite, or of decoding its text, to one line that names the file."""
    cause = str(error)
    # SQLite reports a disk too full for its shared-memory file as an input/output error.
    cramped = "disk I/O error" in cause or "unable to open" in cause
    if is_disk_full(error) or (cramped and path.parent.is_dir() and shutil.disk_usage(path.parent).free < 2**17):
        return PrefrlError(f"the disk is full: {path} could not be written; nothing stored is lost")
    if isinstance(error, UnicodeError):  # SQLite's message would quote the invalid text
        return PrefrlError(f"{path} is damaged: it contains invalid text")
    if any(damage in cause for damage in ("malformed", "not a database", "no such table")):
        return PrefrlError(f"{path} is damaged: {cause}")
    if cause == "interrupted":
        return PrefrlError(f"{path} is damaged: reading it does not finish")
    return PrefrlError(f"{path}: {cause}")
