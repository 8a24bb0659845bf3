"""The agent's worker processes, and signals that arrive while they start."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from multiprocessing.context import SpawnProcess

import psutil
import pytest

from prefrl.machine.processes import WorkerProcess, start_worker


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


def test_a_worker_that_reads_nothing_blocks_nobody():
    """A learner may hang for hours while it is sent the step every second; a pipe holds a few thousand messages."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    worker = WorkerProcess(None, writer)
    sending = threading.Thread(target=lambda: [worker.send(step) for step in range(50_000)], daemon=True)
    sending.start()
    sending.join(30)
    assert not sending.is_alive()
    held = []
    while reader.poll():
        held.append(reader.recv())
    assert held == list(range(len(held)))
    assert 100 < len(held) < 50_000
    worker.send(50_000)
    assert reader.recv() == 50_000


def test_a_program_that_fails_before_its_worker_has_work_ends():
    code = "from prefrl.reward.launch import start_learner; worker = start_learner(); raise SystemExit(3)"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 3


def test_a_process_that_has_ended_is_not_kept_until_the_program_exits():
    """A program may train for many runs; each process that is kept holds two open files."""
    before = psutil.Process().num_fds()
    for number in range(6):
        worker = start_worker("test", id)
        worker.stop() if number % 2 else worker.discard()
        del worker
    gc.collect()
    assert psutil.Process().num_fds() <= before + 2
