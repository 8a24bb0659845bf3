"""Who is at work on a run: locks that end with their process, however it ends, and a look at them that takes none."""

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
"""Longer than anybody looks at a lock."""


class HeldError(Exception):
    """Another process has it."""


def take(path: Path, timeout: float = 0) -> FileLock:
    """Take a lock for this process.

    Args:
        path: The lock's file.
        timeout: How long to wait for another process, s.

    Raises:
        HeldError: if another process has it; one that only looks is waited for.
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
    """Whether a process has the lock; nothing is made, and several may look at once.

    A look is a shared lock of some microseconds. `take` tells it from a holder's, which is exclusive.
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
        return True  # a file system without locks, on which nobody can have one
    return True


def _can_be_taken(path: Path) -> bool:
    """Where there are no shared locks: it is taken, and given back."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    lock.release()
    return True
