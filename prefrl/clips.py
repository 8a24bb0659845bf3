"""Clips on disk: for each segment that is asked about, the training copy that the reward learner reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from prefrl.errors import PrefrlError
from prefrl.files import load_tree, save_tree
from prefrl.types import Floats, Segment


class ClipFolder:
    """The folder `clips/` of a run; one file a segment, written once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def _file(self, segment_id: int) -> Path:
        return self._path / f"{segment_id:08d}.safetensors"

    def save(self, segment: Segment) -> bool:
        """Write a segment, unless it is there.

        Returns:
            False where another segment has this id: its clip is kept, since labels may refer to it.
        """
        path = self._file(segment.id)
        if path.exists():
            return np.array_equal(self.load(segment.id)[0], segment.features)
        save_tree(path, {"features": segment.features, "true_rewards": segment.true_rewards})
        return True

    def load(self, segment_id: int) -> tuple[Floats, Floats]:
        """Read a segment's (L, F) features and (L,) true rewards.

        Raises:
            PrefrlError: if the clip is missing or damaged.
        """
        try:
            tree = load_tree(self._file(segment_id))
        except FileNotFoundError as error:
            raise PrefrlError(f"the clip {error} is missing") from None
        return tree["features"], tree["true_rewards"]
