"""Whether a database holds values of the kinds that its columns are for: SQLite itself takes any, anywhere."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from prefrl.types import Judgement

_STORED_AS = {sa.Integer: ("integer",), sa.Float: ("real", "integer"), sa.String: ("text",)}
_JUDGEMENTS = tuple(judgement.value for judgement in Judgement)


def odd_value(connection: sa.Connection, metadata: sa.MetaData) -> str | None:
    """The first table in which a value is not of its column's kind, and the row; None where all are."""
    for table in metadata.sorted_tables:
        odd = sa.or_(*(_is_odd(column) for column in table.columns))
        if (row := connection.scalar(sa.select(sa.literal_column("rowid")).select_from(table).where(odd))) is not None:
            return f"row {row} of its table {table.name} holds what that cannot be"
    return None


def _is_odd(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    kinds = next(kinds for kind, kinds in _STORED_AS.items() if isinstance(column.type, kind))
    kept = (*kinds, "null") if column.nullable else kinds
    odd: sa.ColumnElement[bool] = sa.func.typeof(column).not_in(kept)
    return sa.or_(odd, column.not_in(_JUDGEMENTS)) if column.name == "judgement" else odd
