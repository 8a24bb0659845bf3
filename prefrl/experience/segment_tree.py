"""A segment as a tree of arrays, which files of clips and of demonstrations hold."""

from __future__ import annotations

import math
import operator
import zlib
from typing import Any

import numpy as np

from prefrl.arrays import Array
from prefrl.encoder import is_image
from prefrl.experience.segment import Segment
from prefrl.storage.files import Tree
from prefrl.storage.reading import inflated


def segment_tree(segment: Segment) -> Tree:
    """Return the content of a segment, without its scene; images are compressed."""
    return {
        "observations": _packed(segment.frames),
        "actions": segment.actions,
        "true_rewards": segment.true_rewards,
        "terminated": segment.terminated,
        "truncated": segment.truncated,
        "stack": segment.stack,
    }


def segment_of(number: int, tree: Tree, most: int) -> Segment:
    """Make a segment of the content of a file.

    Args:
        number: The segment's id.
        tree: From `segment_tree`, or of a clip of format 1.
        most: Maximum size of the observations and actions in bytes.

    Raises:
        ValueError: if its arrays do not fit together, or are too large; and the other errors of `WRONG_CONTENT`.
    """
    frames, true_rewards = _numbers(_unpacked(tree["observations"], most)), _numbers(np.asarray(tree["true_rewards"]))
    length = len(true_rewards)
    if tree.get("encoded"):
        actions, stack = np.zeros((length, 0), np.float32), len(frames) - length + 1
        terminated, truncated = np.zeros((2, length), bool)
    else:
        actions, stack = _numbers(np.asarray(tree["actions"])), operator.index(tree["stack"])
        terminated, truncated = (_numbers(np.asarray(tree[name]), "b") for name in ("terminated", "truncated"))
    segment = Segment(number, frames, actions, true_rewards, terminated, truncated, stack)
    if len(segment) == 0 or (segment.stack > 1 and not is_image(frames.shape[1:], frames.dtype)):
        raise ValueError(f"{len(segment)} steps of stacks of {segment.stack}")
    return segment


def _numbers(array: Array, kinds: str = "biuf") -> Array:
    """Return the array if it is numeric.

    Raises:
        TypeError: if it holds strings or objects, or numbers of other kinds.
    """
    if array.dtype.kind not in kinds:
        raise TypeError(f"it holds {array.dtype}")
    return array


def _packed(frames: Array) -> Any:
    """Compress images, which saves more than 90 %; other observations are unchanged."""
    if frames.dtype != np.uint8:
        return frames
    deflated = np.frombuffer(zlib.compress(frames.tobytes()), np.uint8)
    return {"deflated": deflated, "shape": list(frames.shape)}


def _unpacked(kept: Any, most: int) -> Array:
    """Decompress observations, checking their size first."""
    if not isinstance(kept, dict):
        return np.asarray(kept)
    shape = [operator.index(size) for size in kept["shape"]]
    size = math.prod(shape)
    if min(shape) < 0 or size > most:
        raise ValueError(f"images of {size} bytes in a clip of {most}")
    return np.frombuffer(bytearray(inflated(kept["deflated"].tobytes(), size)), np.uint8).reshape(shape)
