"""Early messages: suggestions for misspelled names, insufficient memory, and slow starts."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import apart, live, prefrl, refused, spawned, until

from prefrl import memory_check
from prefrl.machine import activity
from prefrl.recipes import resolve


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CartPole", "did you mean CartPole-v1?"),
        ("cartpole-v1", "did you mean CartPole-v1?"),
        ("CartPole-v7", "did you mean CartPole-v1?"),
        ("BreakoutNoFrameskip-v4", "did you mean breakout or ale_py:ALE/Breakout-v5?"),
        ("MyEnv-v0", "named with the module that registers it: module:MyEnv-v0"),
        ("oddities:Lam-v0", "the module oddities was imported, but it registers oddities:Lamp-v0"),
        ("oddities:lamp", "did you mean oddities:Lamp-v0?"),
    ],
)
def test_a_name_that_there_is_not_gets_the_one_that_was_meant(name: str, meant: str, tmp_path: Path) -> None:
    # In a process of its own: other tests' libraries register names that would be suggested.
    done = apart("train", name, "--out", tmp_path / "run", PYTHONPATH=str(Path(__file__).parent))
    assert meant in refused(done, 2)


def test_a_run_that_needs_more_memory_than_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_check, "available", lambda: 2**30)
    line = refused(prefrl("train", "pong", "--labels", "3000", "--out", tmp_path / "run"), 2)
    assert "1.0 GB is free" in line
    assert "--labels" in line or "queries.pool" in line or "reward.batch_size" in line
    assert not (tmp_path / "run").exists()


def test_few_labels_take_little_memory() -> None:
    few, many = (memory_check.memory_use(resolve("pong", settings={"queries.labels": labels})) for labels in (12, 3000))
    (of_few,), (of_many,) = ([size for what, size in each.items() if "--labels" in what] for each in (few, many))
    assert of_few == 12 * 2 * 28 * 84 * 84
    assert of_many == 3000 * 2 * 28 * 84 * 84


def test_only_slow_operations_are_announced() -> None:
    said = io.StringIO()
    printer = activity.ActivityPrinter(said)
    printer.start()
    until(said.getvalue, "a word", timeout=30)
    printer.stop()
    assert said.getvalue() == "starting: loading libraries\n"


def test_changes_are_shown_within_two_seconds_and_repetitions_rarely() -> None:
    said = io.StringIO()
    printer = activity.ActivityPrinter(said, "playing")
    printer.start()
    until(said.getvalue, "a word", timeout=30)
    printer.activity = "5 episodes"
    began = time.monotonic()
    until(lambda: "episodes" in said.getvalue(), "what is new", timeout=30)
    assert time.monotonic() - began < 8  # the same would be said after ten
    time.sleep(2.5)
    printer.stop()
    assert said.getvalue() == "playing: loading libraries\nplaying: 5 episodes\n"


def test_playing_is_announced_before_its_result(tmp_path: Path) -> None:
    flags = ("--steps", "64", "--teacher", "none", "--out", tmp_path / "run")
    settings = ("--set", "agent.n_envs=2", "agent.n_steps=32", "agent.n_epochs=1", "agent.batch_size=32")
    assert prefrl("train", "oddities:Lamp-v0", *flags, *settings).code == 0
    done = spawned("play", tmp_path / "run", "--trust", "oddities", PYTHONPATH=str(Path(__file__).parent))
    assert done.out.startswith("playing: "), done.err
    assert "true return" in done.out


def test_a_slow_environment_is_heard_of_before_its_first_rollout_has_ended(tmp_path: Path) -> None:
    settings = ("--set", "agent.n_envs=2", "agent.n_steps=128")
    flags = ("--steps", "2000", "--labels", "12", "--mode", "sync", "--out", tmp_path / "run", *settings)
    paths = str(Path(__file__).parent)
    with live(tmp_path / "log", "train", "oddities:Slow-v0", *flags, loaded=False, PYTHONPATH=paths) as command:
        until(lambda: "starting: " in command.err, "the first word")
        until(lambda: "recording the first clips: 0/2,000 steps" in command.err, "what it does")


WITHOUT_POSIX = """
import pathlib, signal, sys
import psutil  # which needs on Linux what it is not to have
def fail(*args, **kwargs): raise OSError
sys.modules["resource"] = None
del signal.pthread_sigmask
import prefrl.runs.control
from prefrl.machine.memory import peak_rss_mb
from prefrl.machine.processes import _deaf_to_signals
with _deaf_to_signals():
    pass
pathlib.Path.read_text = fail
assert peak_rss_mb() >= 0
"""


def test_modules_do_without_what_only_posix_has() -> None:
    """In a process of its own, since modules are what they were when they were imported."""
    done = subprocess.run([sys.executable, "-c", WITHOUT_POSIX], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
