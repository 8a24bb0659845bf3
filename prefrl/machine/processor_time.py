"""Processor time of a run's processes."""

from __future__ import annotations

import multiprocessing
import os

import psutil


def processor_seconds() -> float:
    """Return the processor time, in seconds, of this process and its worker processes, live and ended.

    On Windows, ended processes count as 0.
    """
    return sum(os.times()[:4]) + sum(_of(child.pid) for child in multiprocessing.active_children())


def _of(pid: int | None) -> float:
    """Return the processor time of a live process; 0 if it has just ended."""
    try:
        return float(sum(psutil.Process(pid).cpu_times()[:4]))
    except psutil.Error:
        return 0.0
