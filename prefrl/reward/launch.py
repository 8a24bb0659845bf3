"""The reward learner's process, started as early as can be: like the agent's own, it takes seconds to import torch.

This module imports nothing slow, so that both can import at the same time, before the first step.
"""

from __future__ import annotations

from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from prefrl.machine.processes import WorkerProcess, start_worker


def start_learner() -> WorkerProcess:
    """Start the process; its work is to be sent down the pipe as arguments of `prefrl.reward.process.learn`."""
    return start_worker("prefrl-learner", _main)


def _main(orders: Connection) -> None:
    from prefrl.reward.process import learn  # noqa: PLC0415 - slow, and meant to be

    work: tuple[Any, ...] | None = None
    with suppress(EOFError):  # the run could not begin
        work = orders.recv()
    if work is not None:
        root, inputs, device = work
        learn(root, inputs, device, orders)
