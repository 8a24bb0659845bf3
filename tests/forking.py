"""Commands and modules forked from a process that has the libraries loaded, which costs 3 s of processor time to do.

A forked command is a process of its own, in a process group of its own, that ends as the interpreter ends. What it does
before its libraries are there, it does not show.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Self

import forked_workers

LIBRARIES = (
    *("torch._dynamo", "stable_baselines3", "sb3_contrib", "mujoco", "gymnasium.envs.mujoco", "prefrl_envs"),
    *("torch.utils.tensorboard", "prefrl.api", "prefrl.training", "prefrl.assembly", "prefrl.commands.cli"),
    *forked_workers.LIBRARIES,
)
DYNAMIC = {"PYTEST_CURRENT_TEST", "PYTHONPATH", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "TORCHINDUCTOR_CACHE_DIR"}
"""Variables that may be others when a command is forked than when its libraries were loaded.

A forked command has one thread, whatever it asks for. Torch sets the last one in a process that trains.
"""
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
_Files = tuple[IO[bytes], IO[bytes]]
_PATH = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}


class Forked:
    """A command's process: what the tests use of `subprocess.Popen`."""

    def __init__(self, answers: socket.socket, stdin: IO[bytes] | None) -> None:
        self._answers, self.stdin = answers.detach(), stdin
        self.pid = self._read()
        self.returncode: int | None = None
        self._one_at_a_time = threading.Lock()

    def __del__(self) -> None:
        os.close(self._answers)

    def _read(self) -> int:
        """A line with a number."""
        line = b""
        while not line.endswith(b"\n"):
            if not (byte := os.read(self._answers, 1)):
                raise ChildProcessError("nobody is left to tell")
            line += byte
        return int(line)

    def poll(self) -> int | None:
        """The exit status; None while it is at work."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; several threads may."""
        if self.returncode is None and not select.select([self._answers], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        with self._one_at_a_time:
            if self.returncode is None:
                self.returncode = self._read()
        return self.returncode

    def send_signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has ended in this moment
            if self.poll() is None:
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.stdin:
            self.stdin.close()
        self.wait()


class Loaded:
    """The process with the libraries."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.environment = {name: value for name, value in environment.items() if name not in DYNAMIC}
        self._requests, theirs = socket.socketpair()
        command, started = [sys.executable, __file__, str(theirs.fileno())], self.environment | _PATH | _ONE_THREAD
        self._process = subprocess.Popen(command, env=started, pass_fds=[theirs.fileno()], start_new_session=True)
        theirs.close()

    def serves(self, environment: dict[str, str]) -> bool:
        """Whether a command would be the same with these variables from its start."""
        return {name: value for name, value in environment.items() if name not in DYNAMIC} == self.environment

    def fork(
        self, words: list[str], environment: dict[str, str], files: _Files, module: str | None, *, stdin: bool
    ) -> Forked:
        """Start a command, or a module with arguments, whose output and errors go to files."""
        request = {"words": words, "module": module, "environment": environment, "folder": os.getcwd()}
        ours, theirs = socket.socketpair()
        reader, writer = os.pipe() if stdin else (os.open(os.devnull, os.O_RDONLY), None)
        with theirs:
            passed = [theirs.fileno(), reader, *(file.fileno() for file in files)]
            socket.send_fds(self._requests, [json.dumps(request).encode()], passed)
            self._requests.recv(1)  # it has them
        os.close(reader)
        return Forked(ours, None if writer is None else os.fdopen(writer, "wb"))


_loaded: list[Loaded] = []
USUAL: dict[str, str] = {}
"""Variables with which the libraries are loaded: those of the session of tests."""


def fork(
    words: list[str], environment: dict[str, str], files: _Files, module: str | None = None, *, stdin: bool = False
) -> Forked | None:
    """Start a command, or a module; None if one with these variables must load its libraries itself.

    Args:
        words: The command and its arguments, or the module's arguments.
        environment: Its variables.
        files: For its output, and for its errors.
        module: Name of the module to run as a program.
        stdin: Whether its standard input is a pipe that the caller holds, instead of empty.
    """
    if not _loaded:
        _loaded.append(Loaded(USUAL or environment))
    loaded = _loaded[0]
    return loaded.fork(words, environment, files, module, stdin=stdin) if loaded.serves(environment) else None


def popen(command: list[str], **options: Any) -> subprocess.Popen[Any] | Forked:
    """`subprocess.Popen`, which forks modules of this interpreter that lead a process group of their own.

    Their output goes to files, and their standard input is a pipe, or empty.
    """
    module = command.index("-m") + 1 if "-m" in command else 0
    if command[0] == sys.executable and command[1:module] in (["-m"], ["-P", "-m"]) and {*options} == _OPTIONS:
        words, pipe = command[module + 1 :], options["stdin"] is subprocess.PIPE
        files = (options["stdout"], options["stderr"])
        if forked := fork(words, dict(options["env"]), files, command[module], stdin=pipe):
            return forked
    return subprocess.Popen(command, **options)


_OPTIONS = {"env", "stdin", "stdout", "stderr", "process_group"}
SUBPROCESS = SimpleNamespace(**vars(subprocess) | {"Popen": popen})
"""The module `subprocess` with this."""


def _serve(requests: socket.socket) -> dict[str, Any] | None:
    """Fork a command for each request; returns the request in the command's process, None in this one at the end."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, descriptors, *_ = socket.recv_fds(requests, 1 << 20, 4)
        if not message:
            return None
        if os.fork() == 0:
            requests.close()
            return _attend(json.loads(message), *descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        requests.send(b".")


def _attend(request: dict[str, Any], answers: int, *files: int) -> dict[str, Any]:
    """Fork the command, and tell its process id and how it ended; returns in the command's process alone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if pid := os.fork():
        os.close(files[0])  # so that its other end alone holds it
        os.write(answers, f"{pid}\n".encode())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(answers, f"{status}\n".encode())
        os._exit(0)
    os.setsid()
    for number, descriptor in enumerate(files):
        os.dup2(descriptor, number)
    for descriptor in (answers, *files):
        os.close(descriptor)
    return request


def _become(request: dict[str, Any]) -> None:
    """Run the command as its script does, or the module as the interpreter does."""
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    added = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    del sys.path[0]  # of this file
    sys.path[:0] = [str(Path(sys.executable).parent), *(path for path in added if path and path not in sys.path)]
    forked_workers.use(forked_workers.Helper(loaded=True))
    if module := request["module"]:
        sys.argv = [module, *request["words"]]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        sys.exit()
    sys.argv = request["words"]
    from prefrl.commands import cli

    sys.exit(cli.main())


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    asked = _serve(socket.socket(fileno=int(sys.argv[1])))
    if asked is not None:
        _become(asked)
