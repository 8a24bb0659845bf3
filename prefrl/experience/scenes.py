"""Scenes: the simulator's state at the first step of a segment, from which its clip is rendered on demand.

Environments whose state cannot be saved are rendered during training instead, which is slow.
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
from prefrl.storage.files import Tree, size_of
from prefrl.storage.reading import inflated

_SPARE = 2**14
"""Bytes beyond a state or a frame: names, and what compression adds to a frame that cannot be compressed."""


class Scenes:
    """Records a scene at the start of each segment, in step with the recorder."""

    def __init__(self, envs: Sequence[gymnasium.Env[Any, Any]], length: int) -> None:
        """Initialise the scenes.

        Args:
            envs: The environments, which are stepped together and reset automatically.
            length: L, the number of steps of a segment.
        """
        self._envs, self._length = envs, length
        self.reset()

    def reset(self) -> None:
        """Discard unfinished segments, after all environments were reset."""
        self._position = np.zeros(len(self._envs), dtype=np.int64)
        self._begun: list[deque[Tree]] = [deque() for _ in self._envs]
        self._taken: list[Tree | None] = [None] * len(self._envs)
        """For each environment, the scene of the segment that was cut last."""

    @property
    def largest(self) -> int:
        """Bytes that a scene can have: twice the present state, because states may grow, or the frames uncompressed."""
        state = save_env(self._envs[0])
        if state is None:
            return self._length * (render(self._envs[0]).nbytes + _SPARE)
        return 2 * size_of(state) + _SPARE

    def before_step(self) -> None:
        """Save the state of each environment that is at the first step of a segment; call this before each step.

        Raises:
            EnvError: if an environment without saved states cannot be rendered.
        """
        for env, begun, position in zip(self._envs, self._begun, self._position, strict=True):
            if position == 0:
                state = save_env(env)
                begun.append({"film": {}} if state is None else {"state": state})
            if "film" in begun[-1]:
                begun[-1]["film"][f"{position:06d}"] = _frame(env)

    def after_step(self, dones: Array) -> None:
        """Count the step; (E,) dones end a segment early."""
        self._position = np.where(dones, 0, (self._position + 1) % self._length)

    def take(self, env: int) -> Tree:
        """Return the scene of an environment's oldest segment, which was just cut."""
        self._taken[env] = scene = self._begun[env].popleft()
        return scene

    def take_last(self, env: int, lead: Array) -> Tree:
        """Return the scene of an episode's last L steps, which start within the segment that was taken before.

        Args:
            env: Index of the environment.
            lead: (N, *action): the actions from the first step of that segment to the first of the last L steps.
        """
        begun, before = self._begun[env].popleft(), self._taken[env]
        assert before is not None
        if "film" not in before:
            return before | {"lead": lead.copy()}
        frames = [scene["film"][key] for scene in (before, begun) for key in sorted(scene["film"])]
        return {"film": {f"{place:06d}": frame for place, frame in enumerate(frames[-self._length :])}}

    def drop(self, env: int) -> None:
        """Discard an environment's oldest segment, which ended before it had L steps."""
        self._begun[env].popleft()

    def state_dict(self) -> Tree:
        """Return the scenes of unfinished segments."""
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
    """Return the (H, W, 3) frames of a scene, or None if the scene is a simulator state to replay."""
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
    except UsageError as error:  # rendering worked in the check of the environment
        raise EnvError(f"clips can no longer be rendered: {error}") from error


def _pack(frame: Array) -> Tree:
    return {"deflated": np.frombuffer(zlib.compress(frame.tobytes(), 1), np.uint8), "shape": list(frame.shape)}


def _unpack(kept: Tree, most: int) -> Array:
    height, width, channels = kept["shape"]
    size = height * width * channels
    if not 0 < size <= min(MOST_PIXELS * 4, most):
        raise ValueError(f"a frame cannot be of {height}x{width}x{channels}")
    return np.frombuffer(inflated(kept["deflated"].tobytes(), size), np.uint8).reshape(kept["shape"])
