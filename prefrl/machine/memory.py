"""Memory: freed blocks that are kept between two gradient steps, and the most that a process has used."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import sys
from pathlib import Path

import psutil

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h
_BLOCK = 2**25
"""The largest block that glibc lets be kept, in bytes."""


def keep_freed_memory() -> bool:
    """Have this process keep and reuse freed blocks of up to 32 MiB.

    A gradient step frees and allocates the same few arrays of about 1 MiB again and again. Given back each time, their
    pages are zeroed by the system and touched anew: measured, that doubles the reward learner's time.

    Returns:
        Whether the C library could be told; where it is not glibc, nothing changes.
    """
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(set_option(_MMAP_THRESHOLD, _BLOCK) and set_option(_TRIM_THRESHOLD, 8 * _BLOCK))


def peak_rss_mb(pid: int | None = None) -> float:
    """The most memory that a process has held so far, in MB; this one's by default, 0 for another that cannot be asked.

    Not `getrusage`'s figure where Linux has a better one: there a process begins with the peak of the one it came from.
    """
    try:
        lines = Path(f"/proc/{pid or os.getpid()}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024
    except (OSError, StopIteration):
        return 0.0 if pid else _own_peak_mb()


def _own_peak_mb() -> float:
    """This process's peak as other systems tell it; Windows, which has no `getrusage`, tells psutil."""
    try:
        import resource  # noqa: PLC0415 - of POSIX alone
    except ImportError:
        return float(getattr(psutil.Process().memory_info(), "peak_wset", 0)) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def workers_peak_rss_mb() -> float:
    """The same of this process's workers that are still there, together."""
    return sum(peak_rss_mb(child.pid) for child in multiprocessing.active_children())
