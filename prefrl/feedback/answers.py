"""The rows of the answers' history: each with a checksum of all that was said, so that a bit that turns is noticed."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from prefrl.feedback.columns import legible
from prefrl.feedback.database import CHECKSUMS, HISTORY, QUERIES


def append(connection: sa.Connection, rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Add rows to the history, within a transaction.

    Returns:
        Their ids.
    """
    last = connection.scalar(sa.select(sa.func.coalesce(sa.func.max(HISTORY.c.id), 0)))
    connection.execute(HISTORY.insert(), [{name: value for name, value in row.items() if name != "id"} for row in rows])
    added = connection.execute(
        _said().where(HISTORY.c.id > last)
    ).all()  # as they are kept, whatever types they came in
    connection.execute(CHECKSUMS.insert(), [{"comparison_id": row.id, "crc32": _checksum(row)} for row in added])
    return [row.id for row in added]


def damaged(connection: sa.Connection, after: int = 0) -> set[int]:
    """Ids above `after` of rows that are not what was stored; those of older versions have no checksum."""
    rows = _said().add_columns(CHECKSUMS.c.crc32).where(HISTORY.c.id > after)
    rows = rows.join(CHECKSUMS, CHECKSUMS.c.comparison_id == HISTORY.c.id)
    changed = {row.id for row in connection.execute(rows) if row.crc32 != _checksum(row[:-1])}
    odd = sa.select(HISTORY.c.id).where(HISTORY.c.id > after, ~legible(HISTORY, HISTORY))
    return changed | set(connection.scalars(odd))


def _said() -> sa.Select[Any]:
    """All of a row, and which clips its query is about."""
    sides = (QUERIES.c.segment_left, QUERIES.c.segment_right)
    joined = sa.join(HISTORY, QUERIES, QUERIES.c.id == HISTORY.c.query_id)
    return sa.select(*HISTORY.c, *sides).select_from(joined).order_by(HISTORY.c.id)


def _checksum(row: Sequence[Any]) -> int:
    return zlib.crc32(json.dumps(list(row), default=repr).encode())
