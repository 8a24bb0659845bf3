"""What the loop knows of whoever answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prefrl.feedback.terms import Answer, Query


class Teacher(Protocol):
    """Whoever answers queries. Both calls return at once; people and programs share this one path."""

    def submit(self, queries: dict[int, Query]) -> None:
        """Take queries, by their ids in the store."""

    def collect(self) -> Sequence[Answer]:
        """Give the answers that are ready and not yet in the store; never waits."""
