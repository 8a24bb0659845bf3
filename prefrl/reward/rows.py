"""Memory for rows that grows with what is put in, so that it follows the labels there are, not those there might be."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

FIRST = 64
"""Rows that there is room for from the start."""


def with_room(rows: Tensor, count: int, capacity: int, make: Callable[[int], Tensor]) -> Tensor:
    """Rows with room for at least so many: the same where there is, else twice as many, the old ones copied.

    Args:
        rows: What there is.
        count: Rows that are needed.
        capacity: The most that there can be.
        make: Gives a tensor of so many rows.
    """
    if count <= len(rows):
        return rows
    grown = make(min(capacity, max(count, 2 * len(rows))))
    grown[: len(rows)] = rows
    return grown
