"""Labels and their history: undone answers, repeats, late answers and flagged queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from prefrl.feedback.answers import READABLE, damaged
from prefrl.feedback.columns import is_readable, kind_of
from prefrl.feedback.database import ANSWERS, QUERIES, REPEATS, STANDING, WITHDRAWALS, WITHDRAWN, segments_of
from prefrl.feedback.kinds import KINDS, from_json, to_json
from prefrl.feedback.store import LabelStore


@dataclass(frozen=True)
class RecordedAnswer:
    """An answer with its complete provenance, which archives preserve."""

    id: int
    """Id of the answer in its run."""
    kind: str
    """A name in `prefrl.feedback.kinds.KINDS`."""
    segments: tuple[int, ...]
    """Segment ids, in the order shown."""
    value: Any
    """A value of the kind."""
    teacher: str
    labeller: str | None
    agent_step: int
    """Agent steps taken when it was answered."""
    response_seconds: float | None
    created_at: str
    """Time in ISO 8601."""

    @property
    def provenance(self) -> tuple[Any, ...]:
        """Who answered and when, in the order of a table's columns."""
        return self.teacher, self.labeller, self.agent_step, self.response_seconds, self.created_at

    @property
    def identity(self) -> tuple[Any, ...]:
        """Identifies the answer in any run, together with its clips' digests."""
        return self.kind, to_json(KINDS[self.kind], self.value), *self.provenance


@dataclass(frozen=True)
class TakenBack(RecordedAnswer):
    """An answer that was undone."""

    undone_at: str
    """Time in ISO 8601."""


@dataclass(frozen=True)
class Repeat(RecordedAnswer):
    """A standing answer to a repeat, whose segments are reversed. It measures consistency and is not trained on."""

    repeats: int
    """Id of the answer to the original query."""


@dataclass(frozen=True)
class Flag:
    """A query that was withdrawn from the queue, because something is wrong with its clips."""

    kind: str
    segments: tuple[int, ...]
    """Segment ids, in the order shown."""
    reason: str
    labeller: str | None
    """Who flagged it; None for a program."""
    agent_step: int
    """Agent steps taken when the query was selected."""
    created_at: str
    """Time in ISO 8601."""

    @property
    def identity(self) -> tuple[Any, ...]:
        """Identifies the flag in any run, together with its clips' digests."""
        return self.kind, self.reason, self.labeller, self.created_at


@dataclass(frozen=True)
class Unflagged(Flag):
    """A flag that was undone."""

    undone_at: str
    """Time in ISO 8601."""


class History(NamedTuple):
    """All stored information on a run's labels, except for the standing labels."""

    taken_back: tuple[TakenBack, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    flags: tuple[Flag, ...] = ()
    late: tuple[RecordedAnswer, ...] = ()
    """Answers to queries that already had as many answers as they want; they are not used."""
    flags_taken_back: tuple[Unflagged, ...] = ()

    @property
    def entries(self) -> list[RecordedAnswer | Flag]:
        """All answers and flags."""
        return [*self.answers, *self.late, *self.flags, *self.flags_taken_back]

    @property
    def answers(self) -> list[RecordedAnswer]:
        """Undone answers and answers to repeats."""
        return [*self.taken_back, *self.repeats]

    def without(self, segments: set[int]) -> History:
        """Return the history without the entries about any of these segments."""
        kept: list[Any] = [tuple(one for one in entries if segments.isdisjoint(one.segments)) for entries in self]
        return History(*kept)


NO_HISTORY = History()


def read_labels(store: LabelStore) -> list[RecordedAnswer]:
    """Read all standing answers, whether or not they count, sorted by id."""
    standing = (answer._asdict() for answer in store.standing())
    return [
        RecordedAnswer(**{name: value for name, value in answer.items() if name != "query_id"}) for answer in standing
    ]


def read_history(store: LabelStore) -> History:
    """Read the history of a run's labels. Repeats are left out if the original has no intact answer."""
    with store.database.read() as connection:
        about, corrupt = segments_of(connection), damaged(connection)
        first = {query: answer for query, answer in _first_answers(connection).items() if answer not in corrupt}
        undone, again, late = (
            [(row, as_answer(row, about)) for row in connection.execute(rows) if row.id not in corrupt]
            for rows in (_undone(), _asked_again(), history_rows().where(READABLE, ANSWERS.c.late > 0))
        )
        standing = WITHDRAWALS.c.id.in_(sa.select(WITHDRAWN.c.id))
        flags = tuple(as_flag(row, about) for row in connection.execute(flag_rows().where(standing)))
        lifted = [(row, as_flag(row, about)) for row in connection.execute(_lifted())]
    return History(
        tuple(TakenBack(**vars(label), undone_at=row.undone_at) for row, label in undone),
        tuple(
            Repeat(**vars(label), repeats=first[row.original_id]) for row, label in again if row.original_id in first
        ),
        flags,
        tuple(label for _, label in late),
        tuple(Unflagged(**vars(flag), undone_at=row.undone_at) for row, flag in lifted),
    )


def history_rows() -> sa.Select[Any]:
    """Select all answers of the history with their queries' kinds, sorted by id."""
    joined = sa.join(ANSWERS, QUERIES, QUERIES.c.id == ANSWERS.c.query_id)
    rows = sa.select(ANSWERS, QUERIES.c.kind).select_from(joined)
    return rows.where(ANSWERS.c.value.is_not(None)).order_by(ANSWERS.c.id)


def flag_rows() -> sa.Select[Any]:
    """Select all flags of the history with their queries' kinds and steps, sorted by id."""
    joined = sa.join(WITHDRAWALS, QUERIES, QUERIES.c.id == WITHDRAWALS.c.query_id)
    rows = sa.select(WITHDRAWALS, QUERIES.c.kind, QUERIES.c.agent_step).select_from(joined)
    return rows.where(WITHDRAWALS.c.reason.is_not(None)).order_by(WITHDRAWALS.c.id)


def as_answer(row: Any, about: Mapping[int, tuple[int, ...]]) -> RecordedAnswer:
    """Convert a row of the history to an answer.

    Args:
        row: The row, with its query's kind.
        about: The segments of each query, by the query's id.

    Raises:
        ValueError: if the value is not valid for the kind.
    """
    given = (row.teacher, row.labeller, row.agent_step, row.response_seconds, row.created_at)
    return RecordedAnswer(row.id, row.kind, about[row.query_id], from_json(KINDS[row.kind], row.value), *given)


def as_flag(row: Any, about: Mapping[int, tuple[int, ...]]) -> Flag:
    """Convert a row of the withdrawals to a flag; arguments as for `as_answer`."""
    return Flag(row.kind, about[row.query_id], row.reason, row.labeller, row.agent_step, row.created_at)


def _undone() -> sa.Select[Any]:
    undo = ANSWERS.alias("undo")
    rows = history_rows().add_columns(undo.c.created_at.label("undone_at")).join(undo, undo.c.undoes == ANSWERS.c.id)
    return rows.where(READABLE, is_readable(undo, ANSWERS, kind_of(undo.c.query_id)))


def _asked_again() -> sa.Select[Any]:
    again = sa.join(STANDING, REPEATS, REPEATS.c.query_id == STANDING.c.query_id)
    return sa.select(STANDING, REPEATS.c.original_id).select_from(again).order_by(STANDING.c.id)


def _lifted() -> sa.Select[Any]:
    undo = WITHDRAWALS.alias("undo")
    rows = flag_rows().add_columns(undo.c.created_at.label("undone_at"))
    return rows.join(undo, undo.c.undoes == WITHDRAWALS.c.id)


def _first_answers(connection: sa.Connection) -> dict[int, int]:
    """Return the id of the answer to each query: the standing answer, otherwise the newest."""
    newest = sa.select(ANSWERS.c.query_id, sa.func.max(ANSWERS.c.id)).group_by(ANSWERS.c.query_id)
    newest = newest.where(ANSWERS.c.value.is_not(None), ANSWERS.c.late == 0)
    standing = sa.select(STANDING.c.query_id, STANDING.c.id)
    return dict(connection.execute(newest).all()) | dict(connection.execute(standing).all())
