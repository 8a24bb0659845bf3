"""The rows of the answers' history: each with a checksum of all that was said, so that a bit that turns is noticed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from prefrl.feedback.checksums import checksum
from prefrl.feedback.columns import kind_of, legible
from prefrl.feedback.database import ANSWERS, CHECKSUMS, QUERIES, segments_of
from prefrl.feedback.kinds import KINDS, from_json

WHOLE = legible(ANSWERS, ANSWERS, kind_of(ANSWERS.c.query_id))
"""Whether a row of the history can be read."""


def append(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Add rows to the history, within a transaction.

    Returns:
        Their ids.
    """
    last = connection.scalar(sa.select(sa.func.coalesce(sa.func.max(ANSWERS.c.id), 0))) or 0
    connection.execute(ANSWERS.insert(), [{name: value for name, value in row.items() if name != "id"} for row in rows])
    added = connection.execute(_said(last)).all()  # as they are kept, whatever types they came in
    about = segments_of(connection, sa.select(ANSWERS.c.query_id).where(ANSWERS.c.id > last))
    sums = [{"answer_id": row.id, "crc32": checksum((*row, *about[row.query_id]))} for row in added]
    connection.execute(CHECKSUMS.insert(), sums)
    return [row.id for row in added]


def damaged(connection: sa.Connection, after: int = 0) -> set[int]:
    """Ids above `after` of rows that are not what was stored; those of older versions have no checksum."""
    rows = _said(after).add_columns(CHECKSUMS.c.crc32).join(CHECKSUMS, CHECKSUMS.c.answer_id == ANSWERS.c.id)
    about = segments_of(connection, sa.select(ANSWERS.c.query_id).where(ANSWERS.c.id > after))
    changed = {
        row.id for row in connection.execute(rows) if row.crc32 != checksum((*row[:-1], *about.get(row.query_id, ())))
    }
    odd = sa.select(ANSWERS.c.id).where(ANSWERS.c.id > after, ~WHOLE)
    return changed | set(connection.scalars(odd)) | _unparsed(connection, after)


def _unparsed(connection: sa.Connection, after: int) -> set[int]:
    """Rows whose value is none of its kind's, of kinds whose values cannot be listed."""
    unlisted = [name for name, kind in KINDS.items() if kind.values is None]
    rows = sa.select(ANSWERS.c.id, QUERIES.c.kind, ANSWERS.c.value).join(QUERIES, QUERIES.c.id == ANSWERS.c.query_id)
    rows = rows.where(ANSWERS.c.id > after, ANSWERS.c.value.is_not(None), QUERIES.c.kind.in_(unlisted), WHOLE)
    found = set()
    for number, kind, value in connection.execute(rows) if unlisted else ():
        try:
            from_json(KINDS[kind], value)
        except ValueError:
            found.add(number)
    return found


def _said(after: int) -> sa.Select[Any]:
    """All of each row above `after`, and its query's kind."""
    joined = sa.join(ANSWERS, QUERIES, QUERIES.c.id == ANSWERS.c.query_id)
    columns = sa.select(*ANSWERS.c, QUERIES.c.kind).select_from(joined)
    return columns.where(ANSWERS.c.id > after).order_by(ANSWERS.c.id)
