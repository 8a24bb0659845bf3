"""What the processes beside the agent have in common: they outlive a signal to the group, and never their parent."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deaf_to_signals() -> Iterator[None]:
    """Processes started herein ignore Ctrl-C and SIGTERM from birth.

    Both often reach a whole process group; the processes beside the agent have to outlive them until the agent has
    stopped and says so.
    """
    numbers = _SIGNALS if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def settle_beside_parent() -> None:
    """To be called first in such a process: stay deaf to signals, and end with the parent, however that ends."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def how_it_ended(exit_code: int | None) -> str:
    """A process's exit in words."""
    if exit_code is not None and exit_code < 0:
        return f"killed by signal {-exit_code}"
    return f"exit status {exit_code}; its message is above"


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
