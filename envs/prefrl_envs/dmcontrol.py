"""B-Pref's locomotion tasks (Lee et al., 2021), from the DeepMind Control Suite. They need the extra `bpref`.

Rewards are the suite's own, from 0 to 1 a step. The suite's time limit is off, because its step counter is no part of a
saved state: Gymnasium ends episodes after 1,000 steps, as B-Pref does. An action is applied for one control step.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer
from numpy.typing import NDArray


@contextmanager
def _no_renderer() -> Iterator[None]:
    """Keep dm_control from looking for a screen when it is imported. Frames are rendered by Gymnasium, as elsewhere."""
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "disable"
    try:
        yield
    finally:
        del os.environ["MUJOCO_GL"]
        if before is not None:
            os.environ["MUJOCO_GL"] = before


with _no_renderer():
    from dm_control import suite


class ControlTask(gymnasium.Env[NDArray[np.float32], NDArray[np.float32]]):
    """A task of the suite, with the parts of an observation concatenated in the order of its specification.

    Observations are float32, as in B-Pref's replay memory. Actions are from -1 to 1, scaled to what the actuators take:
    some of the quadruped's take less, others more.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - gymnasium's convention

    def __init__(
        self,
        domain: str,
        task: str,
        camera: str,
        *,
        render_mode: str | None = None,
        width: int = 480,
        height: int = 480,
    ) -> None:
        """Make the task.

        Args:
            domain: The suite's name of the body, e.g. "walker".
            task: The suite's name of what it should do, e.g. "walk".
            camera: The suite's name of the camera that frames are rendered from.
            render_mode: As for any environment of Gymnasium.
            width: Of a frame, in pixels.
            height: Of a frame, in pixels.
        """
        self._task = suite.load(domain, task, task_kwargs={"random": 0, "time_limit": float("inf")})
        self._parts = tuple(self._task.observation_spec())
        size = sum(int(np.prod(part.shape)) for part in self._task.observation_spec().values())
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        actuators = self._task.action_spec()
        self._low, self._range = actuators.minimum, actuators.maximum - actuators.minimum
        self.action_space = spaces.Box(-1.0, 1.0, actuators.shape, np.float32)
        self.metadata = self.metadata | {"render_fps": round(1 / self._task.control_timestep())}
        self.render_mode = render_mode
        self.mujoco_renderer = MujocoRenderer(self.model, self.data, width=width, height=height, camera_name=camera)

    @property
    def model(self) -> Any:
        """MuJoCo's model."""
        return self._task.physics.model.ptr

    @property
    def data(self) -> Any:
        """MuJoCo's data."""
        return self._task.physics.data.ptr

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode. Its random pose comes from `np_random`, whose state is saved with the simulator's."""
        super().reset(seed=seed)
        self._task.task.random.seed(int(self.np_random.integers(2**32)))
        return self._seen(self._task.reset().observation), {}

    def step(self, action: NDArray[Any]) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Apply an action for one control step. No episode ends here."""
        step = self._task.step(self._low + (np.asarray(action, np.float64) + 1) / 2 * self._range)
        return self._seen(step.observation), float(step.reward), False, False, {}

    def render(self) -> Any:
        """Render a frame, (height, width, 3)."""
        return self.mujoco_renderer.render(self.render_mode)

    def close(self) -> None:
        """Free the renderer and the simulator."""
        self.mujoco_renderer.close()  # type: ignore[no-untyped-call]
        self._task.close()

    def _seen(self, observation: Mapping[str, Any]) -> NDArray[np.float32]:
        return np.concatenate([np.ravel(observation[part]) for part in self._parts], dtype=np.float32)
