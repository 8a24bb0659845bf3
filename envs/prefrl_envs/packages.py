"""Optional packages of tasks: which versions fit together, and what is missing. Nothing is imported to find out."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata

FITTING = {"mujoco": "3.11", "dm-control": "1.0.44", "metaworld": "3"}
"""How the version of a package must begin. The suites read parts of MuJoCo's model that MuJoCo 4 no longer has."""
REMEDY = "pip install 'prefrl[bpref]'"
"""The command that installs them."""


def misfit(packages: Iterable[str]) -> str | None:
    """Say in one line which packages are missing or have a version that does not fit; None if all is well.

    Args:
        packages: Names in `FITTING`.
    """
    found = {name: _version(name) for name in packages}
    missing = [name for name, version in found.items() if version is None]
    wrong = [
        f"{name} must be {FITTING[name]}, not {version}"
        for name, version in found.items()
        if version is not None and not f"{version}.".startswith(f"{FITTING[name]}.")
    ]
    told = [f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"] if missing else []
    return "; ".join(told + wrong) or None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
