"""Clips on disk: for each segment that is asked about, the training copy that the reward learner reads.

For segments that people will see, there is also what it takes to show them, and the video once it is rendered.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.durable import sync
from prefrl.errors import PrefrlError
from prefrl.files import DamagedFileError, Tree, load_tree, save_tree
from prefrl.types import Array, Floats, Segment


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
        save_tree(path, tree, private=True)
        return True

    def save_scene(self, segment: Segment) -> None:
        """Write what it takes to show a segment, unless it is there."""
        path = self._scene_file(segment.id)
        if segment.scene is None:
            return
        self._written.append(path)
        if not path.exists():
            save_tree(path, {"scene": segment.scene, "actions": segment.actions}, private=True)

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
            tree = load_tree(self._scene_file(segment_id))
        except FileNotFoundError as error:
            raise PrefrlError(f"the scene {error} is missing") from None
        return tree["scene"], tree["actions"]

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
            return hashlib.sha256(self.file(segment_id).read_bytes()).hexdigest()
        except FileNotFoundError:
            raise PrefrlError(f"the clip {self.file(segment_id)} is missing") from None

    def load(self, segment_id: int) -> tuple[Array, Floats]:
        """Read a segment's features, (L, F) or images as they are kept, and (L,) true rewards.

        Raises:
            PrefrlError: if the clip is missing or damaged.
        """
        try:
            tree = load_tree(self.file(segment_id))
        except FileNotFoundError as error:
            raise PrefrlError(f"the clip {error} is missing") from None
        try:
            return _unpacked(tree["features"]), tree["true_rewards"]
        except (zlib.error, ValueError) as error:
            raise DamagedFileError(f"the clip {self.file(segment_id)} is damaged: {error}") from None


def _packed(features: Array) -> Any:
    """Numbers as they are; images deflated, which saves nine tenths and more of them."""
    if features.dtype != np.uint8:
        return features
    deflated = np.frombuffer(zlib.compress(features.tobytes()), np.uint8)
    return {"deflated": deflated, "shape": list(features.shape)}


def _unpacked(kept: Any) -> Array:
    if not isinstance(kept, dict):
        return np.asarray(kept)
    return np.frombuffer(bytearray(zlib.decompress(kept["deflated"])), np.uint8).reshape(kept["shape"])
