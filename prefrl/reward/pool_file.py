"""The file through which the learner's process gets the segments of the pool, for pseudo-labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prefrl.experience.inputs import Inputs
from prefrl.experience.segment import Segment
from prefrl.reward.pseudo_labels import Unlabelled
from prefrl.storage.files import DamagedFileError, load_tree, save_tree, taken_from


def save_pool(path: Path, pool: Sequence[Segment], inputs: Inputs) -> None:
    """Replace the file by one with the ids and features of the pool's segments."""
    if pool:
        ids = np.array([segment.id for segment in pool])
        save_tree(path, {"ids": ids, "features": np.stack([inputs.features(segment) for segment in pool])})


class PoolFile:
    """Reads the file when it has been replaced."""

    def __init__(self, path: Path, unlabelled: Unlabelled) -> None:
        self._path, self._unlabelled, self._stamp = path, unlabelled, (0, 0)

    def refresh(self) -> None:
        """Read the segments if the file is new. A missing or damaged file is ignored: the agent will replace it."""
        try:
            stat = self._path.stat()
            if (stamp := (stat.st_mtime_ns, stat.st_ino)) == self._stamp:
                return
            tree = load_tree(self._path)
            with taken_from(self._path):
                ids, features = tree["ids"].tolist(), tree["features"]
                accepted = self._unlabelled.accepts(ids, features)
        except (FileNotFoundError, DamagedFileError):
            return
        if accepted:
            self._unlabelled.update(ids, dict(zip(ids, features, strict=True)))
            self._stamp = stamp
