"""Draw the score masks of each game: the screen, the screen with its masks outlined, and the observation.

`python -m prefrl_benchmarks.scripts.masks FOLDER`
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np
from gymnasium import spaces
from prefrl_envs.atari import GAMES, SCREEN, AtariGame

from prefrl.arrays import Array
from prefrl.seeding import stream

_ZOOM = 3
_STEPS = 150


def picture(game: str) -> Array:
    """Three panels side by side, shape (630, 3 * 480, 3), BGR."""
    env = AtariGame(game, noops=0)
    env.reset(seed=0)
    rng, actions = stream(0, "random actions"), env.action_space
    assert isinstance(actions, spaces.Discrete)
    for _ in range(_STEPS):
        observation, *_ = env.step(rng.integers(actions.n))
    size = (SCREEN[1] * _ZOOM, SCREEN[0] * _ZOOM)
    screen = cv2.resize(env.ale.getScreenRGB()[:, :, ::-1], size, interpolation=cv2.INTER_NEAREST)
    outlined = screen.copy()
    for box in GAMES[game].masks:
        corners = ((box.left * _ZOOM - 1, box.top * _ZOOM - 1), (box.right * _ZOOM, box.bottom * _ZOOM))
        cv2.rectangle(outlined, *corners, (0, 0, 255), 1)
    seen = cv2.resize(observation[-1], size, interpolation=cv2.INTER_NEAREST)
    return np.concatenate([screen, outlined, cv2.cvtColor(seen, cv2.COLOR_GRAY2BGR)], axis=1)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name in GAMES:
        cv2.imwrite(str(folder / f"{name}.png"), picture(name))
