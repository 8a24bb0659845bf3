"""Convert an environment's observations to the vectors or images that networks take as input.

Image networks need `SMALLEST_IMAGE` pixels in each direction. Smaller grids, such as boards, are flattened to vectors.
Spaces other than Box are flattened like Gymnasium's `FlattenObservation`: discrete values are one-hot, parts are
concatenated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.spaces.utils import flatten, flatten_space
from gymnasium.vector.utils import batch_space, iterate

from prefrl.arrays import Array

Space = spaces.Space[Any]

SMALLEST_IMAGE = 43
"""Minimum width and height in pixels for the paper's four convolutions."""
_CHANNELS = (1, 3, 4)
"""Numbers of channels of an image: greyscale, RGB or RGBA."""
_BRIGHTEST = 255


class ObservationError(ValueError):
    """An observation does not match its space."""


@dataclass(frozen=True)
class ObservationTransform:
    """Converts observations of a space to arrays for networks."""

    source: Space
    target: spaces.Box
    """The space of converted observations: a Box of floats, or of uint8 images in [0, 255] with three dimensions."""
    _encode: Callable[[Any], Array]

    def __call__(self, observation: Any) -> Array:
        """Convert one observation of `source` to an observation of `target`.

        Raises:
            ObservationError: if its shape or its parts do not match the space.
        """
        return self._encode(observation)

    def many(self, observations: Any) -> Array:
        """Convert a batch, (N, *source) to (N, *target). For Dict and Tuple spaces, each part is a batch."""
        if self.target is self.source:
            return np.asarray(observations)
        count = _count(self.source, observations)
        each = iterate(batch_space(self.source, count), observations)
        return np.stack([self._encode(observation) for observation in each])

    def is_many(self, observations: Any) -> bool:
        """Return whether this is a batch of observations rather than a single one."""
        space, part = _first(self.source, observations)
        return np.ndim(part) > len(space.shape or ())


def _first(space: Space, observation: Any) -> tuple[Space, Any]:
    """Return the first leaf of a nested observation and its space; other observations are returned unchanged."""
    while isinstance(space, spaces.Dict | spaces.Tuple):
        key: Any = next(iter(space.spaces)) if isinstance(space, spaces.Dict) else 0
        space, observation = space[key], observation[key]
    return space, observation


def _count(space: Space, observations: Any) -> int:
    return len(_first(space, observations)[1])


def observation_transform(space: Space) -> ObservationTransform:
    """Return the conversion for an observation space, which `unsuitable_observations` must have accepted."""
    if not isinstance(space, spaces.Box):
        return _flattened(space)
    if looks_like_picture(space):
        return _picture(space)
    if np.issubdtype(space.dtype, np.floating) and space.dtype.itemsize >= 4 and space.shape:
        return ObservationTransform(space, space, lambda observation: _array(space, observation))
    shape = space.shape or (1,)
    low, high = (bound.astype(np.float32).reshape(-1) for bound in (space.low, space.high))
    target = spaces.Box(low, high, (int(np.prod(shape)),), np.float32)

    def flatten_numbers(observation: Any) -> Array:
        return _array(space, observation).astype(np.float32).reshape(-1)

    return ObservationTransform(space, target, flatten_numbers)


def selected(transform: ObservationTransform, places: Sequence[int]) -> ObservationTransform:
    """Return a conversion that keeps only some numbers of the result, by their places in the flat array."""
    kept, space = np.array(places), transform.target
    low, high = space.low.reshape(-1)[kept], space.high.reshape(-1)[kept]
    target = spaces.Box(low, high, (len(kept),), space.dtype)
    return ObservationTransform(transform.source, target, lambda seen: transform(seen).reshape(-1)[kept])


def unsuitable_observations(space: Space) -> str | None:
    """Return why an observation space is not supported, or None if it is."""
    for name, part in parts_of(space):
        kind = type(part).__name__
        if not isinstance(part, spaces.Box | spaces.Discrete | spaces.MultiDiscrete | spaces.MultiBinary | spaces.Text):
            return (
                f"{name} is a {kind}, which has no fixed size to flatten; wrap the environment with "
                "gymnasium.wrappers.TransformObservation"
            )
        if part is not space and isinstance(part, spaces.Box) and looks_like_picture(part):
            return (
                f"{name} is an image of shape {part.shape} inside a {type(space).__name__}; a policy network takes "
                f"either images or vectors: {_choose(space)}"
            )
    if isinstance(space, spaces.Box):
        if 0 in space.shape:
            return "its observations hold no number"
        if len(space.shape) in {3, 4} and _large(space.shape) and not looks_like_picture(space):
            return (
                f"its observations look like images {space.shape} but are {space.dtype} between "
                f"{space.low.min():g} and {space.high.max():g}: give their Box one finite range, or uint8"
            )
    return None


def _choose(space: Space) -> str:
    if isinstance(space, spaces.Dict):
        return "choose keys with gymnasium.wrappers.FilterObservation"
    return "choose one element with gymnasium.wrappers.TransformObservation"


def parts_of(space: Space, name: str = "observation_space") -> Iterator[tuple[str, Space]]:
    """Yield the leaves of a nested space with their names; a space that is not nested yields itself."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        named = space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces)
        for key, part in named:
            yield from parts_of(part, f"{name}[{key!r}]")
    else:
        yield name, space


def looks_like_picture(space: spaces.Box) -> bool:
    """Return whether a Box holds an image or a stack of images, judged by its shape and its single value range."""
    low, high = space.low.min(initial=0), space.high.max(initial=0)
    one_range = np.ptp(space.low) == 0 and np.ptp(space.high) == 0 if np.isfinite([low, high]).all() else False
    if not one_range or high <= low or not _large(space.shape):
        return False
    if len(space.shape) == 2:  # a matrix of floats may be anything
        return space.dtype == np.uint8 or (low == 0 and high in (1, _BRIGHTEST))
    return len(space.shape) == 3 or (len(space.shape) == 4 and _channels_at(space.shape) is not None)


def _large(shape: tuple[int, ...]) -> bool:
    """Return whether two dimensions are at least `SMALLEST_IMAGE`."""
    return len(shape) in {2, 3, 4} and sorted(shape)[-2] >= SMALLEST_IMAGE


def _channels_at(shape: tuple[int, ...]) -> int | None:
    """Return the channel axis of a stack of images: 3 for (S, H, W, C), 1 for (S, C, H, W), None if neither fits."""
    for place, size in ((3, shape[1:3]), (1, shape[2:])):
        if shape[place] in _CHANNELS and min(size) >= SMALLEST_IMAGE:
            return place
    return None


def _picture(space: spaces.Box) -> ObservationTransform:
    """Convert images to three dimensions: greyscale images get a channel axis, stacks are folded into the channels."""
    scale = _brightness(space)
    if len(space.shape) == 4:
        channels = _channels_at(space.shape)
        assert channels is not None
        size = np.delete(space.shape, [0, channels]).tolist()

        def arrange(picture: Array) -> Array:
            folded: Array = np.moveaxis(picture, channels, 1).reshape(-1, *size)
            return folded
    else:

        def arrange(picture: Array) -> Array:
            return picture[None] if picture.ndim == 2 else picture

    shape = arrange(np.zeros(space.shape, np.uint8)).shape
    as_it_is = space.dtype == np.uint8 and (space.low == 0).all() and (space.high == _BRIGHTEST).all()
    target = space if as_it_is and shape == space.shape else spaces.Box(0, _BRIGHTEST, shape, np.uint8)
    return ObservationTransform(space, target, lambda observation: arrange(scale(_array(space, observation))))


def _brightness(space: spaces.Box) -> Callable[[Array], Array]:
    """Return a function that scales images from the range of their space to [0, 255]."""
    low, high = float(space.low.min()), float(space.high.max())
    if (low, high) == (0, _BRIGHTEST):
        return _as_bytes
    factor = _BRIGHTEST / (high - low)

    def scale(picture: Array) -> Array:
        return _as_bytes((picture.astype(np.float32) - low) * factor)

    return scale


def _as_bytes(picture: Array) -> Array:
    if picture.dtype == np.uint8:
        return picture
    nearest: Array = np.clip(np.rint(picture), 0, _BRIGHTEST).astype(np.uint8)
    return nearest


def _flattened(space: Space) -> ObservationTransform:
    flat = flatten_space(space)
    assert isinstance(flat, spaces.Box)
    target = spaces.Box(flat.low.astype(np.float32), flat.high.astype(np.float32), flat.shape, np.float32)

    def encode(observation: Any) -> Array:
        try:
            found = np.asarray(flatten(space, observation), np.float32)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise ObservationError(f"{mismatch(space, observation) or error}") from error
        if found.shape != target.shape:
            wrong = f"observation flattens to shape {found.shape}, expected {target.shape}"
            raise ObservationError(mismatch(space, observation) or wrong)
        return found

    return ObservationTransform(space, target, encode)


def _array(space: spaces.Box, observation: Any) -> Array:
    """Convert an observation to an array with the shape and dtype of its Box."""
    found = np.asarray(observation)
    if found.shape != space.shape:
        raise ObservationError(f"observation has shape {found.shape}, expected {space.shape}")
    if found.dtype == space.dtype:
        return found
    if not np.issubdtype(space.dtype, np.floating) and np.issubdtype(found.dtype, np.floating):
        found = np.rint(found)
    try:
        return found.astype(space.dtype)
    except (TypeError, ValueError) as error:
        raise ObservationError(f"observation holds {found.dtype}, not numbers") from error


def mismatch(space: Space, observation: Any, name: str = "observation") -> str | None:
    """Return how an observation differs from its space, ignoring bounds, or None if it matches."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return _parts_mismatch(space, observation, name)
    if isinstance(space, spaces.Text):
        fits = isinstance(observation, str) and space.contains(observation)
        return None if fits else f"{name} is not a string of {space}"
    try:
        found = np.asarray(observation)
    except ValueError:
        return f"{name} is not an array of one shape"
    if not np.issubdtype(found.dtype, np.number) and found.dtype != np.bool_:
        return f"{name} holds {type(observation).__name__ if found.ndim == 0 else found.dtype}, not numbers"
    if found.shape != space.shape and not (isinstance(space, spaces.Discrete) and found.size == 1):
        return f"{name} has shape {found.shape}, expected {space.shape}"
    return _wrong_numbers(space, found, name)


def _wrong_numbers(space: Space, found: Array, name: str) -> str | None:
    """Return how an array of the right shape differs from its space, or None if it matches."""
    if not np.isfinite(found).all():
        return f"found {'nan' if np.isnan(found).any() else 'inf'} in {name}"
    if not np.issubdtype(space.dtype, np.floating) and np.any(found != np.rint(found)):
        return f"{name} has dtype {found.dtype} with fractions, expected {space.dtype}"
    if not isinstance(space, spaces.Box) and not space.contains(found.reshape(space.shape or ()).astype(space.dtype)):
        return f"{name} {found.tolist()} is outside {space}"
    return None


def _parts_mismatch(space: spaces.Dict | spaces.Tuple[Any], observation: Any, name: str) -> str | None:
    if isinstance(space, spaces.Dict):
        if not isinstance(observation, dict):
            return f"{name} is a {type(observation).__name__}, expected a dict"
        if missing := [key for key in space.spaces if key not in observation]:
            return f"{name} lacks the key {missing[0]!r}"
        parts: list[tuple[Any, Space]] = list(space.spaces.items())
    else:
        if not isinstance(observation, tuple | list) or len(observation) != len(space.spaces):
            return f"{name} is not a tuple of {len(space.spaces)} elements"
        parts = list(enumerate(space.spaces))
    found = (mismatch(part, observation[key], f"{name}[{key!r}]") for key, part in parts)
    return next((reason for reason in found if reason), None)


def out_of_bounds(space: Space, observation: Any) -> bool:
    """Return whether an observation of the right shape exceeds the bounds of its Box, or of a nested Box."""
    if isinstance(space, spaces.Dict | spaces.Tuple):
        keys: Any = space.spaces if isinstance(space, spaces.Dict) else range(len(space.spaces))
        return any(out_of_bounds(space[key], observation[key]) for key in keys)
    if not isinstance(space, spaces.Box):
        return False
    slack = 1e-6 * np.maximum(1, np.abs(np.nan_to_num(np.stack([space.low, space.high]).astype(np.float64), posinf=0)))
    found = np.asarray(observation, dtype=np.float64)
    return bool(np.any(found < space.low - slack[0]) or np.any(found > space.high + slack[1]))
