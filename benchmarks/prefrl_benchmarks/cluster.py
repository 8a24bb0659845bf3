"""Cells on a Ray cluster (https://docs.ray.io): the extra `ray`.

A cell's run directory travels: to a node as it stands in the suite's folder, and back when the cell has ended or was
stopped. So nodes share nothing, no database lies on a network share, and where a node is lost, Ray starts its cells
anew on another from what was sent.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayError

from prefrl.errors import PrefrlError, UsageError, explain
from prefrl.run import RunDirectory
from prefrl_benchmarks.cells import Cell, start_cell
from prefrl_benchmarks.executors import Executor, Job

_CONNECT_SECONDS = 10


class Returned(NamedTuple):
    """What comes back from a node."""

    code: int
    """The exit status of the cell's process."""
    run: bytes
    """Its run directory."""
    log: bytes
    """What it said."""


class NodeRunner:
    """Runs one cell on a node; a Ray actor."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def run(self, cell: Cell, run: bytes) -> Returned:
        """Go on with a run to its end, or until it is stopped.

        Args:
            cell: The cell.
            run: Its run directory, packed.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            unpack(run, folder / cell.name)
            with start_cell(cell, folder, threads=1) as self._process:
                if self._stopped:
                    self.stop()
                code = self._process.wait()
            return Returned(code, pack(folder / cell.name), (folder / f"{cell.name}.log").read_bytes())

    def stop(self) -> None:
        """Ask the cell to stop after its round."""
        self._stopped = True
        if self._process:
            self._process.send_signal(signal.SIGTERM)


class RayJob:
    """A cell somewhere on the cluster."""

    def __init__(self, cell: Cell, folder: Path) -> None:
        self._cell, self._folder = cell, folder
        self._code: int | None = None
        root = folder / cell.name
        if not root.exists():
            RunDirectory.create(root, cell.config)  # here, so that every node runs the same configuration
        # One method runs, the other stops it; a lost node costs no more than what the cell had done there.
        actor: Any = ray.remote(NodeRunner)
        self._actor = actor.options(num_cpus=1, max_concurrency=2, max_restarts=-1, max_task_retries=-1).remote()
        self._returned = self._actor.run.remote(cell, pack(root))

    def poll(self) -> int | None:
        """Its exit status; None while it runs or waits for a node."""
        if self._code is None and ray.wait([self._returned], timeout=0)[0]:
            self._code = self._take()
        return self._code

    def stop(self) -> None:
        """Ask it to stop, so that it can be resumed."""
        self._actor.stop.remote()

    def kill(self) -> None:
        """End it; what it did there is lost."""
        ray.kill(self._actor)

    def _take(self) -> int:
        """Put what came back into the suite's folder."""
        try:
            returned: Returned = ray.get(self._returned)
        except RayError as error:
            returned = Returned(1, b"", f"prefrl: lost on the cluster: {explain(error)}\n".encode())
        if returned.run:
            unpack(returned.run, self._folder / self._cell.name)
        with (self._folder / f"{self._cell.name}.log").open("ab") as log:
            log.write(returned.log)
        ray.kill(self._actor)
        return returned.code


def ray_cluster(address: str | None) -> Executor:
    """Connect to a cluster.

    Args:
        address: Of its head, HOST:PORT; None: as RAY_ADDRESS says, or one of this machine alone.

    Raises:
        UsageError: if nothing answers there.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if address:
        _check_reachable(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UsageError(f"no Ray cluster at {address}: {explain(error)}") from None
    return _start


def _check_reachable(address: str) -> None:
    """Ray itself tries for minutes, and says so on the screen."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"no Ray cluster answers at {address} (it must be HOST:PORT): {error}") from None


def _start(cell: Cell, folder: Path) -> Job:
    return RayJob(cell, folder)


def pack(root: Path) -> bytes:
    """A folder as one block of bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=1) as archive:
        archive.add(root, arcname=".")
    return stream.getvalue()


def unpack(content: bytes, root: Path) -> None:
    """Put a packed folder where another may be; until it is whole, that one stays.

    Raises:
        PrefrlError: if it is damaged.
    """
    incoming = root.with_name(f".{root.name}.incoming")
    shutil.rmtree(incoming, ignore_errors=True)
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            archive.extractall(incoming, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise PrefrlError(f"{root.name} came back damaged: {error}") from None
    shutil.rmtree(root, ignore_errors=True)
    incoming.rename(root)
