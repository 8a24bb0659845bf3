"""Convert actions between the agent's space, the environment's space and the reward model's input.

The agent's space is a bounded Box of floats, a Discrete starting at 0, or a one-dimensional MultiDiscrete or
MultiBinary. The environment's space may also be a Discrete with another start, a Box of integers, or have several
dimensions.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

from prefrl.arrays import Array

Space = spaces.Space[Any]


def unsuitable_actions(space: Space) -> str | None:
    """Return why an action space is not supported, or None if it is."""
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
    """Return the agent's action space for an environment's action space."""
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
    """Convert one action of the agent to the environment's format.

    Args:
        space: The environment's action space.
        action: (*action), in the agent's space.

    Returns:
        An int for a Discrete space, otherwise an array with the shape and dtype of the space.
    """
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
    """Convert one or more of the environment's actions to the agent's format.

    Args:
        space: The environment's action space.
        actions: (..., *action), in the environment's space.
    """
    if isinstance(space, spaces.Discrete):
        return np.asarray(actions) - int(space.start)
    taken = np.asarray(actions)
    lead = taken.shape[: taken.ndim - len(space.shape or ())]
    if isinstance(space, spaces.MultiDiscrete):
        return np.asarray((taken - space.start).reshape(*lead, -1))
    return taken.reshape(*lead, -1) if space.shape == () or isinstance(space, spaces.MultiBinary) else taken


def as_numbers(space: Space, actions: Array) -> Array:
    """Convert actions to the reward model's input.

    Args:
        space: The agent's action space.
        actions: (..., *action), in the agent's space.

    Returns:
        (..., n): discrete actions are one-hot, those of a MultiDiscrete concatenated; actions of a Box are unchanged.
    """
    if isinstance(space, spaces.Discrete):
        return np.eye(int(space.n), dtype=np.float32)[actions]
    if isinstance(space, spaces.MultiDiscrete):
        parts = [np.eye(int(n), dtype=np.float32)[actions[..., place]] for place, n in enumerate(space.nvec)]
        return np.concatenate(parts, axis=-1)
    return actions.astype(np.float32) if isinstance(space, spaces.MultiBinary) else actions


def numbers_shape(space: Space) -> tuple[int, ...]:
    """Return the shape of one action of the agent's space as `as_numbers` converts it."""
    return space.shape if isinstance(space, spaces.Box) else (spaces.flatdim(space),)


def from_numbers(space: Space, numbers: Array) -> Array:
    """Convert actions back from the result of `as_numbers`: (..., n) to (..., *action)."""
    if isinstance(space, spaces.Discrete):
        return np.asarray(numbers.argmax(axis=-1))
    if isinstance(space, spaces.MultiDiscrete):
        parts = np.split(numbers, np.cumsum(space.nvec)[:-1], axis=-1)
        return np.stack([part.argmax(axis=-1) for part in parts], axis=-1)
    return np.rint(numbers).astype(np.int8) if isinstance(space, spaces.MultiBinary) else numbers
