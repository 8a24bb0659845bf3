"""Worker processes. They ignore signals to the process group and end with their parent."""

from __future__ import annotations

import atexit
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
    """A worker process of a run, and the pipe that sends it work or stops it."""

    process: SpawnProcess
    pipe: Connection

    def send(self, message: Any) -> None:
        """Send a short message. It is dropped if the process has ended, or does not read and its pipe is full."""
        with suppress(OSError):
            if _has_room(self.pipe):
                self.pipe.send(message)

    def stop(self, timeout: float = 30) -> bool:
        """Ask the process to stop, and kill it after a timeout.

        Args:
            timeout: Seconds.

        Returns:
            Whether it ended by itself.
        """
        self.send(None)
        self.process.join(timeout)
        ended = not self.process.is_alive()
        self.discard()
        return ended

    def discard(self) -> None:
        """Kill the process, for example because it was given no work."""
        atexit.unregister(self.discard)
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
    """Start a worker process.

    Args:
        name: Name of the process.
        target: Called in the process with the receiving end of the pipe and the arguments.
        arguments: Further arguments of the target; they are pickled.
    """
    context = multiprocessing.get_context("spawn")
    # A pipe instead of an Event: setting an Event blocks forever if the waiting process was killed.
    reader, writer = context.Pipe(duplex=False)
    safe = bool(os.environ.get(_SAFE_PATH))
    process = context.Process(target=_begin, args=(target, safe, reader, *arguments), name=name, daemon=True)
    with _nothing_of_the_working_folder(), _deaf_to_signals():
        process.start()
    reader.close()
    worker = WorkerProcess(process, writer)
    # Python waits for its child processes when it exits. One that was given no work, and ignores SIGTERM, never ends.
    atexit.register(worker.discard)
    return worker


def _begin(target: Callable[..., None], safe: bool, pipe: Connection, *arguments: Any) -> None:
    """Run the target with signals ignored, and end with the parent process."""
    if not safe:
        os.environ.pop(_SAFE_PATH, None)  # restore the variable for processes that the user's environment starts
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    target(pipe, *arguments)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(0)  # everything is saved; a regular exit with torch loaded takes half a second, and the agent waits


@contextmanager
def _nothing_of_the_working_folder() -> Iterator[None]:
    """Keep started processes from importing modules of the working folder, which may be someone else's run.

    This applies until they have received this process's paths.
    """
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
    """Block Ctrl-C and SIGTERM in processes started inside; in this process, they are delivered afterwards.

    Both signals often reach a whole process group. Worker processes must survive them until the agent stops them.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows: Ctrl-C can reach a process until it has started
        yield
        return
    from multiprocessing import resource_tracker  # noqa: PLC0415 - POSIX only

    resource_tracker.ensure_running()  # if started with the first process, it would unblock the signals
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


UNGUARDED = (
    "the script that calls prefrl trains again whenever a worker process imports it: "
    'put its code under `if __name__ == "__main__":`'
)
_UNGUARDED_STATUS = 79


def leave_unguarded_import() -> None:
    """End this process if it is a worker that is importing the user's script."""
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        print(f"prefrl: {UNGUARDED}", file=sys.stderr, flush=True)
        os._exit(_UNGUARDED_STATUS)


def check_guarded(exit_code: int | None) -> None:
    """Raise UsageError if the exit code is that of `leave_unguarded_import`."""
    if exit_code == _UNGUARDED_STATUS:
        raise UsageError(UNGUARDED)


def how_it_ended(exit_code: int | None) -> str:
    """Describe the exit of a process."""
    if exit_code is not None and exit_code < 0:
        return f"killed by signal {-exit_code}"
    return f"exit status {exit_code}; its message is above"


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)
