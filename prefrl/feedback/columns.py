"""Check the types of a database's values, because SQLite accepts any value in any column.

Damage to the content of an answer makes only that answer unreadable, and it is left out wherever answers are read.
Damage to other values, which connect the tables, makes the store as a whole unusable.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from prefrl.feedback.kinds import KINDS, LONGEST_VALUE, listed_values, unlisted_kinds

_STORED_AS = {sa.Integer: ("integer",), sa.Float: ("real", "integer"), sa.String: ("text",)}
_CONTENT = ("value", "teacher", "labeller", "agent_step", "shown", "response_seconds", "created_at")
"""Columns of an answer that no other row depends on."""
_ANSWERS = "answers"
MOST_LABELLERS = 1000
"""Maximum number of labellers that a query can want."""


def invalid_value(connection: sa.Connection, metadata: sa.MetaData) -> str | None:
    """Return a description of the first row that has a value of the wrong type; None if all types are right.

    The content of answers is not checked; see `is_readable`.
    """
    for table in metadata.sorted_tables:
        checked = (column for column in table.columns if table.name != _ANSWERS or column.name not in _CONTENT)
        wrong = sa.or_(*(_has_wrong_type(column, column) for column in checked))
        row = connection.scalar(sa.select(sa.literal_column("rowid")).select_from(table).where(wrong))
        if row is not None:
            return f"row {row} of its table {table.name} has a value of the wrong type"
    return None


def invalid_query(connection: sa.Connection) -> str | None:
    """Describe the first query of unknown kind, or with another number of segments than its kind has; None if valid."""
    # A query's places are distinct, so they are 0 to arity - 1 if the minimum, the maximum and the count are right.
    shapes = " OR ".join("kind = ? AND count(place) = ? AND max(place) = ?" for _ in KINDS) or "0"
    arities = tuple(part for kind in KINDS.values() for part in (kind.name, kind.arity, kind.arity - 1))
    invalid = connection.exec_driver_sql(
        "SELECT id, kind FROM queries LEFT JOIN query_segments ON query_id = id GROUP BY id "
        f"HAVING NOT (wanted BETWEEN 1 AND {MOST_LABELLERS} AND min(place) = 0 AND ({shapes})) LIMIT 1",
        arities,
    ).first()
    if invalid is None:
        return None
    return (
        f"its query {invalid[0]} is not a valid {invalid[1]}"
        if invalid[1] in KINDS
        else f"its query {invalid[0]} has the unknown kind {invalid[1]!a:.60}"
    )


def is_readable(
    answers: sa.FromClause,
    table: sa.Table,
    kind: sa.ColumnElement[str],
    *,
    shown: sa.ColumnElement[str] | None = None,
) -> sa.ColumnElement[bool]:
    """Return the condition that an answer's content has the right types, and that its value is valid for its kind.

    For kinds whose values cannot be enumerated, the value is validated when it is read.

    Args:
        answers: The table of answers, or an alias or view of it.
        table: The table itself, which defines the types of its columns.
        kind: The kind of the answer's query.
        shown: The column `shown`, if it has another name in `answers`.
    """
    columns: dict[str, sa.ColumnElement[Any]] = {
        name: answers.c[name] for name in _CONTENT if name != "shown" or shown is None
    }
    if shown is not None:
        columns["shown"] = shown
    value = columns["value"]
    valid_value = sa.or_(
        value.is_(None),
        (kind + " " + value).in_(sa.bindparam(None, callable_=listed_values, expanding=True, unique=True)),
        sa.and_(
            kind.in_(sa.bindparam(None, callable_=unlisted_kinds, expanding=True, unique=True)),
            sa.func.length(value) <= LONGEST_VALUE,
        ),
    )
    return sa.and_(*(~_has_wrong_type(column, table.c[name]) for name, column in columns.items()), valid_value)


def kind_of(query_id: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    """Return an expression for the kind of a query, for `is_readable`."""
    queries = sa.table("queries", sa.column("id", sa.Integer), sa.column("kind", sa.String)).alias()
    return sa.select(queries.c.kind).where(queries.c.id == query_id).scalar_subquery()


def _has_wrong_type(value: sa.ColumnElement[Any], column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    types = next(types for type_, types in _STORED_AS.items() if isinstance(column.type, type_))
    return sa.func.typeof(value).not_in((*types, "null") if column.nullable else types)
