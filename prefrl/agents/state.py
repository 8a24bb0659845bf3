"""Save and restore an on-policy algorithm of Stable-Baselines3 as plain arrays."""

from __future__ import annotations

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from prefrl.machine.optimiser import load_optimiser_state, optimiser_state
from prefrl.machine.random_state import load_random_state, random_state
from prefrl.storage.files import Tree


def agent_state(model: BaseAlgorithm) -> Tree:
    """Return the complete state of the algorithm, including the global random states of torch and NumPy."""
    episodes = model.ep_info_buffer or ()
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 - SB3 uses it
    return {
        "policy": dict(model.policy.state_dict()),
        "optimizer": optimiser_state(model.policy.optimizer),
        "steps": model.num_timesteps,
        "updates": model._n_updates,
        "last_observation": model._last_obs,
        "last_episode_starts": model._last_episode_starts,
        "episodes": {name: np.array([float(info[name]) for info in episodes]) for name in ("r", "l")},
        **random_state(),
        "numpy_rng": {"keys": keys, "position": position, "has_gauss": has_gauss, "gauss": gauss},
    }


def load_agent_state(model: BaseAlgorithm, state: Tree, *, simulators_restored: bool) -> None:
    """Restore a saved state.

    Args:
        model: The algorithm, after `_setup_learn`.
        state: From `agent_state`.
        simulators_restored: Whether the simulators were restored too. If not, the agent starts new episodes.
    """
    model.policy.load_state_dict({name: torch.from_numpy(array) for name, array in state["policy"].items()})
    load_optimiser_state(model.policy.optimizer, state["optimizer"])
    model.num_timesteps, model._n_updates = state["steps"], state["updates"]
    if simulators_restored:
        model._last_obs = state["last_observation"]
        model._last_episode_starts = state["last_episode_starts"]
    assert model.ep_info_buffer is not None
    model.ep_info_buffer.clear()
    episodes = zip(state["episodes"]["r"], state["episodes"]["l"], strict=True)
    model.ep_info_buffer.extend({"r": float(total), "l": int(length)} for total, length in episodes)
    load_random_state(state)
    rng = state["numpy_rng"]
    np.random.set_state(("MT19937", rng["keys"], rng["position"], rng["has_gauss"], rng["gauss"]))  # noqa: NPY002
