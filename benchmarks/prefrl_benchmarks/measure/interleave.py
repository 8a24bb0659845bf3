"""Processes that share a machine fairly: each runs alone, in turns of a second, and the others are stopped meanwhile.

A machine whose speed changes from minute to minute is thus equally fast for all of them, and since a process begins
each turn on another processor than its last, so are processors that are not equally fast.
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
"""Starts a process that leads a group of its own."""
Span = tuple[float, float]
"""From when to when, by `time.time`."""
_MOVE_SECONDS = 0.002


class Ended(NamedTuple):
    """A process that has come to its end."""

    code: int
    """Its exit status."""
    turns: list[Span]


def take_turns(starts: Sequence[Start], seconds: float | None) -> list[Ended]:
    """Run processes to their ends, never two at once, with all that they have started.

    Args:
        starts: The processes; each is started when its first turn comes.
        seconds: Of a turn; None lets each run to its end before the next is started.

    Returns:
        How each ended, and its turns.
    """
    turns: list[list[Span]] = [[] for _ in starts]
    processes: dict[int, subprocess.Popen[bytes]] = {}
    queue = deque(range(len(starts)))
    try:
        while queue:
            place = queue.popleft()
            began = time.time()
            if place in processes:
                groups.go_on(processes[place].pid)
                _move(processes[place].pid, len(turns[place]))
            else:
                processes[place] = starts[place]()
            try:
                processes[place].wait(seconds)
            except subprocess.TimeoutExpired:
                groups.pause(processes[place].pid)
                queue.append(place)
            turns[place].append((began, time.time()))
    finally:
        for process in processes.values():
            with process:
                if process.poll() is None:
                    groups.kill(process.pid)
    return [Ended(processes[place].returncode, own) for place, own in enumerate(turns)]


def _move(process: int, turn: int) -> None:
    """Put a running process on the next processor, where the system can be told; it is free to leave it again."""
    if not hasattr(os, "sched_setaffinity"):
        return
    with suppress(ProcessLookupError):  # it may have ended by now
        processors = sorted(os.sched_getaffinity(process))
        os.sched_setaffinity(process, {processors[turn % len(processors)]})
        time.sleep(_MOVE_SECONDS)
        os.sched_setaffinity(process, processors)


def within(turns: Sequence[Span], start: float, end: float) -> float:
    """Seconds of the turns that lie between two moments."""
    return sum(max(0.0, min(end, last) - max(start, first)) for first, last in turns)
