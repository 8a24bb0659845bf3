"""Check the files of a run directory before it is opened.

A run may have been made by someone else. A symbolic link in place of a file could redirect writes or deletions to the
user's own files, reading a pipe or a device might never end, and a rollback journal can make SQLite delete any file.
A run's database never has a rollback journal. Only directories of regular files and folders are opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from prefrl.errors import PrefrlError
from prefrl.printable import printable

_FOLDERS = frozenset({"checkpoints", "clips", "reference", "reward_model", "tensorboard"})
"""Folders of a run; only these are checked recursively."""
_DEEPEST = 4
"""Maximum depth of folders, including the run directory; TensorBoard may nest two levels."""
_MOST = 200_000
"""Maximum number of files and folders: three per clip, for more labels than a person gives in a year."""
_FILES = frozenset(
    {
        "config.json",
        "demonstrations.safetensors",
        "labels.sqlite",
        "metrics.csv",
        "progress.json",
        "summary.json",
    }
)


def admit_run(root: Path) -> None:
    """Refuse a folder that contains files of unexpected types. A link to the folder itself is allowed.

    Raises:
        PrefrlError: naming the first such file.
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
        return "is not a folder"
    return None if entry.is_file(follow_symlinks=False) else "is not a regular file"
