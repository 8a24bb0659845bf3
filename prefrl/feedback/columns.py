"""Whether a database holds values of the kinds that its columns are for: SQLite itself takes any, anywhere.

What was said in an answer may have rotted: that answer alone is illegible, and is left out wherever answers are read. A
value elsewhere, which holds the rest together, damages the store.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from prefrl.feedback.kinds import KINDS, LONGEST_VALUE, listed_values, unlisted_kinds

_STORED_AS = {sa.Integer: ("integer",), sa.Float: ("real", "integer"), sa.String: ("text",)}
_SAID = ("value", "teacher", "labeller", "agent_step", "shown", "response_seconds", "created_at")
"""Columns of an answer on which nothing but that answer depends."""
_ANSWERS = "answers"
MOST_LABELLERS = 1000
"""That a query can want."""


def odd_value(connection: sa.Connection, metadata: sa.MetaData) -> str | None:
    """The first table in which a value is not of its column's kind, and the row; None where all are.

    What was said in answers is not looked at; see `legible`.
    """
    for table in metadata.sorted_tables:
        looked_at = (column for column in table.columns if table.name != _ANSWERS or column.name not in _SAID)
        odd = sa.or_(*(_is_odd(column, column) for column in looked_at))
        if (row := connection.scalar(sa.select(sa.literal_column("rowid")).select_from(table).where(odd))) is not None:
            return f"row {row} of its table {table.name} holds what that cannot be"
    return None


def odd_query(connection: sa.Connection) -> str | None:
    """The first query whose kind is unknown, or that is not about as many segments as its kind; None where all are."""
    # A query's places are different: they are 0 to arity - 1 where the least, the largest and their number are right.
    shapes = " OR ".join("kind = ? AND count(place) = ? AND max(place) = ?" for _ in KINDS) or "0"
    arities = tuple(part for kind in KINDS.values() for part in (kind.name, kind.arity, kind.arity - 1))
    odd = connection.exec_driver_sql(
        "SELECT id, kind FROM queries LEFT JOIN query_segments ON query_id = id GROUP BY id "
        f"HAVING NOT (wanted BETWEEN 1 AND {MOST_LABELLERS} AND min(place) = 0 AND ({shapes})) LIMIT 1",
        arities,
    ).first()
    if odd is None:
        return None
    return (
        f"its query {odd[0]} is none of kind {odd[1]}"
        if odd[1] in KINDS
        else f"its query {odd[0]} is of the unknown kind {odd[1]!a:.60}"
    )


def legible(
    answers: sa.FromClause,
    table: sa.Table,
    kind: sa.ColumnElement[str],
    *,
    shown: sa.ColumnElement[str] | None = None,
) -> sa.ColumnElement[bool]:
    """Whether all that was said in an answer is of its column's type, and its value one of its kind's.

    A value of a kind whose values cannot be listed is looked at where it is read.

    Args:
        answers: The table of answers, an alias of it, or a view of it.
        table: The table, which knows its columns' types.
        kind: The kind of the answer's query.
        shown: The column of that name, where it has another.
    """
    columns: dict[str, sa.ColumnElement[Any]] = {
        name: answers.c[name] for name in _SAID if name != "shown" or shown is None
    }
    if shown is not None:
        columns["shown"] = shown
    value = columns["value"]
    said = sa.or_(
        value.is_(None),
        (kind + " " + value).in_(sa.bindparam(None, callable_=listed_values, expanding=True, unique=True)),
        sa.and_(
            kind.in_(sa.bindparam(None, callable_=unlisted_kinds, expanding=True, unique=True)),
            sa.func.length(value) <= LONGEST_VALUE,
        ),
    )
    return sa.and_(*(~_is_odd(column, table.c[name]) for name, column in columns.items()), said)


def kind_of(query_id: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    """The kind of a query, for `legible`."""
    queries = sa.table("queries", sa.column("id", sa.Integer), sa.column("kind", sa.String)).alias()
    return sa.select(queries.c.kind).where(queries.c.id == query_id).scalar_subquery()


def _is_odd(value: sa.ColumnElement[Any], column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    types = next(types for type_, types in _STORED_AS.items() if isinstance(column.type, type_))
    return sa.func.typeof(value).not_in((*types, "null") if column.nullable else types)
