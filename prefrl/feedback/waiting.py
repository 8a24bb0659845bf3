"""How long to wait for another program's transaction."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prefrl.errors import PrefrlError
from prefrl.printable import complain

Waiting = Callable[[float], None]
"""Called again and again with the seconds that a transaction has waited for another program's; may raise to give up."""
_PATIENCE = 30.0
"""Seconds that whoever has nothing else to wait for gives another program's transaction."""


def give_up(path: Path) -> Waiting:
    """For `Database`: an error after a while."""

    def waiting(seconds: float) -> None:
        if seconds > _PATIENCE:
            raise PrefrlError(f"{path} is in the hands of another program's transaction")

    return waiting


def wait_on(path: Path, warn: Callable[[str], None] = complain) -> Waiting:
    """For `Database`: waits for as long as it takes, and says so once each time.

    Args:
        path: The database.
        warn: Told in one line.
    """
    told = 0.0

    def waiting(seconds: float) -> None:
        nonlocal told
        if seconds > _PATIENCE and told <= _PATIENCE:
            warn(f"{path} is in the hands of another program's transaction; waiting until it has ended")
        told = seconds

    return waiting
