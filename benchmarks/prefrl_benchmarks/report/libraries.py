"""The libraries that reports and figures need, which the extra `bench` installs."""

from __future__ import annotations

import importlib.util

from prefrl.errors import PrefrlError


def need_libraries() -> None:
    """Raise PrefrlError if the extra `bench` is not installed."""
    for module in ("jinja2", "matplotlib", "scipy"):
        if importlib.util.find_spec(module) is None:
            raise PrefrlError(f"this needs {module}: pip install 'prefrl[bench]'")
