"""The interface between the training loop and a teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from prefrl.feedback.terms import Answer, Query


class Teacher(Protocol):
    """A person or program that answers queries. Neither method may block."""

    def submit(self, queries: dict[int, Query]) -> None:
        """Receive queries, given by their ids in the store."""

    def collect(self) -> Sequence[Answer]:
        """Return the answers that are ready and not yet in the store."""
