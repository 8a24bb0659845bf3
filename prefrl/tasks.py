"""What can be trained on: named tasks that installed packages offer, or any Gymnasium id.

A package offers tasks through the entry point group `prefrl.tasks`: a table from names to objects with the attributes
of `TaskFacts`. The paper's tasks come that way too, so that the core knows none of them.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol

import gymnasium
from gymnasium import spaces
from gymnasium.vector import VectorEnv

from prefrl import trust
from prefrl.errors import UsageError, unknown
from prefrl.types import is_image

_SMALLEST_IMAGE = 43
"""Pixels each way that the paper's four convolutions need."""


class TaskFacts(Protocol):
    """What a task table says of a task; see `prefrl_envs.Task`."""

    @property
    def name(self) -> str:
        """What a person types."""

    @property
    def env_id(self) -> str:
        """The Gymnasium id."""

    @property
    def horizon(self) -> int | None:
        """Steps in an episode."""

    @property
    def segment_length(self) -> int:
        """L, steps in a clip."""

    @property
    def playback_fps(self) -> int:
        """Steps shown per second."""

    @property
    def instruction(self) -> str:
        """What a labeller is told."""

    @property
    def frame_stack(self) -> int:
        """How many of the newest frames an observation is a stack of; 1 where it is none."""

    @property
    def images(self) -> bool:
        """Whether observations are images."""

    @property
    def native_engine(self) -> bool:
        """Whether Gymnasium's `make_vec` gives an engine that steps many copies at once."""


@dataclass(frozen=True)
class GymnasiumTask:
    """Facts made up for a Gymnasium id that no table names."""

    name: str
    env_id: str
    horizon: int | None
    segment_length: int
    playback_fps: int
    instruction: str = "Prefer the clip in which better things happen; judge only what you see."
    frame_stack: int = 1
    images: bool = False
    native_engine: bool = False


@cache
def known_tasks() -> Mapping[str, TaskFacts]:
    """All named tasks, in the order of their tables."""
    tables: dict[str, TaskFacts] = {}
    for entry_point in entry_points(group="prefrl.tasks"):
        tables |= entry_point.load()
    return tables


def find_task(name: str) -> TaskFacts:
    """A task by its name, or facts for a Gymnasium id (`Pendulum-v1`, `prefrl/Hopper-v0`, `module:Env-v0`).

    A clip of an unknown environment is 1.5 s at its own frame rate, within the 15 to 60 steps of the paper, and no
    longer than most episodes of random actions, so that there are clips to compare from the start.

    Raises:
        UsageError: if there is neither, with the nearest names.
    """
    tasks = known_tasks()
    for task in tasks.values():
        if name in (task.name, task.env_id):
            return task
    module, _, env_id = name.rpartition(":")
    if module:
        trust.import_named(module)
    try:
        spec = gymnasium.spec(env_id)
    except gymnasium.error.Error:
        ids = [*(task.env_id for task in tasks.values()), *gymnasium.registry] if "-v" in name else []
        raise unknown("task", name, tasks, also=ids) from None
    env = make_env(name)
    fps = int(env.metadata.get("render_fps") or 30)
    length = min(max(15, min(60, round(1.5 * fps))), _short_episode(env))
    env.close()
    images = is_image(env.observation_space.shape or (), env.observation_space.dtype)
    return GymnasiumTask(name, name, spec.max_episode_steps, length, fps, images=images)


def _short_episode(env: gymnasium.Env[Any, Any], episodes: int = 10, most: int = 1000) -> int:
    """The lower quartile of the lengths of episodes with random actions; those still under way at the end count too."""
    env.action_space.seed(0)
    lengths: list[int] = []
    steps = 0
    while len(lengths) < episodes and steps < most:
        env.reset(seed=len(lengths))
        length, over = 0, False
        while not over and steps < most:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            length, steps, over = length + 1, steps + 1, terminated or truncated
        lengths.append(length)
    return max(1, sorted(lengths)[(len(lengths) - 1) // 4])


def make_env(env_id: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Make an environment.

    Raises:
        UsageError: if it cannot be made, or is unsuitable.
    """
    known_tasks()  # loading the tables registers their environments
    _quiet_mujoco()
    try:
        with trust.importing(env_id):
            env = gymnasium.make(env_id, **kwargs)
    except (gymnasium.error.Error, ImportError) as error:
        raise UsageError(f"{env_id} cannot be made: {error}") from None
    if reason := unsuitable(env):
        env.close()
        raise UsageError(f"{env_id} is unsuitable: {reason}")
    return env


def unsuitable(env: gymnasium.Env[Any, Any]) -> str | None:
    """Why an environment cannot be trained on; None if it can."""
    observation, action = env.observation_space, env.action_space
    if not isinstance(observation, spaces.Box):
        return f"its observations are a {type(observation).__name__}, not a Box"
    if not isinstance(action, spaces.Box | spaces.Discrete):
        return f"its actions are a {type(action).__name__}, neither a Box nor Discrete"
    if isinstance(action, spaces.Discrete) and action.start != 0:
        return "its discrete actions do not start at 0"
    return _unsuitable_images(observation.shape, observation.dtype)


def _unsuitable_images(shape: tuple[int, ...], dtype: Any) -> str | None:
    if not is_image(shape, dtype):
        return f"its observations look like images but are {dtype}, not uint8" if len(shape) == 3 else None
    if len(shape) == 2:
        return "its observations are images without channels"
    if sorted(shape)[1] < _SMALLEST_IMAGE:
        return f"its images are too small: the reward model's convolutions need {_SMALLEST_IMAGE} pixels each way"
    return None


def make_engine(env_id: str, envs: int) -> VectorEnv[Any, Any, Any]:
    """Many copies of an environment on an engine of its own.

    Raises:
        UsageError: if it cannot be made.
    """
    known_tasks()
    try:
        with trust.importing(env_id):
            return gymnasium.make_vec(env_id, envs, vectorization_mode="vector_entry_point")
    except (gymnasium.error.Error, ImportError) as error:
        raise UsageError(f"{env_id} cannot be made: {error}") from None


def _quiet_mujoco() -> None:
    """MuJoCo writes compiler warnings about Gymnasium's own models to the screen and to a file; log them instead."""
    import mujoco  # noqa: PLC0415 - takes a moment

    def log(text: str | bytes) -> None:
        line = text.decode() if isinstance(text, bytes) else text
        level = logging.DEBUG if "settotalmass" in line else logging.WARNING
        logging.getLogger("mujoco").log(level, line.strip())

    mujoco.set_mju_user_warning(log)
