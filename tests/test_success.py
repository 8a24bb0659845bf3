"""Whether episodes were successes: monitored, evaluated, recorded, resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from helpers import through_file
from runs import assert_equal_runs, figures, prefrl, summary
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor
from test_resume import stop_at

import prefrl as package
from prefrl.experience.evaluation import Episode, Evaluation, play_together
from prefrl.experience.monitor import EpisodeMonitor, mean_success
from prefrl.runs.directory import RunDirectory
from prefrl.runs.metrics import read_metrics

SETTINGS = {
    "agent.n_envs": 2,
    "agent.n_steps": 32,
    "agent.n_epochs": 1,
    "round_steps": 64,
    "reward.pretrain_comparisons": 32,
    "queries.segment_length": 5,
    "evaluation.episodes": 2,
}


class Told(gymnasium.Env[Any, Any]):
    """Episodes of as many steps as there are infos, which are told one after the other."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, *infos: dict[str, Any], render_mode: str | None = None) -> None:
        self._infos, self._step, self.render_mode = infos, 0, render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._step = 0
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._step += 1
        seen = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        return seen, float(seen[0]), False, self._step == len(self._infos), dict(self._infos[self._step - 1])

    def save_state(self) -> dict[str, Any]:
        return {"step": self._step}

    def load_state(self, state: dict[str, Any]) -> None:
        self._step = state["step"]


class Chance(Told):
    """Episodes of eight steps; a step succeeds by chance."""

    def __init__(self, render_mode: str | None = None) -> None:
        super().__init__(*[{}] * 8, render_mode=render_mode)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        *rest, _ = super().step(action)
        return *rest, {"success": bool(self.np_random.random() < 0.05)}  # type: ignore[return-value]


class Never(Chance):
    """Says that no episode was a success, as Gymnasium-Robotics does."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        *rest, _ = super().step(action)
        return *rest, {"is_success": np.float32(0)}  # type: ignore[return-value]


def said(*infos: dict[str, Any]) -> object:
    """What the monitor says of the success of an episode with these infos."""
    envs = EpisodeMonitor(DummyVecEnv([lambda: Told(*infos)]))
    envs.reset()
    for _ in infos:
        _, _, dones, told = envs.step(np.zeros((1, 1)))
    assert dones.all()
    return told[0]["episode"].get("success")


@pytest.mark.parametrize(
    ("infos", "success"),
    [
        ([{"success": False}, {"success": True}, {"success": False}], True),
        ([{"success": 0.0}, {"success": np.float64(1)}, {"success": 0.0}], True),
        ([{"success": False}, {"success": False}], False),
        ([{}, {"success": 1}, {}], True),
        ([{"is_success": True}, {"is_success": False}], False),
        ([{"is_success": False}, {"is_success": np.array([1.0])}], True),
        ([{"is_success": False}, {}], False),
        ([{"success": True, "is_success": False}, {"success": False, "is_success": False}], True),
        ([{"success": "yes"}, {"success": None}], None),
        ([{"success": np.nan}], False),
        ([{}, {"other": True}], None),
    ],
)
def test_success_at_any_step_and_is_success_at_the_last(infos: list[dict[str, Any]], success: bool | None) -> None:
    assert said(*infos) is success


def test_an_episode_s_success_is_none_of_the_next_s() -> None:
    first = [{"success": True}, {"success": False}]
    env = Told(*first)
    envs = EpisodeMonitor(DummyVecEnv([lambda: env]))
    envs.reset()
    envs.step(np.zeros((1, 1)))
    assert envs.success_so_far(0) is True
    envs.reset()
    assert envs.success_so_far(0) is None
    for _ in range(2):
        envs.step(np.zeros((1, 1)))
    env._infos = ({"success": False}, {"success": False})
    for _ in range(2):
        _, _, _, told = envs.step(np.zeros((1, 1)))
    assert told[0]["episode"]["success"] is False
    assert list(envs.recent) == [True, False]
    assert envs.success_rate == 0.5


def test_the_rate_is_over_the_newest_hundred_episodes() -> None:
    envs = EpisodeMonitor(DummyVecEnv([lambda: Told({"success": 1})] * 2))
    envs.reset()
    assert envs.success_rate is None
    envs.recent.extend([False] * 100)
    for _ in range(15):
        envs.step(np.zeros((2, 1)))
    assert envs.success_rate == 0.3


def test_a_restored_monitor_knows_of_unfinished_episodes_and_one_of_an_older_version_does_not(tmp_path: Path) -> None:
    infos = [{"success": True}, {"success": False}, {"success": False}]

    def monitor() -> EpisodeMonitor:
        envs = EpisodeMonitor(DummyVecEnv([lambda: Told(*infos), lambda: Told({}, {}, {})]))
        envs.reset()
        return envs

    one, other, older = monitor(), monitor(), monitor()
    one.recent.extend([True, False])
    one.step(np.zeros((2, 1)))
    state = through_file(tmp_path, one.state_dict())
    other.load_state_dict(state, exact=True)
    assert [other.success_so_far(env) for env in (0, 1)] == [True, None]
    assert list(other.recent) == [True, False]
    assert other.episode_lengths.tolist() == [1, 1]
    other.load_state_dict(state, exact=False)
    older.load_state_dict({name: state[name] for name in ("returns", "lengths")}, exact=True)
    assert [older.success_so_far(env) for env in (0, 1)] == [None, None]
    assert older.episode_lengths.tolist() == [1, 1]
    assert older.success_rate is None


def test_environments_that_were_not_restored_start_new_episodes() -> None:
    envs = EpisodeMonitor(DummyVecEnv([lambda: Told({"success": True}, {})]))
    envs.reset()
    envs.recent.append(True)
    envs.step(np.zeros((1, 1)))
    state = envs.state_dict()
    envs.reset()
    envs.load_state_dict(state, exact=False)
    assert envs.success_so_far(0) is None
    assert envs.episode_lengths.tolist() == [0]
    assert list(envs.recent) == [True]


def test_an_evaluation_counts_the_episodes_that_told() -> None:
    def play(monitor: type[VecMonitor]) -> list[Episode]:
        makers = [[{"success": True}, {}, {}], [{}, {"is_success": False}], [{}], [{}, {"success": True}, *[{}] * 9]]
        envs = monitor(DummyVecEnv([lambda infos=infos: Told(*infos) for infos in makers]))  # type: ignore[misc]
        return play_together(envs, lambda seen: np.zeros((len(seen), 1)), seed=0, most_steps=5)

    played = play(EpisodeMonitor)
    assert [(episode.success, episode.cut) for episode in played] == [
        (True, False),
        (False, False),
        (None, False),
        (True, True),
    ]
    assert Evaluation(tuple(played)).success_rate == pytest.approx(2 / 3)
    assert [episode.success for episode in play(VecMonitor)] == [None] * 4
    assert mean_success([None]) is None


def train(env: Any, root: Path, **chosen: Any) -> dict[str, Any]:
    package.train(env, out=root, mode="sync", steps=640, labels=6, settings=SETTINGS, **chosen)
    return summary(root)


@pytest.mark.parametrize("teacher", ["oracle", "none"])
def test_a_run_records_the_success_that_a_user_s_environment_tells_of(teacher: str, tmp_path: Path) -> None:
    found = train(Chance, tmp_path / "run", teacher=teacher)
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert 0.1 < found["success_rate"] < 0.7  # 1 - 0.95 ** 8 = 0.34
    assert found["evaluation_success_rate"] in (0, 0.5, 1)
    assert rows[-1]["success_rate"] == pytest.approx(found["success_rate"])
    assert rows[-1]["evaluation_success_rate"] == found["evaluation_success_rate"]
    assert [row["evaluation_success_rate"] for row in rows[:-1]] == [None] * (len(rows) - 1)
    assert "success rate" in prefrl("status", tmp_path / "run").out
    assert all(0 <= row["success_rate"] <= 1 for row in rows)


def test_a_task_that_tells_of_failure_alone_has_a_rate_of_zero_and_others_have_none(tmp_path: Path) -> None:
    never = train(Never, tmp_path / "never")
    assert (never["success_rate"], never["evaluation_success_rate"]) == (0, 0)
    silent = train("Pendulum-v1", tmp_path / "silent")
    assert (silent["success_rate"], silent["evaluation_success_rate"]) == (None, None)
    header, *rows = figures(tmp_path / "silent")
    place = header.index("success_rate")
    assert {row[place] for row in rows} == {""}
    assert "success" not in prefrl("status", tmp_path / "silent").out


def test_success_rates_of_a_resumed_run_are_those_of_the_uninterrupted(tmp_path: Path) -> None:
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(Chance, whole)
    config = RunDirectory.open(whole).config
    RunDirectory.create(stopped, config)
    stop_at(stopped, 300)
    assert not (stopped / "summary.json").exists()
    package.resume(stopped, env=Chance)
    assert_equal_runs(whole, stopped)
