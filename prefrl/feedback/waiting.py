"""Callbacks that wait for other programs' transactions on a database."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefrl.errors import PrefrlError
from prefrl.printable import complain

Waiting = Callable[[float], None]
"""Called repeatedly with the seconds that a transaction has waited for another program; may raise to stop waiting."""
_PATIENCE = 30.0
"""Seconds to wait before an error or a warning."""


def give_up(path: Path) -> Waiting:
    """Return a callback for `Database` that raises PrefrlError after 30 seconds."""

    def waiting(seconds: float) -> None:
        if seconds > _PATIENCE:
            raise PrefrlError(f"{path} is locked by another program's transaction")

    return waiting


def wait_on(path: Path, warn: Callable[[str], None] = complain) -> Waiting:
    """Return a callback for `Database` that waits indefinitely, and warns once per transaction.

    Args:
        path: The database.
        warn: Called with the warning, which is one line.
    """
    told = 0.0

    def waiting(seconds: float) -> None:
        nonlocal told
        if seconds > _PATIENCE and told <= _PATIENCE:
            warn(f"{path} is locked by another program's transaction; waiting until it ends")
        told = seconds

    return waiting
