"""Where studies are, and what marks a folder as the output of one. This file imports nothing slow, and no extra."""

from __future__ import annotations

from pathlib import Path

MANIFEST = "study.json"
"""File that names the study of a folder."""
FOLDER = Path(__file__).parent


def is_study(folder: Path) -> bool:
    """Return whether a folder holds a study."""
    return (folder / MANIFEST).exists()


def known_studies() -> list[str]:
    """Names of all studies."""
    return sorted(path.parent.name.replace("_", "-") for path in FOLDER.glob("*/study.toml"))


def place_of(study: str) -> Path:
    """Return the folder of a study's settings, experiment and analysis."""
    return FOLDER / study.replace("-", "_")
