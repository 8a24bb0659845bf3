"""A run that learns from labels, in about a minute."""

from __future__ import annotations

from pathlib import Path

import gymnasium
import numpy as np
import prefrl_envs  # noqa: F401 - registers the tasks
import pytest
from runs import label_counts, prefrl, summary

pytestmark = pytest.mark.slow


def random_returns(env_id: str, episodes: int = 20) -> np.ndarray:
    """True returns of uniformly random actions."""
    returns = []
    with gymnasium.make(env_id) as env:
        env.action_space.seed(0)
        for episode in range(episodes):
            env.reset(seed=episode)
            total, over = 0.0, False
            while not over:
                _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
                total, over = total + float(reward), terminated or truncated
            returns.append(total)
    return np.array(returns)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_cheetah_learns_to_run_from_labels(mode: str, tmp_path: Path) -> None:
    root = tmp_path / "run"
    done = prefrl("train", "cheetah", "--mode", mode, "--steps", "40000", "--labels", "100", "--out", root)
    assert done.code == 0, done.err
    by_chance = random_returns("prefrl/Cheetah-v0", 5)
    assert label_counts(root) == (100, 100)
    assert summary(root)["reward_correlation"] > 0.4
    played = [float(word) for word in prefrl("play", root, "--episodes", "5").out.rpartition(":")[2].split()]
    assert len(played) == 5
    # Random actions get about -80 with a spread of 60. Three seeds in both modes got 860 to 1,090.
    assert by_chance.max() < 100
    assert min(played) > 400


def test_the_dot_is_steered_from_pixels(tmp_path: Path) -> None:
    root = tmp_path / "run"
    flags = ("--mode", "sync", "--steps", "12000", "--labels", "60", "--out", root)
    done = prefrl("train", "moving-dot", *flags)
    assert done.code == 0, done.err
    by_chance = random_returns("prefrl/MovingDot-v0", 50)
    played = [float(word) for word in prefrl("play", root, "--episodes", "30").out.rpartition(":")[2].split()]
    assert len(played) == 30
    # Random actions get about -30; steering straight to the middle, and staying there, about -5.
    assert np.mean(played) > by_chance.mean() / 1.6
