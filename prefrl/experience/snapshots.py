"""Save and restore the state of a simulator as plain arrays, so that resuming a run is exact."""

from __future__ import annotations

import copy
import functools
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit

from prefrl.storage.files import Tree

Env = gymnasium.Env[Any, Any]


def save_env(env: Env) -> Tree | None:
    """Return the complete state of an environment.

    Args:
        env: A MuJoCo environment, with attributes `model` and `data`; a Gymnasium classic-control environment, whose
            state is the array `state`; or an environment with methods `save_state() -> dict` (of arrays and plain
            values) and `load_state(dict)`. A MuJoCo environment may have these methods for what it keeps in addition.

    Returns:
        The state, or None if the simulator cannot be saved.
    """
    base = env.unwrapped
    simulator: Tree = {}
    if _is_mujoco(base):
        simulator["mujoco"] = _mujoco_arrays(base)
    elif _is_classic(base):
        simulator["state"] = np.asarray(base.state, dtype=np.float64)  # type: ignore[attr-defined]
    if hasattr(base, "save_state"):
        simulator["own"] = copy.deepcopy(base.save_state())
    if not simulator:
        return None
    limit = _time_limit(env)
    elapsed = limit._elapsed_steps if limit else None
    return {"simulator": simulator, "elapsed": elapsed, "rng": copy.deepcopy(base.np_random.bit_generator.state)}


def load_env(env: Env, saved: Tree) -> None:
    """Restore a state from `save_env`; the environment must have been reset before."""
    base = env.unwrapped
    simulator = saved["simulator"]
    if "own" in simulator:  # first: it may move parts of the MuJoCo model
        base.load_state(simulator["own"])  # type: ignore[attr-defined]
    if "mujoco" in simulator:
        _load_mujoco(base, simulator["mujoco"])
    elif "state" in simulator:
        kind = type(base.state)  # type: ignore[attr-defined]
        state = simulator["state"]
        base.state = tuple(state.tolist()) if kind is tuple else state  # type: ignore[attr-defined]
    if limit := _time_limit(env):
        limit._elapsed_steps = saved["elapsed"]
    base.np_random.bit_generator.state = saved["rng"]


def _is_mujoco(base: Any) -> bool:
    return hasattr(base, "data") and type(base.data).__module__.startswith("mujoco")


def _is_classic(base: Any) -> bool:
    return type(base).__module__.startswith("gymnasium.envs.classic_control") and hasattr(base, "state")


def _time_limit(env: Env) -> TimeLimit[Any, Any] | None:
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, TimeLimit):
            return env
        env = env.env
    return None


def _mujoco_arrays(base: Any) -> Tree:
    """Return the full integration state and all derived arrays of fixed size.

    Derived arrays (body positions, contact forces) lag behind the state by a fraction of a step, and the next
    observations and rewards may be differences to them. `mj_forward` would not reproduce them.
    """
    import mujoco  # noqa: PLC0415 - not every task needs it

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(base.model, kind))
    mujoco.mj_getState(base.model, base.data, state, kind)
    arrays = [array for _, array in _derived(base.data)]
    # One array: a checkpoint of a run with human labels has a thousand states, and many arrays are slow to write.
    sizes = np.array([array.size for array in arrays])
    return {"integration": state, "derived": np.concatenate(arrays, axis=None), "sizes": sizes}


def _load_mujoco(base: Any, saved: Tree) -> None:
    import mujoco  # noqa: PLC0415

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    mujoco.mj_setState(base.model, base.data, saved["integration"], kind)
    mujoco.mj_forward(base.model, base.data)  # sizes contacts and constraints
    mujoco.mj_setState(base.model, base.data, saved["integration"], kind)  # restores the solver's warm start
    values = _values(saved)
    for name, array in _derived(base.data):
        if name in values and values[name].size == array.size:
            array[...] = values[name].reshape(array.shape)


def _values(saved: Tree) -> dict[str, np.ndarray[Any, Any]]:
    """Return a saved state's derived arrays by name, flattened; empty if this MuJoCo version has other arrays."""
    if "sizes" not in saved:  # older versions saved them separately
        return dict(saved["derived"])
    names, sizes = _derived_names(), saved["sizes"]
    return (
        dict(zip(names, np.split(saved["derived"], sizes.cumsum()[:-1]), strict=True))
        if len(names) == len(sizes)
        else {}
    )


def _derived(data: Any) -> list[tuple[str, np.ndarray[Any, Any]]]:
    """Return the simulator's float arrays whose sizes do not depend on the current contacts."""
    return [(name, getattr(data, name)) for name in _derived_names()]


@functools.cache
def _derived_names() -> tuple[str, ...]:
    """Return the names of the derived arrays; cached, because finding them is slower than copying the arrays."""
    import mujoco  # noqa: PLC0415

    data = mujoco.MjData(mujoco.MjModel.from_xml_string("<mujoco/>"))
    arrays = {name: getattr(data, name, None) for name in dir(data) if not name.startswith(("_", "efc_", "contact"))}
    return tuple(
        name
        for name, array in arrays.items()
        if isinstance(array, np.ndarray) and array.dtype == np.float64 and array.flags.writeable
    )
