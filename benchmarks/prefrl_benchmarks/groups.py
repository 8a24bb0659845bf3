"""A process with all that it has started: paused, continued, killed. Windows has no groups: one by one there."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

import psutil


def pause(process: int) -> None:
    """Stop a process that leads a group, with the group, until `go_on`."""
    _each(process, "SIGSTOP", psutil.Process.suspend)


def go_on(process: int) -> None:
    """Continue a process that leads a group, with the group."""
    _each(process, "SIGCONT", psutil.Process.resume)


def kill(process: int) -> None:
    """End a process that leads a group, with the group."""
    _each(process, "SIGKILL", psutil.Process.kill)


def _each(leader: int, name: str, act: Callable[[psutil.Process], None]) -> None:
    """Send a group a signal, or act on the leader and its descendants; nothing where they are gone."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(leader, getattr(signal, name))
        return
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(leader)
        for each in [*process.children(recursive=True), process]:
            with suppress(psutil.NoSuchProcess):
                act(each)
