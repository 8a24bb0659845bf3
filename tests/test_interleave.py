"""Interleaved processes: never two at once, and each runs to completion."""

import signal
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
from prefrl_benchmarks.measure import interleave
from prefrl_benchmarks.measure.interleave import Ended, run_interleaved, within

COUNT = """
import sys, time
begun = time.process_time()
while time.process_time() - begun < float(sys.argv[1]):
    pass
"""
PARENT = """
import subprocess, sys
subprocess.run([sys.executable, "-c", sys.argv[2], sys.argv[1]], check=True)
"""


def counting(seconds, *, through_a_child=False):
    words = ["-c", PARENT, str(seconds), COUNT] if through_a_child else ["-c", COUNT, str(seconds)]
    return lambda: subprocess.Popen([sys.executable, *words], process_group=0)


class Watched:
    """A process that needs some seconds of a clock that only it moves."""

    def __init__(self, pid, needs, clock):
        self.pid, self.returncode, self._needs, self._clock = pid, None, needs, clock

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def poll(self):
        return self.returncode

    def wait(self, seconds=None):
        taken = self._needs if seconds is None else min(seconds, self._needs)
        self._clock.time += taken
        self._needs -= taken
        if self._needs > 0:
            raise subprocess.TimeoutExpired("watched", seconds)
        self.returncode = self.pid % 10


def test_processes_run_alone_in_slices_until_they_end(monkeypatch):
    clock, sent = SimpleNamespace(time=100.0), []
    monkeypatch.setattr(interleave.time, "time", lambda: clock.time)
    monkeypatch.setattr(interleave.os, "killpg", lambda group, number: sent.append((group, number)))
    monkeypatch.setattr(interleave, "_move", lambda process, turn: sent.append((process, turn)))
    starts = [lambda: Watched(10, 7.0, clock), lambda: Watched(21, 4.0, clock)]
    ended = run_interleaved(starts, 3.0)
    assert ended == [
        Ended(0, [(100.0, 103.0), (106.0, 109.0), (110.0, 111.0)]),
        Ended(1, [(103.0, 106.0), (109.0, 110.0)]),
    ]
    stop, go = signal.SIGSTOP, signal.SIGCONT
    assert sent == [(10, stop), (21, stop), (10, go), (10, 1), (10, stop), (21, go), (21, 1), (10, go), (10, 2)]


@pytest.mark.parametrize("through_a_child", [False, True])
def test_all_that_a_process_has_started_takes_turns_with_it(through_a_child):
    ended = run_interleaved([counting(0.6, through_a_child=through_a_child), counting(0.3)], 0.1)
    assert [code for code, _ in ended] == [0, 0]
    spans = [span for _, own in ended for span in own]
    assert len(spans) >= 9  # 0.9 seconds of processor time take that many turns and more, on any machine
    assert sum(end - start for start, end in spans) > 0.9


def test_without_turns_one_after_the_other():
    turns = [own for _, own in run_interleaved([counting(0.2), counting(0.1)], None)]
    assert [len(own) for own in turns] == [1, 1]
    assert turns[0][0][1] <= turns[1][0][0]


def test_how_each_ended_is_told():
    def fail():
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], process_group=0)

    assert [code for code, _ in run_interleaved([fail, counting(0.1)], 0.05)] == [3, 0]


def test_none_is_left_behind_where_one_cannot_be_started():
    started = []

    def start():
        started.append(counting(60)())
        return started[-1]

    def fail():
        raise OSError("no such program")

    with pytest.raises(OSError, match="no such program"):
        run_interleaved([start, fail], 0.2)
    assert not psutil.pid_exists(started[0].pid)


def test_the_time_of_turns_between_two_moments():
    turns = [(10.0, 12.0), (15.0, 16.0), (20.0, 30.0)]
    assert within(turns, 0.0, 100.0) == 13.0
    assert within(turns, 11.0, 15.5) == 1.5
    assert within(turns, 12.0, 15.0) == 0.0
    assert within(turns, 25.0, 26.0) == 1.0
