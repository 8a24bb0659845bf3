"""A run's checkpoints: the newest two, and before the first one the recording of the untrained policy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from prefrl.config.migrations import opened, stamped
from prefrl.errors import PrefrlError
from prefrl.printable import printable
from prefrl.storage.files import LARGEST_TREE, DamagedFileError, Tree, check_tree, load_parts, load_tree, save_tree

_KEPT = 2
_ACTING = ("agent/policy/", "env/normaliser/")
"""Parts of a checkpoint that a policy needs to act."""


class Checkpoints:
    """Saves and loads checkpoints."""

    def __init__(self, folder: Path) -> None:
        """Set the paths of the files; `folder` is the folder `checkpoints/` of a run."""
        self._folder = folder
        self.recording = folder / "recording.safetensors"

    def save(self, step: int, tree: Tree) -> None:
        """Save a checkpoint; keep the newest two.

        Args:
            step: Agent steps taken.
            tree: The state.
        """
        save_tree(self._folder / f"{step:012d}.safetensors", stamped("checkpoint", tree), durable=True)
        for path in self.files()[:-_KEPT]:
            path.unlink()
        self.recording.unlink(missing_ok=True)

    def save_recording(self, tree: Tree) -> None:
        """Save the state before the first checkpoint; the first checkpoint replaces it."""
        save_tree(self.recording, stamped("checkpoint", tree), durable=True)

    def load_recording(self, warn: Callable[[str], None], most: int = LARGEST_TREE) -> Tree | None:
        """Load the state from `save_recording`.

        Args:
            warn: Called with a warning if the file is damaged.
            most: Largest size that the file may have, in bytes.

        Returns:
            None if the file is missing or damaged.
        """
        try:
            return opened("checkpoint", load_tree(self.recording, most), self.recording)
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            warn(f"{error}; the untrained policy is recorded again")
            return None

    def check(self) -> None:
        """Check that the run can be resumed from a checkpoint, without slow imports.

        Raises:
            PrefrlError: if there are checkpoints, and all are damaged.
        """
        files = self.files()
        if files and not any(map(_is_whole, reversed(files))):
            raise self._no_checkpoint()

    def load(self, warn: Callable[[str], None], most: int = LARGEST_TREE) -> Tree | None:
        """Load the newest intact checkpoint.

        Args:
            warn: Called with a warning for each damaged checkpoint that is skipped.
            most: Largest size that a file may have, in bytes.

        Returns:
            None if there are no checkpoints.

        Raises:
            PrefrlError: if there are checkpoints, and all are damaged.
        """
        for path in self._newest_first():
            try:
                return opened("checkpoint", load_tree(path, most), path)
            except DamagedFileError as error:
                warn(str(error))
        return None

    def load_policy(self, most: int) -> Tree | None:
        """Load the policy and its observation normalisation from the newest intact checkpoint.

        Args:
            most: Maximum size of both in bytes.

        Returns:
            None if there are no checkpoints.

        Raises:
            PrefrlError: if there are checkpoints, and all are damaged.
        """
        for path in self._newest_first():
            with contextlib.suppress(DamagedFileError):
                return opened("checkpoint", load_parts(path, _ACTING, most), path)
        return None

    def _newest_first(self) -> Iterator[Path]:
        """Iterate over the checkpoints until one is used; raise PrefrlError if there are some, and none is used."""
        files = self.files()
        yield from reversed(files)
        if files:
            raise self._no_checkpoint()

    def _no_checkpoint(self) -> PrefrlError:
        root = printable(self._folder.parent)
        return PrefrlError(f"all checkpoints of {root} are damaged; `labels.sqlite` and `clips/` are intact")

    def files(self) -> list[Path]:
        """Return the checkpoints, oldest first; the recording is none of them."""
        return sorted(self._folder.glob("[0-9]*.safetensors"))


def _is_whole(path: Path) -> bool:
    try:
        check_tree(path)
    except DamagedFileError:
        return False
    return True
