"""Processes that take turns: never two at once, and each to its end."""

import itertools
import subprocess
import sys
import time

import psutil
import pytest
from prefrl_benchmarks.turns import take_turns, within

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


@pytest.mark.parametrize("through_a_child", [False, True])
def test_they_run_in_turns_with_all_that_they_have_started(through_a_child):
    begun = time.time()
    ended = take_turns([counting(0.6, through_a_child=through_a_child), counting(0.3)], 0.1)
    assert [code for code, _ in ended] == [0, 0]
    turns = [own for _, own in ended]
    assert [len(own) > 2 for own in turns] == [True, True]
    spans = sorted(itertools.chain(*turns))
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    for own, needed in zip(turns, (0.6, 0.3), strict=True):
        assert within(own, begun, time.time()) > needed


def test_without_turns_one_after_the_other():
    turns = [own for _, own in take_turns([counting(0.2), counting(0.1)], None)]
    assert [len(own) for own in turns] == [1, 1]
    assert turns[0][0][1] <= turns[1][0][0]


def test_how_each_ended_is_told():
    def fail():
        return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], process_group=0)

    assert [code for code, _ in take_turns([fail, counting(0.1)], 0.05)] == [3, 0]


def test_none_is_left_behind_where_one_cannot_be_started():
    started = []

    def start():
        started.append(counting(60)())
        return started[-1]

    def fail():
        raise OSError("no such program")

    with pytest.raises(OSError, match="no such program"):
        take_turns([start, fail], 0.2)
    assert not psutil.pid_exists(started[0].pid)


def test_the_time_of_turns_between_two_moments():
    turns = [(10.0, 12.0), (15.0, 16.0), (20.0, 30.0)]
    assert within(turns, 0.0, 100.0) == 13.0
    assert within(turns, 11.0, 15.5) == 1.5
    assert within(turns, 12.0, 15.0) == 0.0
    assert within(turns, 25.0, 26.0) == 1.0
