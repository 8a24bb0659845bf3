"""A wrapper that replaces an environment's reward by a learned reward, for any library based on Gymnasium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium

from prefrl.trained.playing import Reward, load_reward


class LearnedReward(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Returns the reward that a run has learned, and keeps the environment's own in `info["true_reward"]`.

    The environment must be one of the run's task. Apply wrappers that change observations or actions outside this one.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], reward: Reward | str | Path) -> None:
        """Wrap an environment.

        Args:
            env: The environment.
            reward: From `prefrl.load_reward`, or a run directory.

        Raises:
            UsageError: if the directory is not a run, or the run trains on the true reward.
            PrefrlError: if it has published no reward yet, or its files are damaged.
        """
        super().__init__(env)
        self._reward = reward if isinstance(reward, Reward) else load_reward(reward)
        self._observation: Any = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        self._observation, info = self.env.reset(seed=seed, options=options)
        return self._observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take an action. The learned reward depends on the observation before the action, and on the action."""
        learned = float(self._reward(self._observation, action))
        self._observation, true, terminated, truncated, info = self.env.step(action)
        return self._observation, learned, terminated, truncated, info | {"true_reward": true}
