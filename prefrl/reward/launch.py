"""Start the reward learner's process as early as possible, because importing torch takes seconds.

This module has no slow imports, so that the agent's process and the learner's process import torch at the same time.
"""

from __future__ import annotations

from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from prefrl.machine.processes import WorkerProcess, start_worker


def start_learner() -> WorkerProcess:
    """Start the process. Then send it the arguments of `prefrl.reward.process.learn`."""
    return start_worker("prefrl-learner", _main)


def _main(orders: Connection) -> None:
    from prefrl.reward.process import learn  # noqa: PLC0415 - slow, so imported in the new process

    work: tuple[Any, ...] | None = None
    with suppress(EOFError):  # the run failed to start
        work = orders.recv()
    if work is not None:
        root, inputs, device = work
        learn(root, inputs, device, orders)
