"""Count the backflips of a trained hopper, and draw a strip of pictures of one episode.

`python -m prefrl_benchmarks.scripts.backflips RUN STRIP.png`
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import cv2
import numpy as np

from prefrl.experience.make_env import make_env
from prefrl.trained.playing import load_policy

EPISODES = 20
_EVERY, _COLUMNS = 10, 10
"""Steps between two pictures (0.08 s), and pictures per row."""


def flips(root: Path, strip: Path) -> list[int]:
    """Play episodes of a run's policy and save a strip of the first one. Returns the backflips of each episode."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    from prefrl.experience.frames import prepare, render  # noqa: PLC0415 - MUJOCO_GL must be set first

    policy = load_policy(root)
    env = make_env("prefrl/HopperBackflip-v0", render_mode="rgb_array")
    prepare(env)
    counts, pictures = [], []
    for episode in range(EPISODES):
        observation, _ = env.reset(seed=episode)
        over, steps = False, 0
        while not over:
            if episode == 0 and steps % _EVERY == 0:
                pictures.append(render(env))
            observation, _, terminated, over, info = env.step(policy(observation))
            assert not terminated
            steps += 1
        counts.append(int(info["flips"]))
    env.close()
    rows = [np.concatenate(pictures[i : i + _COLUMNS], axis=1) for i in range(0, len(pictures), _COLUMNS)]
    half = cv2.resize(np.concatenate(rows), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(strip), half[:, :, ::-1])
    return counts


if __name__ == "__main__":
    done = flips(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"flips per episode: mean {np.mean(done):.2f}, {min(done):d} to {max(done):d}, over {len(done)} episodes")
