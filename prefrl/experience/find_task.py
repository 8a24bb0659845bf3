"""Find a task by its name or Gymnasium id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium

from prefrl.errors import UsageError
from prefrl.experience.env_checks import check_env
from prefrl.experience.suggestions import unknown_task
from prefrl.experience.tasks import GymnasiumTask, TaskFacts, known_tasks
from prefrl.safety import trust


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
