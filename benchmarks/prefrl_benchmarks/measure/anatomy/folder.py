"""The folder of the results of `prefrl bench anatomy`."""

from __future__ import annotations

import os
from pathlib import Path

from prefrl.errors import UsageError

RESULT = "anatomy.json"
"""The file with the whole result."""


def check_out(out: Path) -> None:
    """Raise UsageError if a folder for results has some already, or cannot be made."""
    if (out / RESULT).exists():
        raise UsageError(f"{out} has an {RESULT} already; choose another --out")
    folder = next(parent for parent in (out, *out.absolute().parents) if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise UsageError(f"--out {out} cannot be written")
