"""Find tasks: named tasks from installed packages, or any Gymnasium id.

A package provides tasks through the entry point group `prefrl.tasks`: a table from names to objects with the attributes
of `TaskFacts`. The paper's tasks are provided in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Protocol

import gymnasium

from prefrl.errors import UsageError
from prefrl.experience.env_checks import check_env
from prefrl.experience.make_env import make_env
from prefrl.experience.suggestions import unknown_task
from prefrl.safety import trust

__all__ = ["GymnasiumTask", "TaskFacts", "find_task", "known_tasks", "make_env"]


class TaskFacts(Protocol):
    """The attributes of a task; see `prefrl_envs.Task`."""

    @property
    def name(self) -> str:
        """Name on the command line."""

    @property
    def env_id(self) -> str:
        """Gymnasium id of the environment."""

    @property
    def horizon(self) -> int | None:
        """Maximum number of steps in an episode; None without a limit."""

    @property
    def segment_length(self) -> int:
        """L, the number of steps in a clip."""

    @property
    def playback_fps(self) -> int:
        """Steps shown per second."""

    @property
    def instruction(self) -> str:
        """Instruction for labellers."""

    @property
    def frame_stack(self) -> int:
        """Number of stacked frames in an observation; 1 without stacking."""

    @property
    def images(self) -> bool:
        """Whether observations are images."""

    @property
    def native_engine(self) -> bool:
        """Whether Gymnasium's `make_vec` returns an engine that steps many environments at once."""


@dataclass(frozen=True)
class GymnasiumTask:
    """A task derived from a Gymnasium id that is in no table."""

    name: str
    env_id: str
    horizon: int | None
    segment_length: int
    playback_fps: int
    instruction: str = "Prefer the clip in which better things happen; judge only what you see."
    frame_stack: int = 1
    images: bool = False
    native_engine: bool = False
    true_reward: bool = True


@cache
def known_tasks() -> Mapping[str, TaskFacts]:
    """Return all named tasks, in the order of their tables."""
    tables: dict[str, TaskFacts] = {}
    for entry_point in entry_points(group="prefrl.tasks"):
        tables |= entry_point.load()
    return tables


def find_task(name: str, env_kwargs: Mapping[str, Any] | None = None, *, people: bool = False) -> TaskFacts:
    """Find a task by its name or Gymnasium id (`Pendulum-v1`, `prefrl/Hopper-v0`, `module:Env-v0`).

    An environment that is in no table is checked by stepping it. Its clips take 1.5 s at its frame rate, limited to the
    15 to 60 steps of the paper. They are at most as long as a short episode with random actions (lower quartile), so
    that clips are available from the start.

    Args:
        name: Name or id.
        env_kwargs: Arguments of the environment's constructor.
        people: Whether people will label its clips.

    Raises:
        UsageError: if the task is unknown, with the nearest names; or if the environment cannot be used.
    """
    tasks = known_tasks()
    for task in tasks.values():
        if name in (task.name, task.env_id):
            _check_arguments(task, env_kwargs, people=people)
            return task
    module, _, env_id = name.rpartition(":")
    if module:
        trust.import_named(module)
    try:
        gymnasium.spec(env_id)
    except gymnasium.error.Error:
        raise unknown_task(name, tasks, (task.env_id for task in tasks.values())) from None
    tried = check_env(name, env_kwargs, people=people)
    short = min(tried.short_episode, tried.horizon or tried.short_episode)
    length = min(max(15, min(60, round(1.5 * tried.fps))), short)
    return GymnasiumTask(name, name, tried.horizon, length, tried.fps, images=tried.images, true_reward=tried.rewarded)


def _check_arguments(task: TaskFacts, env_kwargs: Mapping[str, Any] | None, *, people: bool) -> None:
    """Check a named task with constructor arguments; without arguments, no check is needed."""
    if env_kwargs and task.native_engine:
        raise UsageError(f"{task.name} takes no --env-kwargs: an engine of its own steps its copies")
    if env_kwargs:
        check_env(task.env_id, env_kwargs, people=people)
