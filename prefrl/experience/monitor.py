"""Monitor the episodes of a run's environments: true returns, and whether an episode was a success."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from prefrl.arrays import Floats
from prefrl.experience.adapter import one_number
from prefrl.storage.files import Tree

ANY_STEP, LAST_STEP = "success", "is_success"
"""Keys of `info` that tell of success. With the first, as in Meta-World, an episode is a success if one of its steps
is; with the second, as in Gymnasium-Robotics and Stable-Baselines3, if its last step is."""
_NEWEST = 100
"""Number of episodes in a success rate; Stable-Baselines3 keeps as many returns."""


class EpisodeMonitor(VecMonitor):
    """A `VecMonitor` that adds the success of an episode to `info["episode"]`, as `success`, where steps tell of it.

    Attributes:
        recent: Success of the newest episodes, at most 100.
    """

    recent: deque[bool]

    def __init__(self, venv: VecEnv) -> None:
        """Wrap E environments."""
        super().__init__(venv)
        self.recent = deque(maxlen=_NEWEST)
        self._success = np.full(self.num_envs, np.nan)
        """(E,) 1 or 0: whether the episode so far is a success; NaN if no step told."""

    def reset(self) -> VecEnvObs:
        """Reset all environments. Unfinished episodes are discarded."""
        self._success[:] = np.nan
        return super().reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Monitor the step."""
        observations, rewards, dones, infos = super().step_wait()
        for env, info in enumerate(infos):
            if ANY_STEP in info or LAST_STEP in info:
                self._success[env] = _so_far(self._success[env], info)
            if "episode" in info:
                self._end(env, info["episode"])
        return observations, rewards, dones, infos

    def success_so_far(self, env: int) -> bool | None:
        """Return whether an environment's unfinished episode is a success; None if no step told."""
        told = self._success[env]
        return None if np.isnan(told) else bool(told)

    @property
    def success_rate(self) -> float | None:
        """Share of successes in `recent`; None if no episode told."""
        return mean_success(self.recent)

    def _end(self, env: int, episode: dict[str, Any]) -> None:
        success = self.success_so_far(env)
        if success is not None:
            episode["success"] = success
            self.recent.append(success)
        self._success[env] = np.nan

    def state_dict(self) -> Tree:
        """Return the returns, lengths and successes of unfinished episodes, and the newest successes."""
        return {
            "returns": self.episode_returns,
            "lengths": self.episode_lengths,
            "success": self._success.copy(),
            "recent_successes": np.array(self.recent, bool),
        }

    def load_state_dict(self, state: Tree, *, exact: bool) -> None:
        """Restore a saved state.

        Args:
            state: From `state_dict`. Those of older versions say nothing of success.
            exact: Whether the environments were restored too. If not, their unfinished episodes are lost.
        """
        self.recent.clear()
        self.recent.extend(np.asarray(state.get("recent_successes", ()), bool).tolist())
        if exact:
            self.episode_returns, self.episode_lengths = state["returns"], state["lengths"]
            self._success = np.array(state.get("success", self._success), np.float64)


def _so_far(before: float, info: dict[str, Any]) -> float:
    """Return whether an episode is a success after one more step: 1, 0, or NaN if no step told."""
    if ANY_STEP in info and (reached := one_number(info[ANY_STEP])) is not None:
        return float(np.fmax(before, reached > 0))
    if LAST_STEP in info and (reached := one_number(info[LAST_STEP])) is not None:
        return float(reached > 0)
    return before


def mean_success(successes: Iterable[bool | None]) -> float | None:
    """Return the share of successes among the episodes that told of it; None if none did."""
    told: Floats = np.array([success for success in successes if success is not None], np.float64)
    return float(told.mean()) if told.size else None
