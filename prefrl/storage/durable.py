"""Durable writes: files are on disk before anything durable refers to them, so that a power cut loses nothing.

A file's content and its directory entry are written separately, so both must be flushed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_AT_ONCE = 16
_WINDOWS = os.name == "nt"


def sync(files: Iterable[Path]) -> None:
    """Flush files and their directory entries to disk.

    Files are flushed in parallel, so that the file system commits them together: 350 clips take 80 ms instead of 2 s.
    """
    paths = list(dict.fromkeys(files))
    if not paths:
        return
    with ThreadPoolExecutor(min(_AT_ONCE, len(paths))) as pool:
        list(pool.map(_flush, paths))
    for folder in dict.fromkeys(path.parent for path in paths):
        sync_folder(folder)


def sync_folder(path: Path) -> None:
    """Flush a folder's entries (created, renamed and deleted files) to disk."""
    if not _WINDOWS:  # Windows cannot open folders; NTFS journals its entries
        _flush(path)


def make_folder(path: Path) -> None:
    """Create a folder and its parents durably; an existing folder is kept."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync_folder(folder.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR if _WINDOWS else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
