"""The published weights of a reward model: a file that the learner writes, and that others read to predict."""

from __future__ import annotations

from pathlib import Path

from prefrl.config.migrations import opened, stamped
from prefrl.errors import PrefrlError
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.storage.files import DamagedFileError, Tree, load_tree, save_tree, taken_from
from prefrl.storage.reading import MEBIBYTE


class Publisher:
    """Publishes an ensemble's weights in numbered versions."""

    def __init__(self, ensemble: RewardEnsemble) -> None:
        self._ensemble = ensemble
        self.version = 0
        """Number of times that weights were published."""

    def publish(self, path: Path, metrics: dict[str, float], about: Tree | None = None) -> None:
        """Replace the published weights.

        Args:
            path: The file of weights.
            metrics: Metrics of the fit, which are stored with the weights.
            about: Further entries.
        """
        self.version += 1
        tree = {"weights": dict(self._ensemble.state_dict()), "metrics": metrics | {"version": self.version}}
        save_tree(path, stamped("weights", tree | (about or {})))

    def state_dict(self) -> Tree:
        """Return the version."""
        return {"counters": {"version": self.version}}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self.version = state["counters"]["version"]


class PublishedReward:
    """The newest published weights, as an ensemble, with the learner's metrics of their fit."""

    def __init__(self, path: Path, ensemble: RewardEnsemble) -> None:
        self._path, self._stamp = path, (0, 0)
        self.ensemble = ensemble
        self.metrics: dict[str, float] = {}

    @property
    def version(self) -> int:
        """Version of the loaded weights; 0 if none were published yet."""
        return int(self.metrics.get("version", 0))

    def refresh(self) -> bool:
        """Load the published weights if they are newer, and return whether they were."""
        try:
            stat = self._path.stat()
        except FileNotFoundError:
            return False
        if (stamp := (stat.st_mtime_ns, stat.st_ino)) == self._stamp:
            return False
        try:
            tree = opened("weights", load_tree(self._path, largest_weights(self.ensemble)), self._path)
        except DamagedFileError:
            return False  # the learner will replace the file
        with taken_from(self._path):
            self.ensemble.load_arrays(tree["weights"])
            self._stamp, self.metrics = stamp, {name: value + 0 for name, value in tree["metrics"].items()}
        return True


def load_published(path: Path, ensemble: RewardEnsemble) -> Tree:
    """Load published weights into an ensemble, and return the content of their file.

    Args:
        path: The file of weights.
        ensemble: An ensemble with the networks that the weights are of.

    Raises:
        PrefrlError: if the file is missing, damaged, or of other networks.
        UsageError: if a newer version of prefrl made it.
    """
    if not path.exists():
        raise PrefrlError(f"{path} is missing: there is no learned reward")
    tree = opened("weights", load_tree(path, largest_weights(ensemble)), path)
    with taken_from(path):
        ensemble.load_arrays(tree["weights"])
    return tree


def largest_weights(ensemble: RewardEnsemble) -> int:
    """Return the size limit in bytes of a file of weights: twice the weights, which leaves room for metrics."""
    return 2 * sum(int(tensor.nbytes) for tensor in ensemble.state_dict().values()) + MEBIBYTE
