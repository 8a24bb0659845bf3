"""A point that is moved to the middle: what an action is worth shows in the next reward."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from prefrl.arrays import Array

_HORIZON = 50
_SPEED = 0.1
"""Length of a side of the square of moves, in half sides of the square of places."""


class Point(gymnasium.Env[Any, Any]):
    """Rewards are minus the distance to the middle after the move. Observations are places, in [-1, 1]^2."""

    def __init__(self) -> None:
        """Create the environment."""
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self._place = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Put the point somewhere."""
        super().reset(seed=seed)
        self._place = self.np_random.uniform(-1, 1, 2)
        return self._place.astype(np.float32), {}

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move the point; it stops at the edges."""
        self._place = np.clip(self._place + _SPEED * np.clip(action, -1, 1), -1, 1)
        return self._place.astype(np.float32), -float(np.hypot(*self._place)), False, False, {}


gymnasium.register("Point-v0", f"{__name__}:Point", max_episode_steps=_HORIZON)
