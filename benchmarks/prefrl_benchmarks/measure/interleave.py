"""Run processes interleaved: one runs for a second while the others are paused, then the next.

Changes in the machine's speed thus affect all processes equally. A process starts each slice on a different core, which
evens out differences between cores as well.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

from prefrl_benchmarks import groups

Start = Callable[[], subprocess.Popen[bytes]]
"""Starts a process that leads its own process group."""
Span = tuple[float, float]
"""Start and end of a slice, by `time.time`."""
_MOVE_SECONDS = 0.002


class Ended(NamedTuple):
    """A process that has ended."""

    code: int
    """Exit status."""
    spans: list[Span]
    """When it ran."""


def run_interleaved(starts: Sequence[Start], seconds: float | None) -> list[Ended]:
    """Run processes to completion, one at a time, each together with its child processes.

    Args:
        starts: The processes; each is started at its first slice.
        seconds: Length of a slice; None runs each process to completion before the next one starts.

    Returns:
        The exit status and slices of each process.
    """
    spans: list[list[Span]] = [[] for _ in starts]
    processes: dict[int, subprocess.Popen[bytes]] = {}
    queue = deque(range(len(starts)))
    try:
        while queue:
            place = queue.popleft()
            began = time.time()
            if place in processes:
                groups.go_on(processes[place].pid)
                _move(processes[place].pid, len(spans[place]))
            else:
                processes[place] = starts[place]()
            try:
                processes[place].wait(seconds)
            except subprocess.TimeoutExpired:
                groups.pause(processes[place].pid)
                queue.append(place)
            spans[place].append((began, time.time()))
    finally:
        for process in processes.values():
            with process:
                if process.poll() is None:
                    groups.kill(process.pid)
    return [Ended(processes[place].returncode, own) for place, own in enumerate(spans)]


def _move(process: int, turn: int) -> None:
    """Move a running process to the next core where the system supports it; it may migrate again afterwards."""
    if not hasattr(os, "sched_setaffinity"):
        return
    with suppress(ProcessLookupError):  # the process may have ended
        processors = sorted(os.sched_getaffinity(process))
        os.sched_setaffinity(process, {processors[turn % len(processors)]})
        time.sleep(_MOVE_SECONDS)
        os.sched_setaffinity(process, processors)


def within(spans: Sequence[Span], start: float, end: float) -> float:
    """Seconds of the slices that lie between two times."""
    return sum(max(0.0, min(end, last) - max(start, first)) for first, last in spans)
