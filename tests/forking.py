"""Commands forked from a process that has the libraries loaded, which costs 3 s of processor time to do.

A forked command is a process of its own, in a process group of its own, that ends as the interpreter ends. What it does
before its libraries are there, it does not show.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import forked_workers

LIBRARIES = (
    *("torch._dynamo", "stable_baselines3", "sb3_contrib", "mujoco", "gymnasium.envs.mujoco", "prefrl_envs"),
    *("torch.utils.tensorboard", "prefrl.api", "prefrl.training", "prefrl.assembly", "prefrl.commands.cli"),
    *forked_workers.LIBRARIES,
)
DYNAMIC = {"PYTEST_CURRENT_TEST", "PYTHONPATH"}
"""Variables that may be others when a command is forked than when its libraries were loaded."""
_PATH = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}


class Forked:
    """A command's process: what the tests use of `subprocess.Popen`."""

    def __init__(self, answers: socket.socket) -> None:
        self._answers = answers
        self._reader = answers.makefile()
        self.pid = int(self._reader.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status; None while it is at work."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended."""
        if self.returncode is None:
            if not select.select([self._answers], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = int(self._reader.readline())
            self._reader.close()
            self._answers.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Loaded:
    """The process with the libraries."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = {name: value for name, value in environment.items() if name not in DYNAMIC}
        self._requests, theirs = socket.socketpair()
        command, started = [sys.executable, __file__, str(theirs.fileno())], self.environment | _PATH
        self._process = subprocess.Popen(command, env=started, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()

    def serves(self, environment: dict[str, str]) -> bool:
        """Whether a command would be the same with these variables from its start."""
        return {name: value for name, value in environment.items() if name not in DYNAMIC} == self.environment

    def fork(self, words: list[str], environment: dict[str, str], log: Path) -> Forked:
        """Start a command whose output is appended to a file."""
        request = {"words": words, "environment": environment, "folder": os.getcwd()}
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as file:
            socket.send_fds(self._requests, [json.dumps(request).encode()], [file.fileno(), theirs.fileno()])
            self._requests.recv(1)  # it has them
        return Forked(ours)


_loaded: list[Loaded] = []


def fork(words: list[str], environment: dict[str, str], log: Path) -> Forked | None:
    """Start a command; None if one with these variables must load its libraries itself."""
    if not _loaded:
        _loaded.append(Loaded(environment))
    return _loaded[0].fork(words, environment, log) if _loaded[0].serves(environment) else None


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork a command for each request; returns the request in the command's process, None in this one at the end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, *_ = socket.recv_fds(requests, 1 << 20, 2)
        if not message:
            return None
        if os.fork() == 0:
            requests.close()
            return _attend(json.loads(message), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        requests.send(b".")


def _attend(request: dict[str, Any], output: int, answers: int) -> dict[str, Any]:
    """Fork the command, and tell its process id and how it ended; returns in the command's process alone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if pid := os.fork():
        os.write(answers, f"{pid}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(answers, f"{status}\n".encode())
        os._exit(0)
    os.setsid()
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    os.close(answers)
    return request


def _become(request: dict[str, Any]) -> None:
    """Run the command as its script does."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:1] = [str(Path(sys.executable).parent), *(path for path in added if path and path not in sys.path)]
    sys.argv = request["words"]
    forked_workers.use(forked_workers.Helper(loaded=True))
    from prefrl.commands import cli

    sys.exit(cli.main())


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        _become(asked)
