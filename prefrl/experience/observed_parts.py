"""Choose parts of an observation by their places, or by the names that an environment gives them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatdim

from prefrl.arrays import Array
from prefrl.errors import UsageError, unknown
from prefrl.experience.adapter import Adapter

_SKIPPED = "skipped_"
"""Prefix of names in MuJoCo's `observation_structure` that are not in the observation."""


def chosen_numbers(env: Adapter, chosen: Sequence[str]) -> list[int]:
    """Return the places of the chosen numbers of a converted observation.

    Args:
        env: The environment.
        chosen: Places such as `3`, and names of parts such as `qvel`; each may be several, separated by commas.

    Returns:
        Distinct places, in the order chosen.

    Raises:
        UsageError: if nothing is chosen, or something that the observation does not have.
    """
    size, names = int(np.prod(env.observation_space.shape or (1,))), part_names(env)
    places: list[int] = []
    for word in (each.strip() for text in chosen for each in text.split(",")):
        if word.isdecimal():
            if int(word) >= size:
                raise UsageError(f"--observe {word}: the observations of {env.name} have {size} numbers, from 0")
            places.append(int(word))
        elif word in names:
            places += names[word]
        elif names:
            raise unknown("part of the observation", word, names)
        else:
            raise UsageError(f"--observe {word}: {env.name} names no parts; choose from 0 to {size - 1}")
    if not (kept := list(dict.fromkeys(places))):
        raise UsageError("--observe needs at least one number of the observation")
    return kept


def places_within(observed: Sequence[int] | None, available: Sequence[int] | None) -> Array | slice:
    """Return where the numbers that one policy observes are among those that another observes.

    Args:
        observed: Numbers of the observation that the first one observes; None for all.
        available: Those that the second one observes.

    Returns:
        Places, (D,); a slice of all if both observe the same.

    Raises:
        UsageError: if the second one does not observe all of them.
    """
    if observed == available:
        return slice(None)
    if observed is None or (available is not None and not set(observed) <= set(available)):
        raise UsageError("observes numbers of the observation that the agent does not")
    return np.array(observed if available is None else [available.index(place) for place in observed])


def part_names(env: Adapter) -> dict[str, range]:
    """Return the places of each named part of an observation; empty without names.

    The parts of a Dict are named by its keys, and those of Gymnasium's MuJoCo environments by their
    `observation_structure`.
    """
    source, size = env.observation_transform.source, int(np.prod(env.observation_space.shape or (1,)))
    if isinstance(source, spaces.Dict):
        sizes: dict[str, Any] = {name: flatdim(part) for name, part in source.spaces.items()}
    else:
        sizes = dict(getattr(env.unwrapped, "observation_structure", None) or {})
    sizes = {name: count for name, count in sizes.items() if not name.startswith(_SKIPPED)}
    if sum(sizes.values()) != size:
        return {}
    ends = np.cumsum(list(sizes.values()), dtype=int).tolist()
    return {name: range(end - count, end) for (name, count), end in zip(sizes.items(), ends, strict=True) if count}
