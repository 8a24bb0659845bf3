"""What it takes to show a segment later: the simulator's state at its first step, so that nothing is rendered before.

Environments whose state cannot be saved are filmed as they go, which is slow.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np

from prefrl.arrays import Array
from prefrl.errors import UsageError
from prefrl.experience.clips import LARGEST_FRAMES, MOST_PIXELS
from prefrl.experience.env_errors import EnvError
from prefrl.experience.frames import render
from prefrl.experience.snapshots import save_env
from prefrl.storage.files import Tree
from prefrl.storage.reading import inflated


class Scenes:
    """Takes a scene of each segment as it begins, in step with the recorder that cuts the segments."""

    def __init__(self, envs: Sequence[gymnasium.Env[Any, Any]], length: int) -> None:
        """Watch environments.

        Args:
            envs: They are stepped together, and reset by themselves at an episode's end.
            length: L, steps of a segment.
        """
        self._envs, self._length = envs, length
        self.reset()

    def reset(self) -> None:
        """Every environment was reset: segments that had begun are dropped."""
        self._position = np.zeros(len(self._envs), dtype=np.int64)
        self._begun: list[deque[Tree]] = [deque() for _ in self._envs]
        self._taken: list[Tree | None] = [None] * len(self._envs)
        """Each environment's newest scene of a segment that has been cut."""

    def before_step(self) -> None:
        """Note where the environments stand that are at the first step of a segment.

        Raises:
            EnvError: if one whose state cannot be saved cannot be filmed any more.
        """
        for env, begun, position in zip(self._envs, self._begun, self._position, strict=True):
            if position == 0:
                state = save_env(env)
                begun.append({"film": {}} if state is None else {"state": state})
            if "film" in begun[-1]:
                begun[-1]["film"][f"{position:06d}"] = _frame(env)

    def after_step(self, dones: Array) -> None:
        """Count the step; an episode's end (E,) ends a segment too."""
        self._position = np.where(dones, 0, (self._position + 1) % self._length)

    def take(self, env: int) -> Tree:
        """The scene of an environment's oldest segment, which has just been cut."""
        self._taken[env] = scene = self._begun[env].popleft()
        return scene

    def take_last(self, env: int, lead: Array) -> Tree:
        """The scene of the last L steps before an episode's end, which begin within the segment that was taken before.

        Args:
            env: The environment.
            lead: (N, *action) the actions from that segment's first step to the first of these.
        """
        begun, before = self._begun[env].popleft(), self._taken[env]
        assert before is not None
        if "film" not in before:
            return before | {"lead": lead.copy()}
        frames = [scene["film"][key] for scene in (before, begun) for key in sorted(scene["film"])]
        return {"film": {f"{place:06d}": frame for place, frame in enumerate(frames[-self._length :])}}

    def drop(self, env: int) -> None:
        """An environment's oldest segment ended too early to be one."""
        self._begun[env].popleft()

    def state_dict(self) -> Tree:
        """The scenes of segments that have begun."""
        begun = {
            str(env): {str(index): scene for index, scene in enumerate(scenes)}
            for env, scenes in enumerate(self._begun)
        }
        taken = {str(env): scene for env, scene in enumerate(self._taken) if scene is not None}
        return {"position": self._position, "begun": begun, "taken": taken}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self._position = state["position"]
        scenes = (state["begun"].get(str(env), {}) for env in range(len(self._envs)))
        self._begun = [deque(kept[key] for key in sorted(kept, key=int)) for kept in scenes]
        self._taken = [state.get("taken", {}).get(str(env)) for env in range(len(self._envs))]


def scene_frames(scene: Tree) -> list[Array] | None:
    """The frames (H, W, 3) of a scene that was filmed; None where there is a state to replay from."""
    if "film" not in scene:
        return None
    frames: list[Array] = []
    left = LARGEST_FRAMES
    for key in sorted(scene["film"]):
        frames.append(_unpack(scene["film"][key], left))
        left -= frames[-1].nbytes
    return frames


def _frame(env: gymnasium.Env[Any, Any]) -> Tree:
    try:
        return _pack(render(env))
    except UsageError as error:  # it could when it was tried
        raise EnvError(f"clips cannot be filmed any more: {error}") from error


def _pack(frame: Array) -> Tree:
    return {"deflated": np.frombuffer(zlib.compress(frame.tobytes(), 1), np.uint8), "shape": list(frame.shape)}


def _unpack(kept: Tree, most: int) -> Array:
    height, width, channels = kept["shape"]
    size = height * width * channels
    if not 0 < size <= min(MOST_PIXELS * 4, most):
        raise ValueError(f"a frame cannot be of {height}x{width}x{channels}")
    return np.frombuffer(inflated(kept["deflated"].tobytes(), size), np.uint8).reshape(kept["shape"])
