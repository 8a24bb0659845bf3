"""Keys with which a person plays a task: arrows, and Space to fire.

Actions of a Discrete space are played by their names, which an environment tells in `get_action_meanings()` as Atari
games do: words such as UP, RIGHT and FIRE, or several of them in one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from gymnasium import spaces

from prefrl.arrays import Array
from prefrl.errors import UsageError
from prefrl.experience.adapter import Adapter

Pressed = frozenset[str]
"""Names of the keys that are held down: Up, Down, Left, Right, Space, or a digit."""
_WORDS = {"UP": "Up", "DOWN": "Down", "LEFT": "Left", "RIGHT": "Right", "FIRE": "Space"}
_NO_WORD = {"NOOP", "STAY"}
MEANINGS: dict[str, tuple[str, ...]] = {
    "CartPole-v0": ("LEFT", "RIGHT"),
    "CartPole-v1": ("LEFT", "RIGHT"),
    "MountainCar-v0": ("LEFT", "NOOP", "RIGHT"),
    "Acrobot-v1": ("LEFT", "NOOP", "RIGHT"),
    "LunarLander-v3": ("NOOP", "RIGHT", "UP", "LEFT"),
}
"""Names of the actions of environments that do not tell them."""
_DIGITS = 9


class Keyboard(Protocol):
    """Turns keys into actions."""

    help: str
    """The keys, for the person."""

    def action(self, pressed: Pressed) -> Array:
        """Return the action of the agent's space for the keys that are held down."""


class ActionKeys:
    """Keys of discrete actions. Without a key, nothing is done; if the task has no such action, the last one again."""

    def __init__(self, keys: Sequence[Pressed]) -> None:
        """Initialise the keyboard; `keys` are those of each action, in order."""
        self._keys, self._last = list(keys), 0
        self.help = ", ".join(sorted({" ".join(each) for each in map(sorted, keys) if len(each) == 1}))

    def action(self, pressed: Pressed) -> Array:
        """Return the action with the most of the keys that are held down, and no others."""
        fitting = [number for number, keys in enumerate(self._keys) if keys <= pressed]
        if fitting:
            self._last = max(fitting, key=lambda number: (len(self._keys[number]), -number))
        return np.asarray(self._last)


class AxisKeys:
    """Keys of one or two continuous actions: Left and Right, then Down and Up; without a key, zero."""

    def __init__(self, space: spaces.Box) -> None:
        """Initialise the keyboard for a Box of one or two numbers."""
        self._space = space
        self._axes = (("Left", "Right"), ("Down", "Up"))[: space.low.size]
        self.help = ", ".join(key for pair in self._axes for key in pair)

    def action(self, pressed: Pressed) -> Array:
        """Return the bound of each number whose key is held down; zero, or the bound next to it, for the others."""
        low, high = self._space.low.reshape(-1), self._space.high.reshape(-1)
        taken = np.clip(np.zeros_like(low), low, high)
        for axis, (less, more) in enumerate(self._axes):
            if (less in pressed) != (more in pressed):
                taken[axis] = low[axis] if less in pressed else high[axis]
        return taken.reshape(self._space.shape)


def keyboard_of(env: Adapter) -> Keyboard:
    """Return the keys of an environment.

    Raises:
        UsageError: if a person cannot play it with a few keys.
    """
    space = env.action_space
    if isinstance(space, spaces.Box) and space.low.size <= 2:
        return AxisKeys(space)
    if isinstance(space, spaces.Discrete):
        return ActionKeys(_keys_of(env, int(space.n)))
    raise UsageError(
        f"{env.name} cannot be played with keys: its actions are {space}, neither discrete nor one or two numbers"
    )


def _keys_of(env: Adapter, count: int) -> list[Pressed]:
    """Return the keys of each action: by its name, or digits from 1."""
    named = [keys for name in _names(env) if (keys := _pressed(name)) is not None]
    if len(named) == count:
        return named
    if count > _DIGITS:
        raise UsageError(
            f"{env.name} cannot be played with keys: its {count} actions have no names (get_action_meanings) such as UP"
        )
    return [frozenset({str(number + 1)}) for number in range(count)]


def _names(env: Adapter) -> Sequence[str]:
    tell: Any = getattr(env.unwrapped, "get_action_meanings", None)
    if tell is not None:
        return [str(name).upper() for name in env.guarded("get_action_meanings()", tell)]
    return MEANINGS.get(env.name, ())


def _pressed(name: str) -> Pressed | None:
    """Return the keys of a name, e.g. Up and Space of UPFIRE; None if it has other words."""
    if name in _NO_WORD:
        return frozenset()
    words = re.findall("|".join(_WORDS), name)
    return frozenset(_WORDS[word] for word in words) if words and "".join(words) == name else None
