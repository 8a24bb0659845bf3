"""Where cells run. An executor starts one cell and gives back a job to poll; its files end up in the suite's folder."""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from prefrl.errors import UsageError
from prefrl_benchmarks import groups
from prefrl_benchmarks.cells import Cell, start_cell


class Job(Protocol):
    """A cell at work."""

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""

    def stop(self) -> None:
        """Ask it to stop, so that it can be resumed."""

    def kill(self) -> None:
        """End it at once; what it has stored stays."""


Executor = Callable[[Cell, Path], Job]
"""Starts or resumes a cell whose run directory is, or is to be, `folder / cell.name`."""


class ProcessJob:
    """A cell in a process of this machine."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        code = self._process.poll()
        if code is not None and self._process.stdin:
            self._process.stdin.close()
        return code

    def stop(self) -> None:
        """Ask it to stop after its round; before it has a round to finish, this ends it.

        Not SIGINT, which a process that was started in the background is born deaf to. Windows has no SIGTERM: there
        it ends at once, and can be resumed from its newest checkpoint.
        """
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it, and the processes that it has beside it."""
        groups.kill(self._process.pid)
        self._process.wait()
        self.poll()


def start_process(cell: Cell, folder: Path) -> Job:
    """Start a cell on one core of this machine."""
    return ProcessJob(start_cell(cell, folder, threads=1))


PROCESSES: Executor = start_process


def _alone() -> dict[str, str]:
    """Of a Ray that is to serve this machine alone; it reads this when it is imported.

    Its servers listen on all interfaces otherwise, and whoever reaches them can run what they like.
    """
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on Linux too: its name for listening on the loopback address alone
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


def find_executor(name: str, *, address: str | None = None, slurm: dict[str, Any] | None = None) -> Executor:
    """The executor of that name.

    Args:
        name: `process`, `ray` or `submitit`.
        address: Of the Ray cluster's head.
        slurm: What to ask Slurm for.

    Raises:
        UsageError: if its library is not installed, it does not run on this system, there is no such cluster, or an
            option is another executor's.
    """
    if address and name != "ray":
        raise UsageError("--address is for --executor ray")
    if slurm and name != "submitit":
        raise UsageError("--slurm is for --executor submitit")
    if name == "process":
        return PROCESSES
    if name == "submitit" and not hasattr(signal, "SIGUSR2"):
        raise UsageError("--executor submitit needs Slurm, which does not run on Windows")
    if importlib.util.find_spec(name) is None:
        raise UsageError(f"--executor {name} needs its library: pip install 'prefrl[{name}]'")
    if name == "ray":
        address = address or os.environ.get("RAY_ADDRESS")
        if not address:
            os.environ |= _alone()
        from prefrl_benchmarks.executors.cluster import ray_cluster  # noqa: PLC0415 - only who asks for Ray has it

        return ray_cluster(address)
    from prefrl_benchmarks.executors.slurm import slurm_cluster  # noqa: PLC0415

    return slurm_cluster(slurm or {})
