"""A run's checkpoints: the newest two, and before the first one the recording of the untrained policy.

Large parts of the state that never change, e.g. of a replay memory, are pieces: files of their own, each of which is
written once and deleted when no checkpoint needs it any longer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from prefrl.config.migrations import opened, stamped
from prefrl.errors import PrefrlError
from prefrl.printable import printable
from prefrl.storage.files import LARGEST_TREE, DamagedFileError, Tree, check_tree, load_parts, load_tree, save_tree

_KEPT = 2
_PIECES = "piece-{}.safetensors"
Pieces = Mapping[str, Callable[[], Tree]]
"""Functions that make pieces, by name; see `Agent.pieces`."""
_NO_PIECES: Pieces = MappingProxyType({})
_ACTING = ("agent/policy/", "env/normaliser/")
"""Parts of a checkpoint that a policy needs to act."""


class Checkpoints:
    """Saves and loads checkpoints."""

    def __init__(self, folder: Path) -> None:
        """Set the paths of the files; `folder` is the folder `checkpoints/` of a run."""
        self._folder = folder
        self.recording = folder / "recording.safetensors"
        self._pieces: set[str] = set()
        """Names of the pieces of the checkpoint that was saved or loaded last."""

    def save(self, step: int, tree: Tree, pieces: Pieces = _NO_PIECES) -> None:
        """Save a checkpoint; keep the newest two.

        Args:
            step: Agent steps taken.
            tree: The state without its pieces.
            pieces: The pieces; those that are on disk already are not made.
        """
        self._save(self._folder / f"{step:012d}.safetensors", tree, pieces)
        for path in self.files()[:-_KEPT]:
            path.unlink()
        self.recording.unlink(missing_ok=True)

    def save_recording(self, tree: Tree, pieces: Pieces = _NO_PIECES) -> None:
        """Save the state before the first checkpoint; the first checkpoint replaces it."""
        self._save(self.recording, tree, pieces)

    def _save(self, path: Path, tree: Tree, pieces: Pieces) -> None:
        for name in pieces.keys() - self._pieces:
            save_tree(self._piece(name), stamped("checkpoint", pieces[name]()), durable=True)
        save_tree(path, stamped("checkpoint", tree | {"pieces": sorted(pieces)}), durable=True)
        needed = {self._piece(name) for name in self._pieces | pieces.keys()}  # the checkpoint before needs some too
        for unneeded in set(self._folder.glob(_PIECES.format("*"))) - needed:
            unneeded.unlink()
        self._pieces = set(pieces)

    def _piece(self, name: str) -> Path:
        return self._folder / _PIECES.format(name)

    def load_recording(
        self, warn: Callable[[str], None], most: int = LARGEST_TREE, most_pieces: int = 0
    ) -> Tree | None:
        """Load the state from `save_recording`; arguments as for `load`.

        Returns:
            None if the file is missing or damaged.
        """
        try:
            return self._loaded(self.recording, most, most_pieces) if self.recording.exists() else None
        except DamagedFileError as error:
            warn(f"{error}; the untrained policy is recorded again")
            return None

    def check(self) -> None:
        """Check that the run can be resumed from a checkpoint, without slow imports.

        Raises:
            PrefrlError: if there are checkpoints, and all are damaged.
        """
        files = self.files()
        if files and not any(map(self._is_whole, reversed(files))):
            raise self._no_checkpoint()

    def load(self, warn: Callable[[str], None], most: int = LARGEST_TREE, most_pieces: int = 0) -> Tree | None:
        """Load the newest intact checkpoint.

        Args:
            warn: Called with a warning for each damaged checkpoint that is skipped.
            most: Largest size that a file may have, in bytes.
            most_pieces: Largest size that all pieces of a checkpoint may have together, in bytes.

        Returns:
            The state, with the content of its pieces under `pieces`; None if there are no checkpoints.

        Raises:
            PrefrlError: if there are checkpoints, and all are damaged.
        """
        for path in self._newest_first():
            try:
                return self._loaded(path, most, most_pieces)
            except DamagedFileError as error:
                warn(str(error))
        return None

    def _loaded(self, path: Path, most: int, most_pieces: int) -> Tree:
        """Load a checkpoint and its pieces.

        Raises:
            DamagedFileError: if one of the files is missing, truncated, altered or too large.
        """
        tree = opened("checkpoint", load_tree(path, most), path)
        pieces = self._pieces_of(path, tree)
        if sum(piece.stat().st_size for piece in pieces.values()) > most_pieces:
            raise DamagedFileError(f"{printable(path)} is damaged: its pieces are larger than can be right")
        content = {name: opened("checkpoint", load_tree(piece), piece) for name, piece in pieces.items()}
        self._pieces = set(pieces)
        return tree | {"pieces": content}

    def _pieces_of(self, path: Path, tree: Tree) -> dict[str, Path]:
        """Return the files of a checkpoint's pieces; raise DamagedFileError if one is missing or no piece."""
        names = tree.get("pieces", [])  # missing in checkpoints of older versions
        if not (isinstance(names, list) and all(isinstance(name, str) and name.isdecimal() for name in names)):
            raise DamagedFileError(f"{printable(path)} is damaged: it names pieces that are none")
        pieces = {name: self._piece(name) for name in names}
        for piece in pieces.values():
            if not piece.is_file() or piece.is_symlink():
                raise DamagedFileError(f"{printable(path)} is damaged: its piece {printable(piece.name)} is missing")
        return pieces

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

    def _is_whole(self, path: Path) -> bool:
        try:
            for piece in self._pieces_of(path, load_parts(path, (), 0)).values():
                check_tree(piece)
        except DamagedFileError:
            return False
        return True
