"""Processor time: of this process and its workers, and in the metrics of runs that are resumed."""

import math
import multiprocessing
import os
import time

import pytest
from runs import STEPS, prefrl, tiny

from prefrl.bookkeeping import records
from prefrl.bookkeeping.records import Records
from prefrl.machine.processor_time import processor_seconds
from prefrl.runs.metrics import read_metrics


def busy(seconds, ready=None, done=None):
    """Use so many seconds of processor time; then wait until told to end."""
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    if ready:
        ready.set()
        done.wait(60)


def test_it_counts_this_process_and_neither_sleep_nor_time_of_before():
    before = processor_seconds()
    busy(0.2)
    time.sleep(0.5)
    assert 0.15 < processor_seconds() - before < 0.6


def test_it_counts_workers_while_they_live_and_afterwards():
    context = multiprocessing.get_context("spawn")
    ready, done = context.Event(), context.Event()
    before, own = processor_seconds(), time.process_time()
    worker = context.Process(target=busy, args=(0.5, ready, done))
    worker.start()
    assert ready.wait(60)
    alive = processor_seconds() - before
    assert alive > 0.45 + (time.process_time() - own) / 2
    done.set()
    worker.join()
    if hasattr(os, "fork"):
        assert processor_seconds() - before > alive - 0.05


class Parts:
    """What `Records` needs to be made."""


def test_the_time_of_before_a_run_was_resumed_is_added(monkeypatch):
    now = iter([100.0, 130.0, 7.0, 12.0, 5.0, 6.0, 7.0])
    monkeypatch.setattr(records, "processor_seconds", lambda: next(now))
    first = Records(Parts())
    saved = first.clocks()
    assert saved["processor_seconds"] == 30
    resumed = Records(Parts())
    resumed.load_clocks(saved)
    assert resumed.processor_seconds == 35
    assert resumed.seconds >= saved["seconds"]
    old = Records(Parts())
    old.load_clocks({"seconds": 3.0, "processor_seconds": None})  # as it is saved if it is not known
    assert math.isnan(old.processor_seconds)
    old.load_clocks({"seconds": 3.0})  # of an older version
    assert math.isnan(old.clocks()["processor_seconds"])


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_the_metrics_have_processor_time_that_goes_on_after_a_resume(tmp_path, mode):
    root = tmp_path / "run"
    assert prefrl(*tiny("reacher", root, "--mode", mode)).code == 0
    before = read_metrics(root / "metrics.csv")
    assert prefrl("resume", root, "--steps", str(2 * STEPS)).code == 0
    times = [row["time_processor_seconds"] for row in read_metrics(root / "metrics.csv")]
    assert len(times) > len(before)
    assert times == sorted(times)
    assert times[0] > 0
    assert times[len(before)] > before[-1]["time_processor_seconds"]
