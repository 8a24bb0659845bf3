"""A SQLite file that may be anybody's: how it is looked at without being changed, and its errors in one line."""

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
"""How long SQLite waits for another process's transaction before the store is told that it waits."""
HARDENED = ("trusted_schema=OFF", "cell_size_check=ON", "mmap_size=0")
"""A store may be somebody else's: no function is called by its schema, and broken pages are noticed."""
_ADMISSION_SECONDS = 0.5
"""Of the processor, that reading a schema may take; a whole one takes a millisecond."""


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
    """A text, be there a bit of it that has turned: a checksum tells, and only that text is lost."""
    return content.decode(errors="replace")


def uri_of(path: Path) -> str:
    """A file as SQLite's URI, whatever letters are in its path."""
    return f"file:{urllib.parse.quote(os.fsencode(path.absolute()))}"


def explain_file_error(error: BaseException, path: Path) -> PrefrlError:
    """An error of SQLite, or of decoding its text, as one line that names the file."""
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
