"""Agent and reward learner as two processes: neither blocks the other, and none outlives the other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from runs import (
    LABELS,
    Live,
    error_line,
    gone,
    label_counts,
    live,
    prefrl,
    progress,
    stored_labels,
    summary,
    tiny,
    until,
)

from prefrl.errors import PrefrlError
from prefrl.reward import launch

SECONDS = 20.0
"""What "within seconds" may take while other tests have both cores."""
LONG = 2_000_000
"""Steps that no test waits for."""

SLOW_ENV = """
import time
import gymnasium
import numpy as np


class Slow(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action):
        time.sleep(0.005)
        return self.observation_space.sample(), float(action[0]), False, False, {}


gymnasium.register("Slow-v0", Slow, max_episode_steps=100)
"""


def training(root: Path, *flags: str, settings: tuple[str, ...] = ()) -> list[str]:
    return tiny("reacher", root, "--mode", "async", *flags, settings=settings, steps=LONG)


def all_gone(family: list[psutil.Process]) -> None:
    until(lambda: gone(family), f"the end of {family}", timeout=SECONDS)


@pytest.mark.spawned
def test_an_undisturbed_run_learns_in_parallel_with_the_agent(tmp_path: Path) -> None:
    root = tmp_path / "run"
    done = prefrl(*tiny("reacher", root, "--mode", "async", "--algo", "a2c"))
    assert done.code == 0, done.err
    figures = summary(root)
    assert (figures["mode"], figures["labels_answered"]) == ("async", LABELS)
    assert label_counts(root) == (LABELS, LABELS)
    reward = json.loads((root / "config.json").read_text())["config"]["reward"]
    pretraining = reward["pretrain_comparisons"] / reward["batch_size"]
    most = pretraining + figures["steps"] * reward["comparisons_per_step"] / reward["batch_size"]
    assert pretraining <= figures["reward_updates"] <= most + 1


def test_a_killed_learner_is_noticed_and_the_run_continues_when_resumed(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with live(tmp_path / "log", *training(root)) as command:
        command.until_step(root, 1500)
        command.learner().kill()
        assert command.wait(SECONDS) == 1
        line = next(line for line in command.err.splitlines() if line.startswith("prefrl: "))
        assert "reward learner" in line
        assert "signal 9" in line
        assert f"prefrl resume {root}" in line
        assert "Traceback" not in command.err
    before = stored_labels(root)
    assert before
    assert "signal 9" in prefrl("status", root).out
    with live(tmp_path / "log", "resume", root) as command:
        step = progress(root)["step"]
        command.until_step(root, step + 3000)
        assert stored_labels(root)[: len(before)] == before


@pytest.mark.parametrize("state", ["recording", "pretraining"])
def test_a_learner_killed_before_training_is_noticed(state: str, tmp_path: Path) -> None:
    root = tmp_path / "run"
    # Pretraining that takes for ever, or recording that does: labels enough to need many segments.
    changes = {"recording": "queries.initial_fraction=0.9", "pretraining": "reward.pretrain_comparisons=100000000"}
    with live(tmp_path / "log", *training(root, settings=(changes[state],))) as command:
        command.learner().kill()
        assert command.wait(SECONDS) == 1
        assert "reward learner" in command.err.splitlines()[-1]
        assert "Traceback" not in command.err


def test_a_killed_learner_is_noticed_within_seconds_where_the_environment_is_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "run"
    (tmp_path / "slowenv.py").write_text(SLOW_ENV)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # A round of 8,192 steps takes 41 s of sleeping; the first 1,024 steps take 5 s.
    settings = ("round_steps=8192", "queries.segment_length=5", "queries.initial_fraction=0.1")
    arguments = tiny("slowenv:Slow-v0", root, "--mode", "async", settings=settings, steps=LONG)
    with live(tmp_path / "log", *arguments) as command:
        weights = root / "reward_model" / "weights.safetensors"
        until(lambda: command.ended() or weights.exists(), "a learned reward")
        command.learner().kill()
        assert command.wait(SECONDS) == 1
        assert "reward learner" in command.err.splitlines()[-1]


def test_no_learner_survives_a_killed_agent(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with live(tmp_path / "log", *training(root)) as command:
        command.until_step(root, 1500)
        family = command.family()
        assert command.learner() in family
        command.send(signal.SIGKILL)
        command.wait()
        all_gone(family)
    assert prefrl("status", root).out.splitlines()[-1] == f"resume with: prefrl resume {root}"


def test_no_learner_survives_an_agent_killed_while_it_starts(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with live(tmp_path / "log", *training(root), loaded=False) as command:
        command.learner()
        family = command.family()
        command.send(signal.SIGKILL)
        command.wait()
        all_gone(family)


@pytest.mark.parametrize(
    ("number", "group"),
    [
        pytest.param(signal.SIGINT, True, id="ctrl-c"),
        pytest.param(signal.SIGTERM, True, id="sigterm-to-all"),
        pytest.param(signal.SIGTERM, False, id="sigterm"),
        pytest.param(signal.SIGINT, False, id="sigint", marks=pytest.mark.slow),
    ],
)
def test_a_signal_stops_both_cleanly(number: signal.Signals, group: bool, tmp_path: Path) -> None:
    root = tmp_path / "run"
    with live(tmp_path / "log", *training(root)) as command:
        command.until_step(root, 1500)
        family = command.family()
        command.send(number, group=group)
        assert command.wait() == 1
        assert "Traceback" not in command.err
        assert command.err.splitlines()[-1] == f"prefrl: stopped; resume with: prefrl resume {root}"
        all_gone(family)


def test_ctrl_c_while_the_learner_starts_leaves_no_traceback_and_no_process(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with live(tmp_path / "log", *training(root), loaded=False) as command:
        command.learner()
        family = command.family()
        command.send(signal.SIGINT, group=True)
        assert command.wait() == 1
        all_gone(family)
        assert "Traceback" not in command.err


def test_an_interrupt_is_looked_after_before_libraries_start_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Some swallow what is raised while they are imported."""
    handlers: list[object] = []

    def start() -> None:
        handlers.append(signal.getsignal(signal.SIGINT))
        os.kill(os.getpid(), signal.SIGINT)
        raise PrefrlError("nothing more of it is wanted")

    monkeypatch.setattr(launch, "start_learner", start)
    before = signal.getsignal(signal.SIGINT)
    assert "nothing more" in error_line(prefrl(*training(tmp_path / "run")))
    assert handlers != [before]
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_ctrl_c_at_any_moment_of_the_start_stops_the_run(seconds: float, tmp_path: Path) -> None:
    with live(tmp_path / "log", *training(tmp_path / "run"), loaded=False) as command:
        time.sleep(seconds)
        family = command.family()
        command.send(signal.SIGINT, group=True)
        assert command.wait() == 1
        all_gone(family)
        assert "Traceback" not in command.err


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with live(tmp_path / "log", *training(root, settings=("round_steps=1000000",))) as command:
        command.until_step(root, 1500)  # it trains, in a round without an end
        family = command.family()
        command.send(signal.SIGINT)
        until(lambda: "interrupt again" in command.err, "the first Ctrl-C to be noticed")
        command.send(signal.SIGINT)
        assert command.wait() == 1
        assert "Traceback" not in command.err
        all_gone(family)


def goes_on(command: Live, root: Path, steps: int) -> None:
    """The agent takes that many steps more."""
    command.until_step(root, progress(root)["step"] + steps)


def test_the_agent_does_not_wait_for_a_learner_that_stands_still(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with live(tmp_path / "log", *training(root)) as command:
        command.until_step(root, 1500)
        learner = command.learner()
        learner.suspend()
        weights = root / "reward_model" / "weights.safetensors"
        stamp = weights.stat().st_mtime_ns
        labels = len(stored_labels(root))
        goes_on(command, root, 20_000)
        assert weights.stat().st_mtime_ns == stamp  # it really stood still
        assert len(stored_labels(root)) >= labels
        learner.resume()
        until(lambda: weights.stat().st_mtime_ns != stamp, "newer weights once it goes on")
        goes_on(command, root, 1000)


def test_the_learner_does_not_wait_for_an_agent_that_stands_still(tmp_path: Path) -> None:
    root = tmp_path / "run"
    # Work enough for the learner to be busy for long after the agent stopped at its first rounds.
    settings = ("reward.comparisons_per_step=100",)
    with live(tmp_path / "log", *training(root, settings=settings)) as command:
        command.until_step(root, 1500)
        command.learner()
        command.send(signal.SIGSTOP)
        weights = root / "reward_model" / "weights.safetensors"
        for _ in range(3):
            stamp = weights.stat().st_mtime_ns
            until(lambda stamp=stamp: weights.stat().st_mtime_ns != stamp, "newer weights")
        command.send(signal.SIGCONT)
        goes_on(command, root, 1000)


def test_a_learner_that_fails_gives_the_reason(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "run"
    with live(tmp_path / "log", *training(root)) as command:
        command.until_step(root, 1500)
        command.send(signal.SIGINT)
        assert command.wait() == 1
    state = root / "checkpoints" / "learner.safetensors"
    state.unlink(missing_ok=True)
    state.mkdir()
    done = prefrl("resume", root)
    assert done.code == 1
    error_line(done)
    assert "reward learner: IsADirectoryError" in capfd.readouterr().err


def test_a_command_that_cannot_begin_leaves_no_learner_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prefrl", "train", "nonsense", "--out", str(tmp_path / "run")],
        env=os.environ | {"MARKED_BY_TEST": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("prefrl: unknown task")
    left = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get("MARKED_BY_TEST") == str(tmp_path):
                left.append(process.cmdline())
    assert left == []
