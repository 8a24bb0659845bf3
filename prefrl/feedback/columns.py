"""Whether a database holds values of the kinds that its columns are for: SQLite itself takes any, anywhere.

What was said in an answer may have rotted: that answer alone is illegible, and is left out wherever answers are read. A
value elsewhere, which holds the rest together, damages the store.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from prefrl.types import Judgement

_STORED_AS = {sa.Integer: ("integer",), sa.Float: ("real", "integer"), sa.String: ("text",)}
_JUDGEMENTS = tuple(judgement.value for judgement in Judgement)
_SAID = ("judgement", "teacher", "labeller", "agent_step", "shown_left", "response_seconds", "created_at")
"""Columns of an answer on which nothing but that answer depends."""
_ANSWERS = frozenset({"comparisons", "late_answers"})
"""Tables of answers."""


def odd_value(connection: sa.Connection, metadata: sa.MetaData) -> str | None:
    """The first table in which a value is not of its column's kind, and the row; None where all are.

    What was said in answers is not looked at; see `legible`.
    """
    for table in metadata.sorted_tables:
        looked_at = (column for column in table.columns if table.name not in _ANSWERS or column.name not in _SAID)
        odd = sa.or_(*(_is_odd(column, column) for column in looked_at))
        if (row := connection.scalar(sa.select(sa.literal_column("rowid")).select_from(table).where(odd))) is not None:
            return f"row {row} of its table {table.name} holds what that cannot be"
    return None


def legible(answers: sa.FromClause, table: sa.Table) -> sa.ColumnElement[bool]:
    """Whether all that was said in an answer is of its column's kind.

    Args:
        answers: The table of answers, an alias of it, or a view of it.
        table: The table, which knows its columns' kinds.
    """
    return sa.and_(*(~_is_odd(answers.c[name], table.c[name]) for name in _SAID))


def _is_odd(value: sa.ColumnElement[Any], column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    kinds = next(kinds for kind, kinds in _STORED_AS.items() if isinstance(column.type, kind))
    kept = (*kinds, "null") if column.nullable else kinds
    odd: sa.ColumnElement[bool] = sa.func.typeof(value).not_in(kept)
    if column.name != "judgement":
        return odd
    return sa.or_(odd, sa.and_(value.is_not(None), value.not_in(_JUDGEMENTS)))
