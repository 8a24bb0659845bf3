"""What commands of `prefrl bench` check before they begin."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

from prefrl.errors import PrefrlError, UsageError


def need_writable(out: Path | None) -> None:
    """Raise UsageError if the results cannot be written."""
    if out and (out.is_dir() or not os.access(out.parent, os.W_OK)):
        raise UsageError(f"--out {out} cannot be written")


def need_libraries() -> None:
    """Raise PrefrlError if the extra `bench` is not installed."""
    for module in ("jinja2", "matplotlib", "scipy"):
        if importlib.util.find_spec(module) is None:
            raise PrefrlError(f"this needs {module}: pip install 'prefrl[bench]'")
