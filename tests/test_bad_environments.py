"""Environments that cannot be trained on, and values that are not finite: one clear line."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import (
    checkpoints,
    error_line,
    prefrl,
    refused,
    stored_labels,
)

# -- environments ---------------------------------------------------------------------------------------------------

ODD_ENVS = '''
import gymnasium
import numpy as np
from gymnasium import spaces


class Odd(gymnasium.Env):
    """Gives a value that is not finite at a step, once that many steps were taken."""

    action_space = spaces.Box(-1, 1, (1,))
    observation_space = spaces.Box(-np.inf, np.inf, (2,))

    def __init__(self, where="reward", value=np.nan, after=200):
        self.where, self.value, self.after, self.steps = where, value, after, 0

    def observation(self):
        seen = self.np_random.normal(size=2).astype(np.float32)
        if self.where == "observation" and self.steps == self.after:
            seen[1] = self.value
        return seen

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation(), {}

    def step(self, action):
        self.steps += 1
        reward = self.value if self.where == "reward" and self.steps == self.after else float(action[0])
        return self.observation(), reward, False, False, {}


class Short(Odd):
    """Ends after five steps, and does not say so beforehand."""

    def __init__(self):
        super().__init__("nowhere")

    def step(self, action):
        observation, reward, _, truncated, info = super().step(action)
        return observation, reward, self.steps % 5 == 0, truncated, info


class Broken(Odd):
    def __init__(self):
        raise gymnasium.error.DependencyNotInstalled("it needs a licence server")


def spaced(observation, action):
    class Spaced(Odd):
        def __init__(self):
            super().__init__("nowhere")
            self.observation_space, self.action_space = observation, action

    return Spaced


BOX = spaces.Box(-1, 1, (2,))
for where in ("reward", "observation"):
    for name, value in (("NaN", np.nan), ("Inf", np.inf), ("MinusInf", -np.inf)):
        for when, after in (("First", 3), ("Early", 30), ("Late", 400)):
            keywords = {"where": where, "value": value, "after": after}
            gymnasium.register(f"{name}{where.title()}{when}-v0", Odd, max_episode_steps=50, kwargs=keywords)
gymnasium.register("NaNObservationReset-v0", Odd, 50, kwargs={"where": "observation", "after": 0})
gymnasium.register("Short-v0", Short)
gymnasium.register("Ten-v0", Short, max_episode_steps=10)
gymnasium.register("Broken-v0", Broken)
FLOATS = spaces.Box(-np.inf, np.inf, (64, 64, 3), np.float32)
gymnasium.register("Image-v0", spaced(FLOATS, BOX), max_episode_steps=50)
gymnasium.register("Wrong-v0", spaced(spaces.Box(0, 255, (32, 64, 3), np.uint8), BOX), max_episode_steps=50)
gymnasium.register("GraphObservation-v0", spaced(spaces.Dict(a=spaces.Graph(BOX, None)), BOX), max_episode_steps=50)
gymnasium.register("TupleAction-v0", spaced(BOX, spaces.Tuple((BOX, BOX))), max_episode_steps=50)
'''


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module of environments on the path, of this process and of those that it starts."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "oddenvs.py").write_text(ODD_ENVS)
    (folder / "stumbles.py").write_text("raise RuntimeError('a bug at import')\n")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))


SMALL = ("--set", "agent.n_envs=2", "agent.n_steps=64", "round_steps=128", "checkpoint_seconds=0.0")
SMALLER = (*SMALL, "reward.pretrain_comparisons=64", "queries.segment_length=10")


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("when", ["First", "Early"])
@pytest.mark.parametrize("where", ["Reward", "Observation"])
@pytest.mark.parametrize("value", ["NaN", "Inf", "MinusInf"])
def test_a_value_that_is_not_finite_is_refused_before_there_is_a_run(
    value: str, where: str, when: str, tmp_path: Path
) -> None:
    line = refused(prefrl("train", f"oddenvs:{value}{where}{when}-v0", "--out", tmp_path / "run"), 2)
    assert f"found {'nan' if value == 'NaN' else 'inf'}" in line
    assert where.lower() in line
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("where", ["Reward", "Observation"])
@pytest.mark.parametrize("value", ["NaN", "Inf", "MinusInf"])
def test_a_value_from_the_environment_that_is_not_finite(value: str, where: str, tmp_path: Path) -> None:
    root = tmp_path / "run"
    flags = ("--steps", "1500", "--labels", "10", "--mode", "sync", "--out", root, *SMALLER)
    done = prefrl("train", f"oddenvs:{value}{where}Late-v0", *flags)
    assert done.code == 1
    line = error_line(done)
    assert "environment" in line
    assert ("nan" if value == "NaN" else "inf") in line
    assert "the run and its labels are kept: fix the environment, then resume with: prefrl resume" in line
    assert "after 798 steps, the environment" in line  # each of two had taken 399
    assert len(stored_labels(root)) >= 2  # well after the first labels, and after a checkpoint
    assert checkpoints(root)
    assert b"nan" not in (root / "metrics.csv").read_bytes()
    assert "prefrl resume" in prefrl("status", root).out


@pytest.mark.parametrize("task", ["pendulum", "moving-dot", "CartPole-v1"])
def test_an_agent_that_diverges(task: str, tmp_path: Path) -> None:
    flags = ("--teacher", "none", "--steps", "5000", "--out", tmp_path / "run")
    done = prefrl("train", task, *flags, "--set", "agent.learning_rate=1e20")
    assert done.code == 1
    assert "the agent has diverged" in error_line(done)


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize("teacher", ["oracle", "none"])
def test_a_first_observation_that_is_not_finite(teacher: str, tmp_path: Path) -> None:
    flags = ("--teacher", teacher, "--steps", "600", "--labels", "2", "--mode", "sync", "--out", tmp_path / "run")
    line = refused(prefrl("train", "oddenvs:NaNObservationReset-v0", *flags, *SMALLER), 2)
    assert "environment" in line
    assert "found nan" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("odd")
def test_a_value_that_is_not_finite_in_an_asynchronous_run(tmp_path: Path) -> None:
    root = tmp_path / "run"
    flags = ("--steps", "1500", "--labels", "10", "--mode", "async", "--out", root, *SMALLER)
    done = prefrl("train", "oddenvs:NaNRewardLate-v0", *flags)
    assert done.code == 1
    assert "nan" in error_line(done)
    assert stored_labels(root)


@pytest.mark.usefixtures("odd")
@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("oddenvs:Image-v0", "look like images"),
        ("oddenvs:Wrong-v0", "observation has shape (2,), expected (32, 64, 3)"),
        ("oddenvs:GraphObservation-v0", "Graph"),
        ("oddenvs:TupleAction-v0", "Tuple"),
        ("oddenvs:Broken-v0", "licence server"),
        ("oddenvs:Nonsense-v0", "Nonsense-v0"),
        ("nowhere:Nonsense-v0", "nowhere"),
        ("stumbles:Nonsense-v0", "a bug at import"),
    ],
)
def test_an_unsuitable_environment_is_refused_with_the_reason(task: str, reason: str, tmp_path: Path) -> None:
    assert reason in refused(prefrl("train", task, "--out", tmp_path / "run"), 2)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("odd")
def test_a_clip_longer_than_any_episode_there_was(tmp_path: Path) -> None:
    flags = ("--steps", "600", "--labels", "2", "--mode", "sync", "--out", tmp_path / "run", *SMALL)
    done = prefrl("train", "oddenvs:Short-v0", *flags, "queries.segment_length=6")
    assert done.code in {1, 2}
    assert "queries.segment_length" in error_line(done)


@pytest.mark.usefixtures("odd")
def test_a_clip_longer_than_a_time_limit(tmp_path: Path) -> None:
    flags = ("--steps", "600", "--labels", "2", "--out", tmp_path / "run", "--set", "queries.segment_length=11")
    assert "10 steps" in refused(prefrl("train", "oddenvs:Ten-v0", *flags), 2)
