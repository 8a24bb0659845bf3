"""A dot to be steered to the middle: the smallest task that is learned from pixels, in minutes on a CPU."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

SIZE = 48
"""Rows and columns of a frame."""
STACK = 4
RADIUS = 3
SPEED = 2
"""Pixels a step."""
_MOVES = np.array([(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1)]) * SPEED
_SCALE = 4
"""Screen pixels for a pixel, for a person to see it."""


class MovingDot(gymnasium.Env[Any, Any]):
    """Reward -distance to the middle, in half diagonals: 0 in the middle, -1 in a corner.

    Observations are the last 4 frames, 48 x 48, grey; the dot starts anywhere. Actions: stay, up, down, left, right.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012 - gymnasium's convention

    def __init__(self, render_mode: str | None = None) -> None:
        """Make the task.

        Args:
            render_mode: As for any environment of Gymnasium.
        """
        self.render_mode = render_mode
        self.observation_space = spaces.Box(0, 255, (STACK, SIZE, SIZE), np.uint8)
        self.action_space = spaces.Discrete(len(_MOVES))
        self._dot = np.zeros(2, np.int64)
        self._stack = np.zeros((STACK, SIZE, SIZE), np.uint8)
        rows, columns = np.indices((SIZE, SIZE))
        self._rows, self._columns = rows, columns

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.uint8], dict[str, Any]]:
        """Put the dot somewhere."""
        super().reset(seed=seed)
        self._dot = self.np_random.integers(0, SIZE, size=2)
        self._stack[:] = self._frame()
        return self._stack.copy(), {}

    def step(self, action: Any) -> tuple[NDArray[np.uint8], float, bool, bool, dict[str, Any]]:
        """Move the dot; it stops at the edges."""
        self._dot = np.clip(self._dot + _MOVES[int(action)], 0, SIZE - 1)
        self._stack = np.concatenate([self._stack[1:], self._frame()[None]])
        middle = (SIZE - 1) / 2
        distance = float(np.hypot(*(self._dot - middle)) / np.hypot(middle, middle))
        return self._stack.copy(), -distance, False, False, {}

    def get_action_meanings(self) -> list[str]:
        """Names of the actions, as Atari games have them."""
        return ["NOOP", "UP", "DOWN", "LEFT", "RIGHT"]

    def render(self) -> NDArray[np.uint8]:
        """The screen with a cross in the middle, (192, 192, 3)."""
        frame = np.repeat(np.repeat(self._frame(), _SCALE, axis=0), _SCALE, axis=1)
        screen = np.repeat(frame[:, :, None], 3, axis=2)
        middle = len(screen) // 2
        screen[middle - 1 : middle + 1, middle - 6 : middle + 6] = (200, 60, 60)
        screen[middle - 6 : middle + 6, middle - 1 : middle + 1] = (200, 60, 60)
        return screen

    def save_state(self) -> dict[str, Any]:
        """Everything that the next step depends on, but the random state."""
        return {"dot": self._dot, "stack": self._stack}

    def load_state(self, state: dict[str, Any]) -> None:
        """Go back to a saved state."""
        self._dot, self._stack = state["dot"].copy(), state["stack"].copy()

    def _frame(self) -> NDArray[np.uint8]:
        square = (self._rows - self._dot[0]) ** 2 + (self._columns - self._dot[1]) ** 2
        return np.where(square <= RADIUS**2, 255, 0).astype(np.uint8)
