"""Run cells on a Ray cluster (https://docs.ray.io). Needs the extra `ray`.

The run directory of a cell is sent to a node and sent back when the cell has ended or was stopped. If a node is lost,
Ray restarts its cells on another node from what was sent.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from prefrl.errors import PrefrlError, UsageError, explain
from prefrl_benchmarks.cells import Cell
from prefrl_benchmarks.executors.job import Executor, Job
from prefrl_benchmarks.executors.nodes import NodeRunner, Returned, put_back, take_along

_CONNECT_SECONDS = 10
_LOOPBACK = "127.0.0.1"


class RayJob:
    """A cell on the cluster."""

    def __init__(self, cell: Cell, folder: Path) -> None:
        self._cell, self._folder = cell, folder
        self._code: int | None = None
        run = take_along(cell, folder)
        # Two concurrent methods: one runs the cell, the other stops it. A lost node loses only the work done there.
        actor: Any = ray.remote(NodeRunner)
        self._actor = actor.options(num_cpus=1, max_concurrency=2, max_restarts=-1, max_task_retries=-1).remote()
        self._returned = self._actor.run.remote(cell, run)

    def poll(self) -> int | None:
        """Exit status; None while the cell runs or waits for a node."""
        if self._code is None and ray.wait([self._returned], timeout=0)[0]:
            self._code = self._take()
        return self._code

    def stop(self) -> None:
        """Ask the cell to stop so that it can be resumed."""
        self._actor.stop.remote()

    def kill(self) -> None:
        """Kill the cell; its work on the node is lost."""
        ray.kill(self._actor)

    def _take(self) -> int:
        """Store the returned run in the suite's folder."""
        try:
            returned: Returned = ray.get(self._returned)
        except RayError as error:
            returned = Returned(1, b"", f"prefrl: lost on the cluster: {explain(error)}\n".encode())
        put_back(returned, self._cell, self._folder)
        ray.kill(self._actor)
        return returned.code


def ray_cluster(address: str | None) -> Executor:
    """Connect to a cluster.

    Args:
        address: Address of the head, HOST:PORT. None starts a cluster on this machine, reachable only from here.

    Returns:
        An executor that starts cells on the cluster.

    Raises:
        UsageError: if no cluster answers at the address.
        PrefrlError: if a local cluster would be reachable from other machines.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    alone = {"address": "local", "include_dashboard": False, "_node_ip_address": _LOOPBACK}
    if address:
        _check_reachable(address)
    try:
        ray.init(**quiet, **({"address": address} if address else alone))
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise UsageError(f"no Ray cluster at {address or 'this machine'}: {explain(error)}") from None
    own_address: Callable[[], str] = ray.util.get_node_ip_address
    if not address and own_address() != _LOOPBACK:
        ray.shutdown()
        raise PrefrlError("this version of Ray would accept connections from other machines; use --executor process")
    return _start


def _check_reachable(address: str) -> None:
    """Check the address first: Ray itself retries for minutes and prints every attempt."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise UsageError(f"no Ray cluster answers at {address} (it must be HOST:PORT): {error}") from None


def _start(cell: Cell, folder: Path) -> Job:
    return RayJob(cell, folder)
