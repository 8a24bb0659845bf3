"""A run's history of answers, row by row, as a reward learner follows it: what was said, and what was taken back."""

from __future__ import annotations

import sqlalchemy as sa

from prefrl.feedback.columns import legible
from prefrl.feedback.database import HISTORY, META, QUERIES, REPEATS
from prefrl.feedback.store import LabelStore
from prefrl.types import Comparison, Judgement, Undone

_LAST = 2**63 - 1


class Following:
    """Reads a store's history."""

    def __init__(self, store: LabelStore) -> None:
        self._read, self._write = store.database.read, store.database.write

    def changes(self, *, after: int = 0, upto: int | None = None) -> list[Comparison | Undone]:
        """What a learner that has followed the history up to one row has to know up to another.

        Args:
            after: The row that was followed last.
            upto: The row to come to; None for the newest.

        Returns:
            In the order of their rows: comparisons that stand as of `upto`, and answers from up to `after` that were
            taken back since. What was said and taken back in between is left out.
        """
        last = _LAST if upto is None else upto
        undo = HISTORY.alias()
        undone = sa.exists().where(undo.c.undoes == HISTORY.c.id, undo.c.id <= last)
        told = [judgement.value for judgement in Judgement if judgement.mu is not None]
        said = sa.and_(HISTORY.c.undoes.is_(None), HISTORY.c.judgement.in_(told), legible(HISTORY, HISTORY))
        sides = (QUERIES.c.segment_left, QUERIES.c.segment_right)
        query = (
            sa.select(HISTORY.c.id, *sides, HISTORY.c.judgement, HISTORY.c.undoes)
            .join(QUERIES, QUERIES.c.id == HISTORY.c.query_id)
            .where(HISTORY.c.id > after, HISTORY.c.id <= last, QUERIES.c.id.not_in(sa.select(REPEATS.c.query_id)))
            .where(sa.or_(HISTORY.c.undoes <= after, sa.and_(said, ~undone)))
            .order_by(HISTORY.c.id)
        )
        with self._read() as connection:
            rows = connection.execute(query).all()
        return [
            Comparison(*row[:3], Judgement(row[3]).mu or 0.0) if row[4] is None else Undone(row[0], row[4])
            for row in rows
        ]

    def followed(self, round_: int, step: int) -> int:
        """The row up to which the learner of a synchronous run follows the history in a selection round.

        It is every row before the first of a later round, which a run that went back to a checkpoint must not see yet.
        People take answers back at any time, so the row is noted where they answer: the replayed round stops there too.

        Args:
            round_: The round.
            step: The agent's step, which a run that goes on differently after going back is at with another round.
        """
        key = f"followed in round {round_} at step {step}"
        joined = sa.join(HISTORY, QUERIES, QUERIES.c.id == HISTORY.c.query_id)
        first = sa.select(sa.func.min(HISTORY.c.id)).select_from(joined).where(QUERIES.c.round > round_)
        with self._write() as connection:
            if (noted := connection.scalar(sa.select(META.c.value).where(META.c.key == key))) is not None:
                return int(noted)
            later = connection.scalar(first)
            row = int(connection.scalar(sa.select(sa.func.max(HISTORY.c.id))) or 0) if later is None else later - 1
            if connection.scalar(sa.select(HISTORY.c.id).where(HISTORY.c.labeller.is_not(None)).limit(1)) is not None:
                connection.execute(META.insert().values(key=key, value=str(row)))
        return row
