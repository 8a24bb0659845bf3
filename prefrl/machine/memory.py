"""Reuse of freed memory, and peak memory use."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
from pathlib import Path

import psutil

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_BLOCK = 2**25
"""The largest block size, in bytes, that glibc accepts for M_MMAP_THRESHOLD."""


def keep_freed_memory() -> bool:
    """Make the C library keep and reuse freed blocks of up to 32 MiB.

    Every gradient step allocates and frees the same arrays of about 1 MiB. If they were returned to the system each
    time, page faults would double the reward learner's time (measured).

    Returns:
        Whether the options were set; False for C libraries other than glibc.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(set_option(_MMAP_THRESHOLD, _BLOCK) and set_option(_TRIM_THRESHOLD, 8 * _BLOCK))


def peak_rss_mb(pid: int | None = None) -> float:
    """Return the peak resident memory of a process in MB.

    On Linux, this reads /proc, because the value of `getrusage` includes the peak of the parent process.

    Args:
        pid: The process; default: this one.

    Returns:
        MB; 0 if another process cannot be read.
    """
    try:
        lines = Path(f"/proc/{pid or os.getpid()}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        return 0.0 if pid else _own_peak_mb()


def _own_peak_mb() -> float:
    """Return this process's peak on systems without /proc: from psutil on Windows, else from `getrusage`."""
    try:
        import resource  # noqa: PLC0415 - POSIX only
    except ImportError:
        return float(getattr(psutil.Process().memory_info(), "peak_wset", 0)) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def workers_peak_rss_mb() -> float:
    """Return the summed peak memory of this process's live worker processes, in MB."""
    return sum(peak_rss_mb(child.pid) for child in multiprocessing.active_children())
