"""Evaluations: whole episodes of the mean action, against values worked by hand, without side effects on the run."""

from __future__ import annotations

import random

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from prefrl_envs.atari import AtariGame, AtariGames
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from prefrl.experience.engines import EngineVecEnv
from prefrl.experience.evaluation import Episode, Evaluation, evaluate, play_together, undisturbed
from prefrl.recipes import resolve


class Counter(gymnasium.Env):
    """Pays the seed of the reset plus the action for `length` steps; the observation is the seed.

    With `hidden` games, real episodes of two steps are told of in `info`, and none seems to end.
    """

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-10, 10, (1,), np.float32)

    def __init__(self, length=3, *, ends=True, hidden=False):
        self.length, self.ends, self.hidden = length, ends, hidden
        self.seed = self.time = 0

    def reset(self, *, seed=None, options=None):
        self.seed = self.seed + 100 if seed is None else seed
        self.time = 0
        return np.array([self.seed], np.float32), {}

    def step(self, action):
        self.time += 1
        reward = self.seed + float(action[0])
        info = {"episode": {"r": 7.0 * self.time, "l": 2}} if self.hidden and self.time % 2 == 0 else {}
        over = self.ends and self.time >= self.length
        return np.array([self.seed], np.float32), reward, over, False, info


def monitored(*lengths, **kwargs):
    return VecMonitor(DummyVecEnv([lambda length=length: Counter(length, **kwargs) for length in lengths]))


def nothing(observations):
    return np.zeros((len(observations), 1), np.float32)


def test_returns_of_episodes_of_different_length_worked_by_hand():
    played = play_together(monitored(3, 1, 2), nothing, seed=10, most_steps=100)
    assert played == [Episode(30.0, False), Episode(11.0, False), Episode(24.0, False)]


def test_the_policy_s_actions_are_what_is_played():
    played = play_together(monitored(2, 2), lambda seen: seen * 0 + 0.5, seed=1, most_steps=100)
    assert [episode.value for episode in played] == [2 * 1.5, 2 * 2.5]


def test_an_episode_that_never_ends_is_cut():
    assert play_together(monitored(3, ends=False), nothing, seed=5, most_steps=4) == [Episode(20.0, True)]


def test_hidden_episodes_are_the_real_ones():
    assert play_together(monitored(3, ends=False, hidden=True), nothing, seed=5, most_steps=9) == [Episode(14.0, False)]


def test_mean_deviation_and_what_was_cut():
    found = Evaluation((Episode(2.0, False), Episode(4.0, True), Episode(9.0, False)))
    assert (found.mean, found.cut, found.returns) == (5.0, 1, [2.0, 4.0, 9.0])
    assert found.std == pytest.approx(np.sqrt((9 + 1 + 16) / 3))


def counted(**changes):
    return resolve("Counter-v0", teacher="none", settings={"steps": 1000, "agent.n_envs": 4} | changes)


@pytest.fixture(autouse=True)
def _registered():
    gymnasium.register("Counter-v0", Counter, max_episode_steps=3)
    yield
    del gymnasium.registry["Counter-v0"]


@pytest.mark.parametrize("episodes", [1, 4, 5, 10])
def test_every_episode_has_a_seed_of_its_own(episodes):
    told = []
    found = evaluate(counted(), nothing, episodes=episodes, seed=20, tell=told.append)
    assert found.returns == [3.0 * (20 + index) for index in range(episodes)]
    assert told[0] == 0
    assert told == sorted(told)
    assert max(told) < episodes


def test_an_episode_is_no_longer_than_the_run():
    found = evaluate(counted(steps=2), nothing, episodes=2, seed=20)
    assert found.episodes == (Episode(40.0, True), Episode(42.0, True))
    assert evaluate(counted(**{"evaluation.max_steps": 1}), nothing, episodes=1, seed=20).returns == [20.0]


def test_random_states_are_as_before_and_follow_the_seed_within():
    def start():
        random.seed(1)
        np.random.seed(2)  # noqa: NPY002 - what environments may draw from
        torch.manual_seed(3)

    def draw():
        return random.random(), np.random.random(), float(torch.rand(()))  # noqa: NPY002

    start()
    expected, draws = draw(), []
    for _ in range(2):
        start()
        with undisturbed(4):
            draws.append(draw())
        assert draw() == expected
    assert draws[0] == draws[1] != expected
    start()
    with pytest.raises(KeyboardInterrupt), undisturbed(4):
        raise KeyboardInterrupt
    assert draw() == expected


@pytest.mark.parametrize("kind", ["engine", "python"])
def test_a_game_that_is_cut_counts_its_unclipped_score(kind):
    """Q*bert pays 25 for a tile, which the reward clips to 1."""
    envs = EngineVecEnv(AtariGames(2, "qbert")) if kind == "engine" else DummyVecEnv([lambda: AtariGame("qbert")])
    rng = np.random.default_rng(0)
    played = play_together(VecMonitor(envs), lambda seen: rng.integers(6, size=len(seen)), seed=3, most_steps=60)
    envs.close()
    assert all(episode.cut for episode in played)
    assert all(episode.value % 25 == 0 for episode in played)
    assert max(episode.value for episode in played) >= 25
