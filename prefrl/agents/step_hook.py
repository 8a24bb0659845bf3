"""A callback of Stable-Baselines3 that reports each step of a rollout."""

from __future__ import annotations

from collections.abc import Callable

from stable_baselines3.common.callbacks import BaseCallback

from prefrl.experience.environments import ended_episodes


class StepHook(BaseCallback):
    """Calls `step` after each step of a rollout, with the number of episodes that ended in it."""

    def __init__(self) -> None:
        super().__init__()
        self.step: Callable[[int], None] = lambda ended: None

    def _on_step(self) -> bool:
        self.step(ended_episodes(self.locals["infos"]))
        return True
