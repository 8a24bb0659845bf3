"""File locks, released when their process ends for any reason, and a check that does not take the lock."""

from __future__ import annotations

import os
import time
from pathlib import Path

from filelock import FileLock, Timeout

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOOKING_SECONDS = 5.0
"""Longer than any check of a lock takes."""


class HeldError(Exception):
    """Another process holds the lock."""


def take(path: Path, timeout: float = 0) -> FileLock:
    """Take a lock for this process.

    Args:
        path: The lock file.
        timeout: Seconds to wait for another process.

    Raises:
        HeldError: if another process holds the lock. Processes that only check it are waited for.
    """
    lock, deadline = FileLock(path), time.monotonic() + _LOOKING_SECONDS
    while True:
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            if is_held(path) or time.monotonic() > deadline:
                raise HeldError from None
        else:
            return lock


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock. This creates no file, and several processes may check at once.

    The check takes a shared lock for some microseconds. `take` distinguishes it from a holder's exclusive lock.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
    except OSError:
        return False
    try:
        return not _is_free(descriptor, path)
    finally:
        os.close(descriptor)


def _is_free(descriptor: int, path: Path) -> bool:
    if fcntl is None:
        return _can_be_taken(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True


def _can_be_taken(path: Path) -> bool:
    """Check a lock on systems without shared locks, by taking and releasing it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True
