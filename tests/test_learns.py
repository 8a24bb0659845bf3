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
def test_reacher_is_learned_from_labels(mode: str, tmp_path: Path) -> None:
    root = tmp_path / "run"
    flags = ("--mode", mode, "--steps", "60000", "--labels", "200", "--out", root)
    done = prefrl("train", "reacher", *flags)
    assert done.code == 0, done.err
    by_chance = random_returns("prefrl/Reacher-v0", 50)
    figures = summary(root)
    assert label_counts(root) == (200, 200)
    assert figures["reward_correlation"] > 0.7
    played = [float(word) for word in prefrl("play", root, "--episodes", "20").out.rpartition(":")[2].split()]
    assert len(played) == 20
    # Random actions get about -10 with a spread of 4; no episode can get more than 0.
    assert np.mean(played) > by_chance.mean() / 1.5
    assert np.mean(played) > by_chance.mean() + 3 * by_chance.std() / np.sqrt(20)


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
