"""The folder `clips/` of a run: the queried segments, as they were experienced.

For segments that people label, it also holds the scene, from which the clip is rendered, and the rendered video.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prefrl.arrays import Array
from prefrl.config.migrations import opened, stamped
from prefrl.errors import PrefrlError
from prefrl.experience.segment import Segment
from prefrl.experience.segment_tree import segment_of, segment_tree
from prefrl.storage.durable import sync
from prefrl.storage.files import DamagedFileError, Tree, load_tree, save_tree, taken_from
from prefrl.storage.reading import MEBIBYTE, read_bytes

LARGEST_CLIP = 128 * MEBIBYTE
"""Maximum size of a segment's observations and actions in bytes, if their shapes are unknown."""
LARGEST_FRAMES = 192 * MEBIBYTE
"""Maximum size of a clip's uncompressed frames in bytes, e.g. 30 frames of 1920x1080. A viewer holds several clips."""
_LARGEST_SCENE = LARGEST_FRAMES + LARGEST_FRAMES // 64 + MEBIBYTE
"""Maximum size of a scene in bytes: incompressible frames, actions and names."""
MOST_PIXELS = 4096 * 2304
"""Maximum number of pixels of a frame."""


def too_large_clip(size: Sequence[int], frames: int) -> str:
    """Return the error message for a clip that exceeds the size limit.

    Args:
        size: (height, width) of a frame in pixels.
        frames: Number of frames.
    """
    height, width = size
    return (
        f"a clip of {frames} frames of {width}x{height} is larger than the limit of {LARGEST_FRAMES // MEBIBYTE} MiB: "
        "return smaller frames from render(), or lower queries.segment_length"
    )


class ClipFolder:
    """The folder `clips/` of a run. Each file is written once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: list[Path] = []

    def file(self, segment_id: int) -> Path:
        """Return the path of a segment's clip."""
        return self._path / f"{segment_id:08d}.safetensors"

    def save(self, segment: Segment) -> bool:
        """Write a segment, unless it exists.

        Returns:
            False if a different or damaged segment has this id. Its file is kept, because labels may refer to it.
        """
        path = self.file(segment.id)
        self._written.append(path)
        if path.exists():
            try:
                return _is_same(self.load(segment.id), segment)
            except DamagedFileError:
                return False
        save_tree(path, stamped("clip", segment_tree(segment)), private=True)
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

    def has_scene(self, segment_id: int) -> bool:
        """Return whether a segment's scene was saved."""
        return self._scene_file(segment_id).exists()

    def video(self, segment_id: int) -> Path:
        """Return the path of a segment's video. Older versions wrote Matroska files."""
        older = self._path / f"{segment_id:08d}.mkv"
        return older if older.exists() else older.with_suffix(".avi")

    def _scene_file(self, segment_id: int) -> Path:
        return self._path / f"{segment_id:08d}.scene.safetensors"

    def digest(self, segment_id: int) -> str:
        """Return the SHA-256 of a segment's file, which is independent of the segment's id.

        Raises:
            PrefrlError: if the file is missing.
        """
        try:
            return hashlib.sha256(read_bytes(self.file(segment_id), LARGEST_CLIP + MEBIBYTE)).hexdigest()
        except FileNotFoundError:
            raise PrefrlError(f"the clip {self.file(segment_id)} is missing") from None

    def load(self, segment_id: int, most: int = LARGEST_CLIP) -> Segment:
        """Read a segment, without its scene.

        Clips of format 1 hold only the features and the true rewards. Their segments have the features as `frames`,
        actions of width 0 and no ends, so that `features` is what it was; `is_encoded` tells them apart.

        Args:
            segment_id: The segment.
            most: Maximum size of the observations and actions in bytes.

        Raises:
            UsageError: if the clip was written by a newer version.
            PrefrlError: if the clip is missing or damaged.
        """
        try:
            tree = load_tree(path := self.file(segment_id), most + MEBIBYTE)
        except FileNotFoundError:
            raise PrefrlError(f"the clip {self.file(segment_id)} is missing") from None
        tree = opened("clip", tree, path)
        with taken_from(path):
            return segment_of(segment_id, tree, most)


def _is_same(kept: Segment, segment: Segment) -> bool:
    """Return whether a clip holds a segment; one of format 1 can hold only its features and true rewards."""
    if kept.is_encoded:
        pairs = [(kept.features, segment.features)]
    else:
        names = ("frames", "actions", "terminated", "truncated")
        pairs = [(getattr(kept, name), getattr(segment, name)) for name in names]
    return all(np.array_equal(*pair) for pair in [*pairs, (kept.true_rewards, segment.true_rewards)])
