"""Executors start a cell and return a job to poll. The files of the cell end up in the suite's folder."""

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
    """A running cell."""

    def poll(self) -> int | None:
        """Exit status; None while the cell runs."""

    def stop(self) -> None:
        """Ask the cell to stop so that it can be resumed."""

    def kill(self) -> None:
        """Kill the cell; files that it has written are kept."""


Executor = Callable[[Cell, Path], Job]
"""Starts or resumes a cell whose run directory is `folder / cell.name`."""


class ProcessJob:
    """A cell in a process on this machine."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        """Exit status; None while the cell runs."""
        code = self._process.poll()
        if code is not None and self._process.stdin:
            self._process.stdin.close()
        return code

    def stop(self) -> None:
        """Ask the cell to stop after its current round; if it is still starting, it ends at once.

        SIGTERM is used because background processes ignore SIGINT. On Windows, which has no SIGTERM, the cell ends at
        once and can be resumed from its newest checkpoint.
        """
        self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the cell and its worker processes."""
        groups.kill(self._process.pid)
        self._process.wait()
        self.poll()


def start_process(cell: Cell, folder: Path) -> Job:
    """Start a cell with one thread on this machine."""
    return ProcessJob(start_cell(cell, folder, threads=1))


PROCESSES: Executor = start_process


def _alone() -> dict[str, str]:
    """Environment variables that make Ray serve this machine only; Ray reads them on import.

    By default Ray's servers listen on all interfaces, and anyone who can reach them can execute code.
    """
    return {
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # despite its name, on Linux it selects the loopback address
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


def find_executor(name: str, *, address: str | None = None, slurm: dict[str, Any] | None = None) -> Executor:
    """Find an executor by name.

    Args:
        name: `process`, `ray` or `submitit`.
        address: Address of the Ray cluster's head, for `ray`.
        slurm: Parameters of Slurm jobs, for `submitit`.

    Raises:
        UsageError: if the executor's library is not installed, it does not run on this system, no cluster answers, or
            an option belongs to another executor.
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
        from prefrl_benchmarks.executors.cluster import ray_cluster  # noqa: PLC0415 - an extra

        return ray_cluster(address)
    from prefrl_benchmarks.executors.slurm import slurm_cluster  # noqa: PLC0415

    return slurm_cluster(slurm or {})
