"""The folder `clips/` of a run: for each queried segment, the features that the reward model is trained on.

For segments that people label, it also holds the scene, from which the clip is rendered, and the rendered video.
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
"""Maximum size of a segment's features in bytes, if their shape is unknown."""
LARGEST_FRAMES = 192 * MEBIBYTE
"""Maximum size of a clip's uncompressed frames in bytes, e.g. 30 frames of 1920x1080. A viewer holds several clips."""
_LARGEST_SCENE = LARGEST_FRAMES + LARGEST_FRAMES // 64 + MEBIBYTE
"""Maximum size of a scene in bytes: incompressible frames, actions and names."""
MOST_PIXELS = 4096 * 2304
"""Maximum number of pixels of a frame."""


class ClipFolder:
    """The folder `clips/` of a run. Each file is written once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: list[Path] = []

    def file(self, segment_id: int) -> Path:
        """Return the path of a segment's features."""
        return self._path / f"{segment_id:08d}.safetensors"

    def save(self, segment: Segment) -> bool:
        """Write a segment's features, unless they exist.

        Returns:
            False if a different or damaged segment has this id. Its file is kept, because labels may refer to it.
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
        """Write a segment's scene, unless it exists."""
        path = self._scene_file(segment.id)
        if segment.scene is None:
            return
        self._written.append(path)
        if not path.exists():
            tree = {"scene": segment.scene, "actions": segment.actions}
            save_tree(path, stamped("scene", tree), private=True)

    def sync(self) -> None:
        """Flush all saved files to disk, so that no label can refer to a clip that is lost.

        This includes files that existed already, because the process that wrote them may have been killed before its
        own `sync`.
        """
        sync(self._written)
        self._written.clear()

    def load_scene(self, segment_id: int) -> tuple[Tree, Array]:
        """Read a segment's scene.

        Returns:
            The scene, and the (L, *action) actions.

        Raises:
            PrefrlError: if the file is missing or damaged.
        """
        try:
            tree = load_tree(path := self._scene_file(segment_id), _LARGEST_SCENE)
        except FileNotFoundError:
            raise PrefrlError(f"the scene {self._scene_file(segment_id)} is missing") from None
        tree = opened("scene", tree, path)
        with taken_from(path):
            return dict(tree["scene"]), np.asarray(tree["actions"])

    def video(self, segment_id: int) -> Path:
        """Return the path of a segment's video. Older versions wrote Matroska files."""
        older = self._path / f"{segment_id:08d}.mkv"
        return older if older.exists() else older.with_suffix(".avi")

    def _scene_file(self, segment_id: int) -> Path:
        return self._path / f"{segment_id:08d}.scene.safetensors"

    def digest(self, segment_id: int) -> str:
        """Return the SHA-256 of a segment's features file, which is independent of the segment's id.

        Raises:
            PrefrlError: if the file is missing.
        """
        try:
            return hashlib.sha256(read_bytes(self.file(segment_id), LARGEST_CLIP)).hexdigest()
        except FileNotFoundError:
            raise PrefrlError(f"the clip {self.file(segment_id)} is missing") from None

    def load(self, segment_id: int, most: int = LARGEST_CLIP) -> tuple[Array, Floats]:
        """Read a segment's features and true rewards.

        Args:
            segment_id: The segment.
            most: Maximum size of the features in bytes.

        Returns:
            The features, (L, F) or the frames of images, and the (L,) true rewards.

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
    """Return the array if it is numeric.

    Raises:
        TypeError: if it holds strings or objects.
    """
    if array.dtype.kind not in "biuf":
        raise TypeError(f"it holds {array.dtype}")
    return array


def _packed(features: Array) -> Any:
    """Compress images, which saves more than 90 %; other features are unchanged."""
    if features.dtype != np.uint8:
        return features
    deflated = np.frombuffer(zlib.compress(features.tobytes()), np.uint8)
    return {"deflated": deflated, "shape": list(features.shape)}


def _unpacked(kept: Any, most: int) -> Array:
    """Decompress features, checking their size first."""
    if not isinstance(kept, dict):
        return np.asarray(kept)
    shape = [operator.index(size) for size in kept["shape"]]
    size = math.prod(shape)
    if min(shape) < 0 or size > most:
        raise ValueError(f"images of {size} bytes in a clip of {most}")
    return np.frombuffer(bytearray(inflated(kept["deflated"].tobytes(), size)), np.uint8).reshape(shape)
