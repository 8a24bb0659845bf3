"""B-Pref's manipulation tasks (Lee et al., 2021), from Meta-World (Yu et al., 2020). They need the extra `bpref`.

Rewards are Meta-World's own, from 0 to 10 a step. As in B-Pref, the position of the goal is hidden (zeros in the
observation), each episode draws a new position, and episodes have 500 steps. An episode is a success if
`info["success"]` is true at any of its steps.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.mujoco.mujoco_env import MujocoEnv
from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer
from metaworld.env_dict import ALL_V3_ENVIRONMENTS
from numpy.typing import NDArray

_KEPT = (
    "_target_pos",
    "obj_init_pos",
    "init_tcp",
    "_prev_obs",
    "curr_path_length",
    "_obj_to_target_init",
    "window_handle_pos_init",
)
"""What Meta-World keeps beside MuJoCo's data from one step to the next, some of it in single tasks only."""
_VIEW = {"lookat": np.array([0.0, 0.7, 0.1]), "distance": 1.2, "azimuth": 145.0, "elevation": -30.0}
"""From above the robot's side onto what it handles. Meta-World's own cameras are upside down, or far away."""
_PLACES = ("body_pos", "site_pos")
"""What a new episode moves in MuJoCo's model: a door, a drawer, the mark of the goal."""


def make_task(task: str, **kwargs: Any) -> gymnasium.Env[Any, Any]:
    """Make a task.

    Args:
        task: Meta-World's name of it, without its version.
        **kwargs: For the environment, e.g. `render_mode`.
    """
    base = ALL_V3_ENVIRONMENTS[f"{task}-v3"]
    made: gymnasium.Env[Any, Any] = type(base.__name__, (RandomGoals, base), {})(**kwargs)
    return made


class RandomGoals(MujocoEnv):
    """Mixed into a Meta-World environment: a new goal each episode, drawn from `np_random`, and states to save.

    Meta-World's own benchmarks fix 50 goals. Observations are float32, as in B-Pref's replay memory.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.seeded_rand_vec = True
        self._freeze_rand_vec = False
        self._set_task_called = True
        space = self.observation_space
        assert isinstance(space, spaces.Box)
        self.mujoco_renderer = MujocoRenderer(self.model, self.data, _VIEW, self.width, self.height)
        self.observation_space = spaces.Box(np.float32(space.low), np.float32(space.high))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start an episode. Meta-World ignores the seed here."""
        if seed is not None:
            self.np_random, _ = gymnasium.utils.seeding.np_random(seed)
        observation, info = super().reset()
        return _seen(observation), info

    def step(  # type: ignore[override]  # Gymnasium's says float64
        self, action: NDArray[Any]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Step Meta-World's environment."""
        observation, reward, terminated, truncated, info = super().step(action)
        return _seen(observation), float(reward), terminated, truncated, info | {"success": bool(info["success"])}

    def save_state(self) -> dict[str, Any]:
        """Return what the next step depends on beside MuJoCo's data: the goal, and the places of the model's parts."""
        return {"episode": np.concatenate([np.ravel(part) for part in self._parts().values()], dtype=np.float64)}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore a state from `save_state`; the environment must have been reset before."""
        values = state["episode"]
        for name, part in self._parts().items():
            taken, values = values[: np.size(part)], values[np.size(part) :]
            if name in _PLACES:
                part[...] = taken.reshape(part.shape)
            else:
                setattr(self, name, taken.reshape(part.shape) if isinstance(part, np.ndarray) else type(part)(taken[0]))

    def _parts(self) -> dict[str, Any]:
        own: dict[str, Any] = {name: getattr(self, name) for name in _KEPT if hasattr(self, name)}
        return own | {name: getattr(self.model, name) for name in _PLACES}


def _seen(observation: NDArray[np.float64]) -> NDArray[np.float32]:
    return observation.astype(np.float32)
