"""What marks a folder as the output of a study. This file has no slow imports."""

from __future__ import annotations

from pathlib import Path

MANIFEST = "study.json"
"""File that names the study of a folder."""


def is_study(folder: Path) -> bool:
    """Return whether a folder holds a study."""
    return (folder / MANIFEST).exists()
