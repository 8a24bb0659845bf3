"""People as teachers. They answer in the viewer, which writes to the store directly."""

from __future__ import annotations

from collections.abc import Sequence

from prefrl.feedback.terms import Answer, Query


class HumanTeacher:
    """Stands for the people who label, whose viewers read queries from the store and write answers to it."""

    def submit(self, queries: dict[int, Query]) -> None:
        """Do nothing: viewers read the queries from the store."""

    def collect(self) -> Sequence[Answer]:
        """Return nothing: viewers write the answers to the store."""
        return ()
