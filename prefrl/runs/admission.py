"""Whether a folder may be opened as a run: before anything of it is.

A run may come from somebody else. A link in the place of one of its files would lead what is written, or deleted, to
other files of whoever opens it; a pipe or a device would never end; and a rollback journal, which a run's database
never has, can name any file for SQLite to delete. So a run holds regular files and folders, or it is refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from prefrl.errors import PrefrlError
from prefrl.printable import printable

_FOLDERS = frozenset({"checkpoints", "clips", "reward_model", "tensorboard"})
"""Where a run's own files are, all the way down; other folders in it are never looked into."""
_DEEPEST = 4
"""Folders above a file of a run, the run's own among them; TensorBoard's may be two deep."""
_MOST = 200_000
"""Files and folders of a run: three a clip, of more labels than a person gives in a year."""
_FILES = frozenset({"config.json", "labels.sqlite", "metrics.csv", "progress.json", "summary.json"})


def admit_run(root: Path) -> None:
    """Refuse a folder that holds what no run does; a link to the folder itself is fine.

    Raises:
        PrefrlError: naming the first such thing.
    """
    for entry in _entries(root):
        if problem := _problem(entry):
            name = printable(os.path.relpath(entry.path, root))
            raise PrefrlError(f"{printable(root)} cannot be opened: {name} {problem}")


def _entries(root: Path) -> Iterator[os.DirEntry[str]]:
    folders, count = [(str(root), 1)], 0
    while folders:
        folder, depth = folders.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if (count := count + 1) > _MOST:
                    raise PrefrlError(f"{printable(root)} cannot be opened: it holds more files than a run can")
                yield entry
                if (depth > 1 or entry.name in _FOLDERS) and entry.is_dir(follow_symlinks=False):
                    if depth >= _DEEPEST:
                        name = printable(os.path.relpath(entry.path, root))
                        raise PrefrlError(f"{printable(root)} cannot be opened: {name} is deeper than a run is")
                    folders.append((entry.path, depth + 1))


def _problem(entry: os.DirEntry[str]) -> str | None:
    if entry.is_symlink():
        return "is a symbolic link; a run holds its files itself"
    if entry.name == "labels.sqlite-journal":
        return "is a rollback journal, which no run has"
    if entry.is_dir(follow_symlinks=False):
        return "is a folder" if entry.name in _FILES else None
    if entry.name in _FOLDERS:
        return "is no folder"
    return None if entry.is_file(follow_symlinks=False) else "is no regular file"
