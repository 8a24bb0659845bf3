"""Checks of single settings. Each raises a UsageError that names the setting."""

from __future__ import annotations

import itertools

from prefrl.errors import UsageError

_MOST_UNITS = 2**16
"""Largest width of a hidden layer."""
_MOST_WEIGHTS = 10**8
"""Most weights between hidden layers, over all copies of a network: 1.6 GB with gradients and the optimiser's state."""


def check_widths(name: str, widths: tuple[int, ...], *, copies: int) -> None:
    """Check that a network's layers fit into memory with their gradients and Adam's two moments."""
    require(all(width >= 1 for width in widths), f"{name} needs widths of at least 1")
    at_most(f"{name}'s layers", len(widths), 64)
    for width in widths:
        at_most(name, width, _MOST_UNITS)
    weights = copies * sum(a * b for a, b in itertools.pairwise(widths))
    at_most(f"the weights of {name}", weights, _MOST_WEIGHTS)


def at_most(name: str, value: int, most: int) -> None:
    """Check that a value does not exceed its limit."""
    require(value <= most, f"{name} must be at most {most:,}, not {value:,}")


def require(condition: bool, message: str) -> None:
    """Raise UsageError with the message unless the condition holds."""
    if not condition:
        raise UsageError(message)
