"""The reward learner's process, started as early as can be: like the agent's own, it takes seconds to import torch.

This module imports nothing slow, so that both can import at the same time, before the first step.
"""

from __future__ import annotations

import multiprocessing
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any, NamedTuple

from prefrl.processes import deaf_to_signals, settle_beside_parent


class Beside(NamedTuple):
    """A process that waits for its work, and the pipe by which it gets it and is stopped."""

    process: SpawnProcess
    pipe: Connection

    def stop(self, timeout: float = 30) -> None:
        """Let it finish what it is at; one that does not is killed."""
        with suppress(OSError):  # it may be gone
            self.pipe.send(None)
        self.process.join(timeout)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def discard(self) -> None:
        """End it at once, where it is still there: it never got work."""
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def start_learner() -> Beside:
    """Start the process; its work is to be sent down the pipe as arguments of `prefrl.reward.workers.learn`."""
    context = multiprocessing.get_context("spawn")
    # A pipe and no Event: setting an Event whose waiter was killed blocks for ever.
    reader, writer = context.Pipe(duplex=False)
    process = context.Process(target=_main, args=(reader,), name="prefrl-learner", daemon=True)
    with deaf_to_signals():
        process.start()
    reader.close()
    return Beside(process, writer)


def _main(orders: Connection) -> None:
    settle_beside_parent()
    from prefrl.reward.workers import learn  # noqa: PLC0415 - slow, and meant to be

    work: tuple[Any, ...] | None = None
    with suppress(EOFError):  # the run could not begin
        work = orders.recv()
    if work is not None:
        root, inputs, device = work
        learn(root, inputs, device, orders)
