"""Worker processes forked from one that has the libraries loaded, which costs 2 s of processor time for each to do.

Their parent has a helper, which forks a process for each that is asked for. The process gets what a spawned one would:
its parent's variables, folder and open files, under the same numbers. As the process in between ends at once, the
system makes it a child of the nearest subreaper: the one that asked. From there on, it is like a spawned one.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import importlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing import spawn, util
from pathlib import Path
from typing import Any

NAME = "forked-worker"
"""Of their processes, for `psutil`."""
LIBRARIES = ("torch._dynamo", "prefrl.reward.process", "prefrl.rendering.renderer", "gymnasium.envs.mujoco")
_ARGUMENTS = re.compile(r"spawn_main\(tracker_fd=(\d+), pipe_handle=(\d+)\)")
_SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of prctl(2)."""
_HIGH = 900
"""Numbers of open files from here on are the helper's own."""
_spawn = util.spawnv_passfds


class Helper:
    """Forks the processes of `multiprocessing`'s start method "spawn" that this process starts."""

    def __init__(self, *, loaded: bool) -> None:
        """Prepare the helper; it starts with the first process.

        Args:
            loaded: Whether to fork the helper now, as this process has the libraries, and no database open.
        """
        self._requests, self._theirs = socket.socketpair()
        self._owner, self._process = os.getpid(), None
        if loaded:
            if os.fork() == 0:
                self._requests.close()
                serve(self._theirs)
            self._theirs.close()

    def close(self) -> None:
        """End the helper."""
        self._requests.close()
        self._theirs.close()
        if self._process is not None:
            self._process.wait()

    def start(self, executable: str | bytes, words: Sequence[str | bytes], kept: Iterable[int]) -> int:
        """Start a process as `multiprocessing.util.spawnv_passfds` does; returns its id."""
        found = _ARGUMENTS.search(" ".join(map(os.fsdecode, words)))
        if found is None or os.getpid() != self._owner:  # the resource tracker, or a fork of the owner
            return int(_spawn(executable, words, kept))
        if self._theirs.fileno() >= 0 and self._process is None:
            command, passed = [sys.executable, __file__, str(self._theirs.fileno())], [self._theirs.fileno()]
            self._process = subprocess.Popen(command, pass_fds=passed, start_new_session=True)
            self._theirs.close()
        numbers = [1, 2, *map(int, kept)]
        request = {
            "tracker": int(found[1]),
            "pipe": int(found[2]),
            "numbers": numbers,
            "folder": os.getcwd(),
            "environment": dict(os.environ),
        }
        with _adopting():
            socket.send_fds(self._requests, [json.dumps(request).encode()], numbers)
            return int(self._requests.recv(32))


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Be the parent of processes whose own have ended."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_SUBREAPER, 0, 0, 0, 0)


def use(helper: Helper | None) -> None:
    """Start worker processes by the helper from now on; None to spawn them."""
    util.spawnv_passfds = helper.start if helper else _spawn


def serve(requests: socket.socket) -> None:
    """Fork a process for each request, until the owner has ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    high = socket.socket(fileno=fcntl.fcntl(requests, fcntl.F_DUPFD, _HIGH))
    os.closerange(3, _HIGH)
    with contextlib.suppress(ConnectionError):
        while (received := socket.recv_fds(high, 1 << 20, 64))[0]:
            asked, descriptors = json.loads(received[0]), received[1]
            reader, writer = os.pipe()
            if (between := os.fork()) == 0:
                if process := os.fork():
                    os.write(writer, str(process).encode())
                    os._exit(0)
                high.detach()
                _become(asked, descriptors)
            os.waitpid(between, 0)
            high.send(os.read(reader, 32))
            for descriptor in (reader, writer, *descriptors):
                os.close(descriptor)
    os._exit(0)


def _become(asked: dict[str, Any], descriptors: Sequence[int]) -> None:
    """Be the process that was asked for."""
    status = 1
    try:
        Path("/proc/self/comm").write_text(NAME)
        moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _HIGH) for descriptor in descriptors]
        os.closerange(3, _HIGH)
        for number, descriptor in zip(asked["numbers"], moved, strict=True):
            os.dup2(descriptor, number)
        os.closerange(_HIGH, _HIGH + 200)
        os.chdir(asked["folder"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        sys.argv = ["-c", "--multiprocessing-fork"]
        spawn.spawn_main(tracker_fd=asked["tracker"], pipe_handle=asked["pipe"])
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    os._exit(status)


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    serve(socket.socket(fileno=int(sys.argv[1])))
