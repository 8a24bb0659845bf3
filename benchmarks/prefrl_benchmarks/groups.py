"""Pause, continue and kill process groups. On Windows, which has none, each descendant is signalled separately."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

import psutil


def pause(process: int) -> None:
    """Pause the group that a process leads, until `go_on`."""
    _each(process, "SIGSTOP", psutil.Process.suspend)


def go_on(process: int) -> None:
    """Continue the group that a process leads."""
    _each(process, "SIGCONT", psutil.Process.resume)


def kill(process: int) -> None:
    """Kill the group that a process leads."""
    _each(process, "SIGKILL", psutil.Process.kill)


def _each(leader: int, name: str, act: Callable[[psutil.Process], None]) -> None:
    """Send a signal to a group, or act on the leader and its descendants. Processes that have ended are ignored."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(leader, getattr(signal, name))
        return
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(leader)
        for each in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                act(each)
