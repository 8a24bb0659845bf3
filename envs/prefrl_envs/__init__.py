"""The paper's tasks as Gymnasium environments; importing this package registers them."""

from __future__ import annotations

from gymnasium.envs.registration import register, registry

from prefrl_envs.tasks import TASKS, Task

__all__ = ["TASKS", "Task"]

for _task in TASKS.values():
    if _task.env_id not in registry:
        register(
            id=_task.env_id,
            entry_point=f"prefrl_envs.mujoco:{_task.name.replace('-', '_')}",
            max_episode_steps=_task.horizon,
            # The checker costs several per cent of a step and has nothing to find in environments of our own.
            disable_env_checker=True,
        )
