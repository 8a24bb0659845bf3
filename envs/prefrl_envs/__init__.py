"""The paper's and B-Pref's tasks as Gymnasium environments; importing this package registers them."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

from prefrl_envs.task import Task
from prefrl_envs.tasks import TASKS

__all__ = ["TASKS", "Task"]

for _task in TASKS.values():
    if _task.env_id not in registry:
        register(
            id=_task.env_id,
            entry_point=_task.entry_point,
            vector_entry_point=_task.vector_entry_point,
            max_episode_steps=_task.horizon,
            kwargs=dict(_task.kwargs),
            # The checker costs several per cent of a step and has nothing to find in environments of our own.
            disable_env_checker=True,
        )
