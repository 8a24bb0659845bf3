"""A sample of the states that the agent has visited since it was last asked for."""

from __future__ import annotations

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from prefrl.arrays import Array
from prefrl.storage.files import Tree


class VisitedStates(VecEnvWrapper):
    """Keeps every so many states of all environments, raw as the environments return them."""

    def __init__(self, venv: VecEnv, every: int, most: int) -> None:
        """Wrap E environments.

        Args:
            venv: The environments, before observations are normalised.
            every: Steps of each environment between two states that are kept.
            most: Number of newest states to keep.
        """
        super().__init__(venv)
        self._every, self._most = every, -(-most // self.num_envs)
        self._steps = 0
        self._kept: list[Array] = []

    def reset(self) -> VecEnvObs:
        """Reset all environments."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Keep the states before the next step, if they are due."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._steps += 1
        if self._steps % self._every == 0:
            self._kept.append(np.array(observations))
            del self._kept[: -self._most]
        return observations, rewards, dones, infos

    def take(self) -> Array:
        """Return the (N, *observation) states since the last call."""
        kept, self._kept = self._kept, []
        space = self.observation_space
        return np.concatenate(kept) if kept else np.zeros((0, *(space.shape or ())), space.dtype)

    def state_dict(self) -> Tree:
        """Return the kept states."""
        return {"steps": self._steps, "kept": {str(place): states for place, states in enumerate(self._kept)}}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self._steps = state["steps"]
        self._kept = [state["kept"][key] for key in sorted(state.get("kept", {}), key=int)]
