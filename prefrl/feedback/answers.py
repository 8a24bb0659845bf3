"""Append and verify rows of the history of answers. Each row has a checksum, which detects bit errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from prefrl.feedback.checksums import checksum
from prefrl.feedback.columns import is_readable, kind_of
from prefrl.feedback.database import ANSWERS, CHECKSUMS, QUERIES, segments_of
from prefrl.feedback.kinds import KINDS, from_json

READABLE = is_readable(ANSWERS, ANSWERS, kind_of(ANSWERS.c.query_id))
"""Whether a row of the history has valid values."""


def append(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Append rows to the history, within a transaction.

    Returns:
        The ids of the new rows.
    """
    last = connection.scalar(sa.select(sa.func.coalesce(sa.func.max(ANSWERS.c.id), 0))) or 0
    connection.execute(ANSWERS.insert(), [{name: value for name, value in row.items() if name != "id"} for row in rows])
    added = connection.execute(_rows(last)).all()  # as stored, because SQLite may have converted types
    about = segments_of(connection, sa.select(ANSWERS.c.query_id).where(ANSWERS.c.id > last))
    sums = [{"answer_id": row.id, "crc32": checksum((*row, *about[row.query_id]))} for row in added]
    connection.execute(CHECKSUMS.insert(), sums)
    return [row.id for row in added]


def damaged(connection: sa.Connection, after: int = 0) -> set[int]:
    """Return the ids of damaged rows above `after`.

    Rows of older versions have no checksum; of these, only rows with invalid values are detected.
    """
    stored = _rows(after).add_columns(CHECKSUMS.c.crc32).join(CHECKSUMS, CHECKSUMS.c.answer_id == ANSWERS.c.id)
    about = segments_of(connection, sa.select(ANSWERS.c.query_id).where(ANSWERS.c.id > after))
    changed = {
        row.id for row in connection.execute(stored) if row.crc32 != checksum((*row[:-1], *about.get(row.query_id, ())))
    }
    invalid = sa.select(ANSWERS.c.id).where(ANSWERS.c.id > after, ~READABLE)
    return changed | set(connection.scalars(invalid)) | _unparsed(connection, after)


def _unparsed(connection: sa.Connection, after: int) -> set[int]:
    """Return the rows with invalid values, for kinds whose values cannot be enumerated."""
    unlisted = [name for name, kind in KINDS.items() if kind.values is None]
    rows = sa.select(ANSWERS.c.id, QUERIES.c.kind, ANSWERS.c.value).join(QUERIES, QUERIES.c.id == ANSWERS.c.query_id)
    rows = rows.where(ANSWERS.c.id > after, ANSWERS.c.value.is_not(None), QUERIES.c.kind.in_(unlisted), READABLE)
    found = set()
    for number, kind, value in connection.execute(rows) if unlisted else ():
        try:
            from_json(KINDS[kind], value)
        except ValueError:
            found.add(number)
    return found


def _rows(after: int) -> sa.Select[Any]:
    """Select all rows above `after`, with their queries' kinds."""
    joined = sa.join(ANSWERS, QUERIES, QUERIES.c.id == ANSWERS.c.query_id)
    columns = sa.select(*ANSWERS.c, QUERIES.c.kind).select_from(joined)
    return columns.where(ANSWERS.c.id > after).order_by(ANSWERS.c.id)
