"""Actions: what an agent chooses, what an environment takes, and the numbers that a reward model reads.

An agent's own space is a bounded Box of floats, Discrete from 0, or a flat MultiDiscrete or MultiBinary; the
environment's may be a Discrete that starts elsewhere, a Box of whole numbers, or one of several dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from prefrl.arrays import Array

Space = spaces.Space[Any]


def unsuitable_actions(space: Space) -> str | None:
    """Why no agent can choose among these actions; None if one can."""
    if isinstance(space, spaces.Box):
        if 0 in space.shape:
            return "its actions hold no number"
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            return (
                "its actions are unbounded: give their Box finite bounds, "
                "for example with gymnasium.wrappers.RescaleAction"
            )
        return None
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary):
        return None
    kinds = "a Box, Discrete, MultiDiscrete nor MultiBinary"
    return f"its actions are a {type(space).__name__}, neither {kinds}; wrap it to take one of these"


def agent_space(space: Space) -> Space:
    """The space that the agent chooses from, for an environment's own."""
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n)) if space.start != 0 else space
    if isinstance(space, spaces.MultiDiscrete):
        plain = space.nvec.ndim == 1 and not np.any(space.start)
        return space if plain else spaces.MultiDiscrete(space.nvec.ravel())
    if isinstance(space, spaces.MultiBinary):
        return spaces.MultiBinary(int(np.prod(space.shape))) if len(space.shape) != 1 else space
    assert isinstance(space, spaces.Box)
    if not np.issubdtype(space.dtype, np.floating) or space.shape == ():
        shape = space.shape or (1,)
        return spaces.Box(space.low.reshape(shape), space.high.reshape(shape), shape, np.float32)
    return space


def to_environment(space: Space, action: Any) -> Any:
    """One action as the environment takes it: a plain number where discrete, else an array of the space's own type."""
    if isinstance(space, spaces.Discrete):
        return int(np.asarray(action).reshape(())) + int(space.start)
    if isinstance(space, spaces.MultiDiscrete):
        return (np.asarray(action).reshape(space.nvec.shape) + space.start).astype(space.dtype)
    if isinstance(space, spaces.MultiBinary):
        return np.asarray(action).reshape(space.shape).astype(space.dtype)
    assert isinstance(space, spaces.Box)
    taken = np.asarray(action)
    if taken.dtype == space.dtype and taken.shape == space.shape:
        return taken
    taken = taken.reshape(space.shape).astype(np.float64)
    if not np.issubdtype(space.dtype, np.floating):
        taken = np.rint(taken)
    return np.clip(taken, space.low, space.high).astype(space.dtype)


def from_environment(space: Space, actions: Any) -> Array:
    """An environment's own actions, one or many, as the agent chooses them."""
    if isinstance(space, spaces.Discrete):
        return np.asarray(actions) - int(space.start)
    taken = np.asarray(actions)
    lead = taken.shape[: taken.ndim - len(space.shape or ())]
    if isinstance(space, spaces.MultiDiscrete):
        return np.asarray((taken - space.start).reshape(*lead, -1))
    return taken.reshape(*lead, -1) if space.shape == () or isinstance(space, spaces.MultiBinary) else taken


def as_numbers(space: Space, actions: Array) -> Array:
    """What a reward model reads of an agent's actions, each of which may stand under more dimensions.

    Args:
        space: The agent's.
        actions: (..., *action).

    Returns:
        (..., n) one-hot where discrete, one after another where there are several choices; a Box as it is.
    """
    if isinstance(space, spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[actions]
    if isinstance(space, spaces.MultiDiscrete):
        parts = [np.eye(int(n), dtype=np.float32)[actions[..., place]] for place, n in enumerate(space.nvec)]
        return np.concatenate(parts, axis=-1)
    return actions.astype(np.float32) if isinstance(space, spaces.MultiBinary) else actions


def from_numbers(space: Space, numbers: Array) -> Array:
    """The agent's action from what `as_numbers` made of it."""
    if isinstance(space, spaces.Discrete):
        return np.asarray(numbers.argmax())
    if isinstance(space, spaces.MultiDiscrete):
        parts = np.split(numbers, np.cumsum(space.nvec)[:-1])
        return np.array([part.argmax() for part in parts])
    return np.rint(numbers).astype(np.int8) if isinstance(space, spaces.MultiBinary) else numbers
