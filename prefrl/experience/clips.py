"""Clips on disk: for each segment that is asked about, the training copy that the reward learner reads.

For segments that people will see, there is also what it takes to show them, and the video once it is rendered.
"""

from __future__ import annotations

import hashlib
import math
import operator
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.arrays import Array, Floats
from prefrl.config.migrations import opened, stamped
from prefrl.errors import PrefrlError
from prefrl.experience.segment import Segment
from prefrl.storage.durable import sync
from prefrl.storage.files import DamagedFileError, Tree, load_tree, save_tree, taken_from
from prefrl.storage.reading import MEBIBYTE, inflated, read_bytes

LARGEST_CLIP = 128 * MEBIBYTE
"""Bytes of a segment's features, where it is not known what they are of."""
LARGEST_FRAMES = 192 * MEBIBYTE
"""Bytes of a clip's frames, e.g. 30 of 1920x1080; on disk it is smaller. A viewer holds several."""
_LARGEST_SCENE = LARGEST_FRAMES + LARGEST_FRAMES // 64 + MEBIBYTE
"""Bytes of what it takes to show a segment: frames that do not deflate at the most, beside actions and names."""
MOST_PIXELS = 4096 * 2304
"""Of a frame that is kept, shown or read."""


class ClipFolder:
    """The folder `clips/` of a run; one file a segment, written once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: list[Path] = []

    def file(self, segment_id: int) -> Path:
        """Where a segment's training copy lies, or is to lie."""
        return self._path / f"{segment_id:08d}.safetensors"

    def save(self, segment: Segment) -> bool:
        """Write a segment, unless it is there.

        Returns:
            False where another segment has this id, or a damaged one: the file is kept, since labels may refer to it.
        """
        path = self.file(segment.id)
        self._written.append(path)
        if path.exists():
            try:
                return np.array_equal(self.load(segment.id)[0], segment.features)
            except DamagedFileError:
                return False
        tree = {"features": _packed(segment.features), "true_rewards": segment.true_rewards}
        save_tree(path, stamped("clip", tree), private=True)
        return True

    def save_scene(self, segment: Segment) -> None:
        """Write what it takes to show a segment, unless it is there."""
        path = self._scene_file(segment.id)
        if segment.scene is None:
            return
        self._written.append(path)
        if not path.exists():
            tree = {"scene": segment.scene, "actions": segment.actions}
            save_tree(path, stamped("scene", tree), private=True)

    def sync(self) -> None:
        """Wait until the disk has what was saved, so that a label of it can never be without it.

        Once for many: the files that were there already too, for who wrote them may have been killed before this.
        """
        sync(self._written)
        self._written.clear()

    def load_scene(self, segment_id: int) -> tuple[Tree, Array]:
        """Read a segment's scene and its (L, *action) actions.

        Raises:
            PrefrlError: if it is missing or damaged.
        """
        try:
            tree = load_tree(path := self._scene_file(segment_id), _LARGEST_SCENE)
        except FileNotFoundError:
            raise PrefrlError(f"the scene {self._scene_file(segment_id)} is missing") from None
        tree = opened("scene", tree, path)
        with taken_from(path):
            return dict(tree["scene"]), np.asarray(tree["actions"])

    def video(self, segment_id: int) -> Path:
        """Where a segment's video lies, or is to lie; those of older runs are Matroska files."""
        older = self._path / f"{segment_id:08d}.mkv"
        return older if older.exists() else older.with_suffix(".avi")

    def _scene_file(self, segment_id: int) -> Path:
        return self._path / f"{segment_id:08d}.scene.safetensors"

    def digest(self, segment_id: int) -> str:
        """The SHA-256 of a segment's training copy: equal for equal clips, whatever their ids.

        Raises:
            PrefrlError: if it is missing.
        """
        try:
            return hashlib.sha256(read_bytes(self.file(segment_id), LARGEST_CLIP)).hexdigest()
        except FileNotFoundError:
            raise PrefrlError(f"the clip {self.file(segment_id)} is missing") from None

    def load(self, segment_id: int, most: int = LARGEST_CLIP) -> tuple[Array, Floats]:
        """Read a segment's features, (L, F) or images as they are kept, and (L,) true rewards.

        Args:
            segment_id: The segment.
            most: Bytes that its features may have.

        Raises:
            PrefrlError: if the clip is missing or damaged.
        """
        try:
            tree = load_tree(path := self.file(segment_id), most + MEBIBYTE)
        except FileNotFoundError:
            raise PrefrlError(f"the clip {self.file(segment_id)} is missing") from None
        tree = opened("clip", tree, path)
        with taken_from(path):
            return _numbers(_unpacked(tree["features"], most)), _numbers(np.asarray(tree["true_rewards"]))


def _numbers(array: Array) -> Array:
    """The array, unless it holds texts or objects."""
    if array.dtype.kind not in "biuf":
        raise TypeError(f"it holds {array.dtype}")
    return array


def _packed(features: Array) -> Any:
    """Numbers as they are; images deflated, which saves nine tenths and more of them."""
    if features.dtype != np.uint8:
        return features
    deflated = np.frombuffer(zlib.compress(features.tobytes()), np.uint8)
    return {"deflated": deflated, "shape": list(features.shape)}


def _unpacked(kept: Any, most: int) -> Array:
    """Features from what is kept of them; nothing larger than they may be is made of it."""
    if not isinstance(kept, dict):
        return np.asarray(kept)
    shape = [operator.index(size) for size in kept["shape"]]
    size = math.prod(shape)
    if min(shape) < 0 or size > most:
        raise ValueError(f"images of {size} bytes in a clip of {most}")
    return np.frombuffer(bytearray(inflated(kept["deflated"].tobytes(), size)), np.uint8).reshape(shape)
