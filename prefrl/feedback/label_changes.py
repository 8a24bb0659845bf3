"""The changes in a run's history of answers, row by row, as a reward learner needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from prefrl.feedback.answers import READABLE, damaged
from prefrl.feedback.database import ANSWERS, META, QUERIES, REPEATS, segments_of
from prefrl.feedback.kinds import KINDS, from_json
from prefrl.feedback.store import LabelStore, label_of
from prefrl.feedback.terms import DEMONSTRATIONS, GivenAnswer, Label, Undone

_LAST = 2**63 - 1


class LabelChanges:
    """Reads the changes in a store's history of answers of some feedback kinds."""

    def __init__(self, store: LabelStore, *kinds: str) -> None:
        self._read, self._write, self._kinds = store.database.read, store.database.write, kinds

    def changes(self, *, after: int = 0, upto: int | None = None) -> list[Label | Undone]:
        """Return the changes between two rows of the history, for a learner that has processed the earlier ones.

        Args:
            after: The last row that was processed.
            upto: The last row to process; None for the newest.

        Returns:
            The changes in the order of their rows: labels that stand as of `upto`, and undone answers of rows up
            to `after`. Answers that were given and undone in between are left out.
        """
        last = _LAST if upto is None else upto
        query = self._rows(last).where(ANSWERS.c.id > after)
        query = query.where(sa.or_(ANSWERS.c.undoes <= after, _stands(last))).order_by(ANSWERS.c.id)
        with self._read() as connection:
            rows = connection.execute(query).all()
            about = segments_of(connection, sa.select(ANSWERS.c.query_id).where(ANSWERS.c.id > after)) if rows else {}
        changes = (_change(row, about[row.query_id]) for row in rows)
        return [change for change in changes if change is not None]

    def given(self, *, upto: int | None = None, most: int | None = None) -> list[GivenAnswer]:
        """Return the answers that stand now, or stood as of a row of the history, including "can't tell", in order.

        Automatic labels are left out, because nobody was asked, and so are damaged answers.

        Args:
            upto: The last row to read; None for the newest.
            most: Return only so many of the newest answers.
        """
        last = _LAST if upto is None else upto
        query = self._rows(last).where(_stands(last), ANSWERS.c.teacher != DEMONSTRATIONS)
        with self._read() as connection:
            rows = connection.execute(query.order_by(ANSWERS.c.id.desc()).limit(most)).all()[::-1]
            before = rows[0].id - 1 if rows else _LAST
            about = segments_of(connection, sa.select(ANSWERS.c.query_id).where(ANSWERS.c.id > before))
            corrupt = damaged(connection, before)
        answers = (_given(row, about[row.query_id]) for row in rows if row.id not in corrupt)
        return [answer for answer in answers if answer is not None]

    def _rows(self, last: int) -> sa.Select[Any]:
        """Select the rows of the history up to one that are about queries of the feedback kinds, without repeats."""
        columns = (ANSWERS.c.id, ANSWERS.c.query_id, QUERIES.c.kind, ANSWERS.c.value, ANSWERS.c.undoes)
        asked = sa.and_(QUERIES.c.kind.in_(self._kinds), QUERIES.c.id.not_in(sa.select(REPEATS.c.query_id)))
        return sa.select(*columns).join(QUERIES, QUERIES.c.id == ANSWERS.c.query_id).where(asked, ANSWERS.c.id <= last)

    def last_row(self, round_: int, step: int) -> int:
        """Return the last row that a synchronous run's learner processes in a selection round.

        It is the row before the first answer of a later round, which a run restored from a checkpoint must not use yet.
        People may undo answers at any time, so with people the row is stored, and a replayed round stops there too.

        Args:
            round_: The selection round.
            step: Agent steps taken. A restored run that diverges may reach the same round at another step.
        """
        key = f"followed in round {round_} at step {step}"
        joined = sa.join(ANSWERS, QUERIES, QUERIES.c.id == ANSWERS.c.query_id)
        first = sa.select(sa.func.min(ANSWERS.c.id)).select_from(joined).where(QUERIES.c.round > round_)
        with self._write() as connection:
            if (noted := connection.scalar(sa.select(META.c.value).where(META.c.key == key))) is not None:
                return int(noted)
            later = connection.scalar(first)
            row = int(connection.scalar(sa.select(sa.func.max(ANSWERS.c.id))) or 0) if later is None else later - 1
            if connection.scalar(sa.select(ANSWERS.c.id).where(ANSWERS.c.labeller.is_not(None)).limit(1)) is not None:
                connection.execute(META.insert().values(key=key, value=str(row)))
        return row


def _stands(last: int) -> sa.ColumnElement[bool]:
    """Whether a row of the history is an answer that stands as of a row."""
    undo = ANSWERS.alias()
    undone = sa.exists().where(undo.c.undoes == ANSWERS.c.id, undo.c.id <= last)
    said = sa.and_(ANSWERS.c.undoes.is_(None), ANSWERS.c.value.is_not(None), ANSWERS.c.late == 0, READABLE)
    return sa.and_(said, ~undone)


def _given(row: Any, segments: Sequence[int]) -> GivenAnswer | None:
    """Convert a row to an answer; None if its value is not one of its kind."""
    kind = KINDS[row.kind]
    try:
        return GivenAnswer(row.id, tuple(segments), kind.target(from_json(kind, row.value)), row.kind)
    except ValueError:  # of a kind whose values cannot be enumerated
        return None


def _change(row: Any, segments: Sequence[int]) -> Label | Undone | None:
    """Convert a row to a change for the learner; None if it does not affect the learner."""
    if row.undoes is not None:
        return Undone(row.id, row.undoes)
    try:
        value = from_json(KINDS[row.kind], row.value)
    except ValueError:  # of a kind whose values cannot be enumerated
        return None
    return label_of(row.kind, row.id, segments, value)
