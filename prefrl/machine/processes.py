"""Worker processes: they outlive a signal to the process group, and never their parent."""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

from prefrl.errors import UsageError

_SAFE_PATH = "PYTHONSAFEPATH"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class WorkerProcess(NamedTuple):
    """A process of a run other than the agent's, and the pipe by which it is given work and stopped."""

    process: SpawnProcess
    pipe: Connection

    def send(self, message: Any) -> None:
        """Send a short message. It is dropped if the process is gone, or has not read until the pipe is full."""
        with suppress(OSError):
            if _has_room(self.pipe):
                self.pipe.send(message)

    def stop(self, timeout: float = 30) -> bool:
        """Let it finish what it is at; one that does not is killed. Whether it ended by itself."""
        self.send(None)
        self.process.join(timeout)
        if not self.process.is_alive():
            return True
        self.process.kill()
        self.process.join()
        return False

    def discard(self) -> None:
        """End it at once, where it is still there: it never got work."""
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _has_room(pipe: Connection) -> bool:
    """Whether a short message can be sent without waiting; where the system cannot say (Windows), it may wait."""
    if not hasattr(select, "poll"):
        return True
    waiting = select.poll()
    waiting.register(pipe, select.POLLOUT)
    return bool(waiting.poll(0))


def start_worker(name: str, target: Callable[..., None], *arguments: Any) -> WorkerProcess:
    """Start a process; its target gets the reading end of the pipe, and the arguments."""
    context = multiprocessing.get_context("spawn")
    # A pipe and no Event: setting an Event whose waiter was killed blocks for ever.
    reader, writer = context.Pipe(duplex=False)
    safe = bool(os.environ.get(_SAFE_PATH))
    process = context.Process(target=_begin, args=(target, safe, reader, *arguments), name=name, daemon=True)
    with _nothing_of_the_working_folder(), _deaf_to_signals():
        process.start()
    reader.close()
    return WorkerProcess(process, writer)


def _begin(target: Callable[..., None], safe: bool, pipe: Connection, *arguments: Any) -> None:
    """The process stays deaf to signals, and ends with its parent, however that ends."""
    if not safe:
        os.environ.pop(_SAFE_PATH, None)  # what a user's environment starts is the user's
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    target(pipe, *arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)  # all that it has is saved: taking torch down would take half a second, and the agent waits


@contextmanager
def _nothing_of_the_working_folder() -> Iterator[None]:
    """Processes started herein import nothing from there before they have this one's paths: it may be another's run."""
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


@contextmanager
def _deaf_to_signals() -> Iterator[None]:
    """Processes started herein do not hear Ctrl-C and SIGTERM from birth; for this one they wait meanwhile.

    Both often reach a whole process group; the processes beside the agent have to outlive them until the agent has
    stopped and says so.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows: a process may hear Ctrl-C until it has begun
        yield
        return
    from multiprocessing import resource_tracker  # noqa: PLC0415 - of POSIX alone

    resource_tracker.ensure_running()  # started along with the first process, it would let the signals through
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


UNGUARDED = (
    "the script that calls prefrl trains again whenever it is imported, as the training's own processes do: "
    'put what it does under `if __name__ == "__main__":`'
)
_UNGUARDED_STATUS = 79


def leave_unguarded_import() -> None:
    """End this process where it is a worker that is only importing the user's script."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        print(f"prefrl: {UNGUARDED}", file=sys.stderr, flush=True)
        os._exit(_UNGUARDED_STATUS)


def check_guarded(exit_code: int | None) -> None:
    """Raise UsageError if a process ended as `leave_unguarded_import` ends one."""
    if exit_code == _UNGUARDED_STATUS:
        raise UsageError(UNGUARDED)


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
