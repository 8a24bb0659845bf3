"""The rows that the label store's transactions write and choose: open queries, complete ones, standing answers."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa

from prefrl.errors import UsageError
from prefrl.feedback.answers import append
from prefrl.feedback.database import (
    ANSWERS,
    META,
    QUERIES,
    QUERY_SEGMENTS,
    REPEATS,
    SEGMENTS,
    STANDING,
    WITHDRAWN,
    now,
    segments_of,
)
from prefrl.feedback.kinds import KINDS, from_json, to_json
from prefrl.feedback.terms import IMPORTED_ROUND, Answer, Query, StandingAnswer

NO_REPEAT = QUERIES.c.id.not_in(sa.select(REPEATS.c.query_id))
"""Queries that are not repeats. Repeats measure consistency; they neither train the model nor count as labels."""
ASKED_HERE = (QUERIES.c.round != IMPORTED_ROUND) & QUERIES.c.id.not_in(sa.select(WITHDRAWN.c.query_id))
"""Queries that are neither imported nor withdrawn."""
ASKING, CLOSED = "asking", "closed"
"""Key and value in the table META of a store whose run asks no more queries."""


def undo(connection: sa.Connection, answer_id: int, at: str | None = None) -> None:
    """Undo an answer within a transaction, see `LabelStore.undo`; `at` is the time, by default now."""
    if connection.scalar(sa.select(STANDING.c.id).where(STANDING.c.id == answer_id)) is None:
        raise UsageError(f"there is no standing answer {answer_id}")
    row = connection.execute(sa.select(ANSWERS).where(ANSWERS.c.id == answer_id)).mappings().one()
    append(connection, [{**row, "value": None, "undoes": answer_id, "created_at": at or now()}])


def is_open(query_id: sa.ColumnElement[int]) -> sa.ColumnElement[bool]:
    """Whether a query wants more answers: it is neither complete, withdrawn nor imported."""
    imported = sa.select(QUERIES.c.id).where(QUERIES.c.round == IMPORTED_ROUND)
    closed = (complete(), sa.select(WITHDRAWN.c.query_id), imported)
    return sa.and_(*(query_id.not_in(others) for others in closed))


def is_closed(connection: sa.Connection) -> bool:
    """Return `LabelStore.closed`, within a transaction."""
    return connection.scalar(sa.select(META.c.value).where(META.c.key == ASKING)) == CLOSED


def place_segments(connection: sa.Connection, query_id: int, segments: Sequence[int]) -> None:
    """Store the segments of a query in the order shown, within a transaction."""
    rows = [{"query_id": query_id, "place": place, "segment_id": segment} for place, segment in enumerate(segments)]
    connection.execute(QUERY_SEGMENTS.insert(), rows)


def answer_row(answer: Answer, kind: str, segments: Sequence[int], at: str) -> dict[str, Any]:
    """Return the row of the history for an answer.

    Raises:
        UsageError: if the value is not valid for the kind.
    """
    try:
        value = to_json(KINDS[kind], answer.value)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{answer.value!r:.80} is not a valid answer of kind {kind}: {error}") from None
    shown = {"shown": json.dumps(list(segments)), "created_at": at, "late": 0, "undoes": None}
    return answer._asdict() | {"value": value} | shown


def check_fit(answer: Answer, kind: str, lengths: Sequence[int]) -> None:
    """Raise UsageError if a value does not fit the segments of its query."""
    try:
        KINDS[kind].check(KINDS[kind].parse(answer.value), lengths)
    except ValueError as error:
        raise UsageError(f"{answer.value!r:.80} is not a valid answer to query {answer.query_id}: {error}") from None


def lengths_of(connection: sa.Connection, asked: Iterable[Sequence[int]]) -> dict[int, int]:
    """Return the numbers of steps of segments, by their ids."""
    wanted = {segment for segments in asked for segment in segments}
    rows = connection.execute(sa.select(SEGMENTS.c.id, SEGMENTS.c.length).where(SEGMENTS.c.id.in_(wanted)))
    return {row.id: row.length for row in rows}


def complete() -> sa.Select[tuple[int]]:
    """Select the queries that have as many answers as they want."""
    joined = sa.join(STANDING, QUERIES, QUERIES.c.id == STANDING.c.query_id)
    answered = sa.select(STANDING.c.query_id).select_from(joined)
    return answered.group_by(STANDING.c.query_id).having(sa.func.count() >= sa.func.min(QUERIES.c.wanted))


def standing_answers(connection: sa.Connection, chosen: sa.ColumnElement[bool]) -> list[StandingAnswer]:
    """Return standing answers, without those to repeats, sorted by id."""
    columns = [STANDING.c[name] for name in StandingAnswer._fields if name != "segments"]
    rows = sa.select(*columns).join(QUERIES, QUERIES.c.id == STANDING.c.query_id).where(NO_REPEAT, chosen)
    found = connection.execute(rows.order_by(STANDING.c.id)).all()
    asked = sa.select(ANSWERS.c.query_id).where(ANSWERS.c.id >= found[0].id) if found else None
    about = segments_of(connection, asked) if found else {}
    values: dict[tuple[str, str], Any] = {}  # parsed values; most answers have the same few
    answers = []
    for number, query_id, kind, text, *given in found:
        with contextlib.suppress(ValueError):  # of a kind whose values cannot be enumerated
            if (kind, text) not in values:
                values[kind, text] = from_json(KINDS[kind], text)
            answers.append(StandingAnswer(number, query_id, kind, about[query_id], values[kind, text], *given))
    return answers


def add_segments(connection: sa.Connection, queries: Sequence[Query]) -> None:
    """Store the segments of queries that are not stored yet, within a transaction."""
    steps = {segment.id: query.agent_step for query in queries for segment in query.segments}
    lengths = {segment.id: len(segment) for query in queries for segment in query.segments}
    known = set(connection.scalars(sa.select(SEGMENTS.c.id).where(SEGMENTS.c.id.in_(steps))))
    rows = [
        {"id": number, "length": lengths[number], "agent_step": step}
        for number, step in steps.items()
        if number not in known
    ]
    if rows:
        connection.execute(SEGMENTS.insert(), rows)


def query_row(query: Query) -> dict[str, Any]:
    """Return the row of a query.

    Raises:
        UsageError: if it has another number of segments than its kind.
    """
    kind = KINDS[query.kind]
    if len(query.segments) != kind.arity:
        raise UsageError(f"a query of kind {kind.name} has {kind.arity} segments, not {len(query.segments)}")
    row = {name: getattr(query, name) for name in ("kind", "round", "rank", "agent_step", "wanted")}
    return row | {"created_at": now()}
