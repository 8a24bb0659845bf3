"""Save and restore an algorithm of Stable-Baselines3 as plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm

from prefrl.machine.optimiser import load_optimiser_state, optimiser_state
from prefrl.machine.random_state import load_random_state, random_state
from prefrl.storage.files import Tree


def on_policy_state(model: OnPolicyAlgorithm) -> Tree:
    """Return the complete state of the algorithm, including the global random states of torch and NumPy."""
    own = {"optimizer": optimiser_state(model.policy.optimizer), "last_episode_starts": model._last_episode_starts}
    return _state(model) | own


def load_on_policy_state(model: OnPolicyAlgorithm, state: Tree, *, simulators_restored: bool) -> None:
    """Restore a saved state.

    Args:
        model: The algorithm, after `_setup_learn`.
        state: From `on_policy_state`.
        simulators_restored: Whether the simulators were restored too. If not, the agent starts new episodes.
    """
    load_optimiser_state(model.policy.optimizer, state["optimizer"])
    if simulators_restored:
        model._last_episode_starts = state["last_episode_starts"]
    _load_state(model, state, simulators_restored=simulators_restored)


def off_policy_state(model: OffPolicyAlgorithm) -> Tree:
    """Return the complete state of the algorithm without its replay memory; random states as in `on_policy_state`."""
    return _state(model) | {
        "optimisers": {name: optimiser_state(optimiser) for name, optimiser in _optimisers(model).items()},
        "tensors": {name: getattr(model, name) for name in _present(model, _TENSORS)},
        "counters": {name: getattr(model, name) for name in _present(model, _COUNTERS)},
        "actions_rng": model.action_space.np_random.bit_generator.state,
        "last_original_observation": model._last_original_obs,
    }


def load_off_policy_state(model: OffPolicyAlgorithm, state: Tree, *, simulators_restored: bool) -> None:
    """Restore a saved state; arguments as for `load_on_policy_state`."""
    for name, optimiser in _optimisers(model).items():
        load_optimiser_state(optimiser, state["optimisers"][name])
    with torch.no_grad():
        for name in _present(model, _TENSORS):
            getattr(model, name).copy_(torch.from_numpy(state["tensors"][name]))
    for name in _present(model, _COUNTERS):
        setattr(model, name, state["counters"][name])
    model.action_space.np_random.bit_generator.state = state["actions_rng"]
    if simulators_restored:
        model._last_original_obs = state["last_original_observation"]
    _load_state(model, state, simulators_restored=simulators_restored)


_OPTIMISERS = ("policy.optimizer", "actor.optimizer", "critic.optimizer", "ent_coef_optimizer")
_TENSORS = ("log_ent_coef",)
_COUNTERS = ("_n_calls", "_episode_num", "exploration_rate")


def _optimisers(model: OffPolicyAlgorithm) -> dict[str, torch.optim.Optimizer]:
    """Return those of an algorithm's optimisers that it has."""
    found = {}
    for name in _OPTIMISERS:
        owner: Any = model
        for part in name.split("."):
            owner = getattr(owner, part, None)
        if isinstance(owner, torch.optim.Optimizer):
            found[name] = owner
    return found


def _present(model: BaseAlgorithm, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if getattr(model, name, None) is not None]


def _state(model: BaseAlgorithm) -> Tree:
    episodes = model.ep_info_buffer or ()
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 - SB3 uses it
    return {
        "policy": dict(model.policy.state_dict()),
        "steps": model.num_timesteps,
        "updates": model._n_updates,
        "last_observation": model._last_obs,
        "episodes": {name: np.array([float(info[name]) for info in episodes]) for name in ("r", "l")},
        **random_state(),
        "numpy_rng": {"keys": keys, "position": position, "has_gauss": has_gauss, "gauss": gauss},
    }


def _load_state(model: BaseAlgorithm, state: Tree, *, simulators_restored: bool) -> None:
    model.policy.load_state_dict({name: torch.from_numpy(array) for name, array in state["policy"].items()})
    model.num_timesteps, model._n_updates = state["steps"], state["updates"]
    if simulators_restored:
        model._last_obs = state["last_observation"]
    assert model.ep_info_buffer is not None
    model.ep_info_buffer.clear()
    episodes = zip(state["episodes"]["r"], state["episodes"]["l"], strict=True)
    model.ep_info_buffer.extend({"r": float(total), "l": int(length)} for total, length in episodes)
    load_random_state(state)
    rng = state["numpy_rng"]
    np.random.set_state(("MT19937", rng["keys"], rng["position"], rng["has_gauss"], rng["gauss"]))  # noqa: NPY002
