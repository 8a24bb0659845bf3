"""The one file by which a learner's weights reach whoever predicts with them."""

from __future__ import annotations

from pathlib import Path

from prefrl.config.migrations import opened, stamped
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.storage.files import DamagedFileError, Tree, load_tree, save_tree, taken_from
from prefrl.storage.reading import MEBIBYTE


class Publisher:
    """Publishes an ensemble's weights, version by version."""

    def __init__(self, ensemble: RewardEnsemble) -> None:
        self._ensemble = ensemble
        self.version = 0
        """How often weights were published."""

    def publish(self, path: Path, metrics: dict[str, float]) -> None:
        """Replace the published weights.

        Args:
            path: Their file.
            metrics: What to say of them.
        """
        self.version += 1
        tree = {"weights": dict(self._ensemble.state_dict()), "metrics": metrics | {"version": self.version}}
        save_tree(path, stamped("weights", tree))

    def state_dict(self) -> Tree:
        """The version."""
        return {"counters": {"version": self.version}}

    def load_state_dict(self, state: Tree) -> None:
        """Go back to a saved state."""
        self.version = state["counters"]["version"]


class PublishedReward:
    """A reader's view of the weights that a learner publishes: the newest ensemble, and what the learner said of it."""

    def __init__(self, path: Path, ensemble: RewardEnsemble) -> None:
        self._path, self._stamp = path, (0, 0)
        self.ensemble = ensemble
        self.metrics: dict[str, float] = {}

    @property
    def version(self) -> int:
        """How often weights had been published when these were; 0 before the first."""
        return int(self.metrics.get("version", 0))

    def refresh(self) -> bool:
        """Load the published weights if they are newer than those here; whether they were."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return False
        if (stamp := (stat.st_mtime_ns, stat.st_ino)) == self._stamp:
            return False
        try:
            tree = opened("weights", load_tree(self._path, largest_weights(self.ensemble)), self._path)
        except DamagedFileError:
            return False  # the learner replaces it whole
        with taken_from(self._path):
            self.ensemble.load_arrays(tree["weights"])
            self._stamp, self.metrics = stamp, {name: value + 0 for name, value in tree["metrics"].items()}
        return True


def largest_weights(ensemble: RewardEnsemble) -> int:
    """Bytes that a file of its weights may have; it has half as many, and figures beside."""
    return 2 * sum(int(tensor.nbytes) for tensor in ensemble.state_dict().values()) + MEBIBYTE
