"""Reported returns of training, of a random policy and of games, against values worked by hand."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from prefrl_benchmarks.random_baseline import random_return
from prefrl_envs.atari import AtariGame, AtariGames

from prefrl.api import train


class Numbered(gymnasium.Env[Any, Any]):
    """The n-th episode of four steps returns n: it pays n at its last step.

    After a reset with a seed, n is that seed, and counts up from there.
    """

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self) -> None:
        self.number = self.time = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.number = self.number + 1 if seed is None else seed
        self.time = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        over = self.time == 4
        return np.zeros(1, np.float32), self.number * float(over), over, False, {}


@pytest.fixture(autouse=True)
def _registered() -> Any:
    gymnasium.register("Numbered-v0", Numbered)
    yield
    del gymnasium.registry["Numbered-v0"]


def test_the_reported_return_is_the_mean_of_the_last_hundred_training_episodes(tmp_path: Any) -> None:
    """One environment, 150 episodes of 4 steps; with seed 7 they return 7, 8, ..., 156."""
    settings = {"agent.n_envs": 1, "agent.n_steps": 60, "agent.batch_size": 60, "evaluation.episodes": 0}
    run = train("Numbered-v0", teacher="none", seed=7, steps=600, out=tmp_path / "run", mode="sync", settings=settings)
    assert run.summary is not None
    # The last hundred are 57, ..., 156: their mean is 106.5, their variance (100^2 - 1) / 12.
    assert run.summary["true_return_mean"] == pytest.approx(106.5)
    assert run.summary["true_return_std"] == pytest.approx(math.sqrt(9999 / 12))


def test_the_random_policy_s_return_is_the_mean_of_all_its_episodes() -> None:
    assert random_return("Numbered-v0", episodes=4, seed=10) == pytest.approx((10 + 11 + 12 + 13) / 4)
    assert random_return("Numbered-v0", episodes=1, seed=10) == 10


def test_the_random_policy_s_return_of_what_never_ends_is_that_of_its_first_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Numbered, "step", lambda self, action: (np.zeros(1, np.float32), 2.0, False, False, {}))
    assert random_return("Numbered-v0", episodes=1) == 2.0 * 27_000


def test_an_engine_s_score_restarts_with_every_game() -> None:
    """Pong pays every point as it is, so that rewards since the last game's end add up to the score of this one."""
    games = AtariGames(2, "pong")
    games.reset(seed=0)
    rng = np.random.default_rng(0)
    paid, steps, ends = np.zeros(2), np.zeros(2, int), [[], []]  # type: tuple[Any, Any, list[list[float]]]
    while min(map(len, ends)) < 2:
        _, rewards, _, _, info = games.step(rng.integers(6, size=2))
        paid, steps = paid + rewards, steps + 1
        for game in np.flatnonzero(info.get("_episode", ())):
            assert info["episode"]["r"][game] == paid[game]
            assert info["episode"]["l"][game] == steps[game]
            ends[game].append(float(paid[game]))
            paid[game] = steps[game] = 0
            assert games.return_so_far[game] == 0
    games.close()
    assert all(-21 <= score < 0 for scores in ends for score in scores)  # a game ends at 21 points for either


def test_the_score_of_a_python_game_restarts_as_well() -> None:
    env = AtariGame("pong")
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    paid, scores = 0.0, list[float]()
    while len(scores) < 2:
        _, reward, _, _, info = env.step(rng.integers(6))
        paid += reward
        if "episode" in info:
            assert info["episode"]["r"] == paid
            scores.append(paid)
            paid = 0.0
    assert all(-21 <= score < 0 for score in scores)
