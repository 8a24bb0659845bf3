"""The baselines of normalised scores: a random policy's return, and the paper's own baselines."""

import gymnasium
import numpy as np
import pytest
from prefrl_benchmarks.random_baseline import random_return, random_returns
from prefrl_benchmarks.report.paper import POINTS, paper_scores


def test_random_returns_are_measured_once(tmp_path, monkeypatch):
    from prefrl_benchmarks import random_baseline

    monkeypatch.setattr(random_baseline, "random_return", {"reacher": -42.0, "cheetah": -7.0}.__getitem__)
    assert random_returns(["reacher"], [tmp_path]) == {"reacher": -42.0}
    monkeypatch.setattr(random_baseline, "random_return", {"cheetah": -8.0}.__getitem__)
    assert random_returns(["reacher", "cheetah"], [tmp_path / "none", tmp_path]) == {"reacher": -42.0, "cheetah": -8.0}
    (tmp_path / "random.json").write_text("{")
    with pytest.raises(KeyError):
        random_returns(["reacher"], [tmp_path])


class Tosses(gymnasium.Env):
    """Episodes of 5 steps; each pays a point for action 1."""

    observation_space = gymnasium.spaces.Box(0.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.zeros(1, np.float32), float(action == 1), self.steps == 5, False, {}


def test_a_random_policy_s_return_is_the_mean_of_its_episodes():
    if "Tosses-v0" not in gymnasium.registry:
        gymnasium.register("Tosses-v0", Tosses)
    actions = gymnasium.spaces.Discrete(2, seed=7)
    points = sum(int(actions.sample()) for _ in range(5 * 8))
    assert random_return("Tosses-v0", episodes=8, seed=7) == points / 8
    assert 10 < points < 30
    returns = [random_return("Tosses-v0", episodes=1, seed=seed) for seed in range(20)]
    assert set(returns) >= {2.0, 3.0}


def test_a_random_policy_s_return_of_a_game_is_of_games_that_the_agent_never_sees_end():
    assert -21 <= random_return("pong", episodes=1) <= -15  # to 21 points, of which chance makes few


def test_the_paper_s_points_are_normalised_by_its_own_baselines():
    assert POINTS["hopper"].scores()[700] == pytest.approx((4480 - 250) / (4180 - 250))
    assert paper_scores(("hopper", "enduro"), 700) is None
    assert paper_scores(("hopper", "walker"), 123) is None
    np.testing.assert_allclose(paper_scores(("reacher",), 350), [[3.7 / 8.2]])
