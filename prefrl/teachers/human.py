"""People: they answer in viewers, whenever they like, and their answers come into the store without passing here."""

from __future__ import annotations

from collections.abc import Sequence

from prefrl.feedback.terms import Answer, Query


class HumanTeacher:
    """The loop's view of the people who label: queries are in the store, and so will the answers be."""

    def submit(self, queries: dict[int, Query]) -> None:
        """Nothing to do: viewers find the queries in the store."""

    def collect(self) -> Sequence[Answer]:
        """Nothing to store: viewers have done so, one by one."""
        return ()
