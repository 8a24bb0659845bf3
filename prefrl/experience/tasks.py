"""What can be trained on: named tasks that installed packages offer, or any Gymnasium id.

A package offers tasks through the entry point group `prefrl.tasks`: a table from names to objects with the attributes
of `TaskFacts`. The paper's tasks come that way too, so that the core knows none of them.
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
    true_reward: bool = True


@cache
def known_tasks() -> Mapping[str, TaskFacts]:
    """All named tasks, in the order of their tables."""
    tables: dict[str, TaskFacts] = {}
    for entry_point in entry_points(group="prefrl.tasks"):
        tables |= entry_point.load()
    return tables


def find_task(name: str, env_kwargs: Mapping[str, Any] | None = None, *, people: bool = False) -> TaskFacts:
    """A task by its name, or facts for a Gymnasium id (`Pendulum-v1`, `prefrl/Hopper-v0`, `module:Env-v0`).

    An environment that no table names is tried out. Its clips are 1.5 s at its own frame rate, within the 15 to 60
    steps of the paper, and no longer than most episodes of random actions, so that there are clips to compare from the
    start.

    Args:
        name: What the user calls it.
        env_kwargs: The arguments of its constructor.
        people: Whether people are to see it.

    Raises:
        UsageError: if there is neither, with the nearest names; or if the environment cannot be used, with the reason.
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
    """Try a named task with arguments; without any it is as its table says."""
    if env_kwargs and task.native_engine:
        raise UsageError(f"{task.name} takes no --env-kwargs: an engine of its own steps its copies")
    if env_kwargs:
        check_env(task.env_id, env_kwargs, people=people)
