"""The agent's worker processes, and signals that arrive while they start."""

import os
import signal
from multiprocessing.context import SpawnProcess

import pytest

from prefrl.machine.processes import start_worker


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_comes_while_a_process_starts_is_not_lost(monkeypatch, number):
    start, came = SpawnProcess.start, []

    def interrupted(process):
        start(process)
        os.kill(os.getpid(), number)

    monkeypatch.setattr(SpawnProcess, "start", interrupted)
    before = signal.signal(number, lambda *_: came.append(number))
    beside = start_worker("test", id)
    signal.signal(number, before)
    beside.process.join()
    beside.pipe.close()
    assert came == [number]
    assert beside.process.exitcode == 0
