"""Use Gymnasium's vector environments with Stable-Baselines3."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from prefrl.arrays import Array
from prefrl.errors import UsageError


class EngineVecEnv(VecEnv):
    """A `gymnasium.vector.VectorEnv`, e.g. ale-py's `AtariVectorEnv`, as an SB3 `VecEnv`.

    SB3 expects `infos` as a list of dictionaries, with an episode's last observation in the step that ends it, whereas
    Gymnasium returns a dictionary of arrays. `infos` is converted only for steps that end an episode.
    """

    def __init__(self, engine: VectorEnv[Any, Any, Any]) -> None:
        """Wrap an engine.

        Args:
            engine: A vector environment with `AutoresetMode.SAME_STEP`.

        Raises:
            UsageError: for other autoreset modes, which would give the agent steps that are not transitions.
        """
        mode = engine.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise UsageError(f"a vector environment must reset in the same step, not {mode}: autoreset_mode=SAME_STEP")
        self.engine = engine
        super().__init__(engine.num_envs, engine.single_observation_space, engine.single_action_space)

    def reset(self) -> VecEnvObs:
        """Reset all environments. Seeds set by `seed` apply to this reset only."""
        first = self._seeds[0]  # both libraries use consecutive seeds
        observations, _ = self.engine.reset(seed=None if first is None else int(first))
        self._reset_seeds()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return np.asarray(observations)

    def step_async(self, actions: Array) -> None:
        """Store the actions for `step_wait`; the engine has its own threads."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all environments."""
        observations, rewards, terminated, truncated, told = self.engine.step(self._actions)
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for env in np.flatnonzero(dones):
            infos[env]["TimeLimit.truncated"] = bool(truncated[env] and not terminated[env])
            infos[env]["terminal_observation"] = told["final_obs"][env]
        if "episode" in told:
            for env in np.flatnonzero(told["_episode"]):
                infos[env]["episode"] = {name: values[env].item() for name, values in told["episode"].items()}
        return np.asarray(observations), np.asarray(rewards, np.float32), dones, infos

    def close(self) -> None:
        """Stop the engine."""
        self.engine.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """Return an attribute of the engine for each environment; an array with E rows is split into its rows."""
        value = getattr(self.engine, attr_name)
        each = isinstance(value, np.ndarray) and value.shape[:1] == (self.num_envs,)
        return [value[env] if each else value for env in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Raise AttributeError: the engine's environments are not Python objects."""
        raise AttributeError(f"an engine's environments have no attribute {attr_name!r} to set")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Raise AttributeError: the engine's environments are not Python objects."""
        raise AttributeError(f"an engine's environments have no method {method_name!r}")

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        """Return False for each environment: none is wrapped."""
        return [False for _ in self._get_indices(indices)]

    def get_images(self) -> Sequence[Array | None]:
        """Raise NotImplementedError: engines do not render."""
        raise NotImplementedError("an engine has no screen to show")
