"""What happened to a run's labels beside those that stand: answers taken back, pairs asked again, pairs flagged."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from prefrl.feedback.answers import READABLE, damaged
from prefrl.feedback.columns import is_readable, kind_of
from prefrl.feedback.database import ANSWERS, QUERIES, REPEATS, STANDING, WITHDRAWALS, WITHDRAWN, segments_of
from prefrl.feedback.kinds.comparison import COMPARISON, Judgement
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import StandingAnswer


class Label(NamedTuple):
    """A judgement that stands, with all that is known of it: what outlives a run."""

    id: int
    """The answer's id in its run."""
    left: int
    """Segment id, as shown."""
    right: int
    """Segment id, as shown."""
    judgement: Judgement
    teacher: str
    labeller: str | None
    agent_step: int
    """Agent steps taken when it was given."""
    response_seconds: float | None
    created_at: str
    """The time of day (ISO 8601)."""


class TakenBack(NamedTuple):
    """An answer that stands no more."""

    label: Label
    undone_at: str
    """The time of day (ISO 8601)."""


class Repeat(NamedTuple):
    """A standing answer to a pair that was asked again, its sides swapped: it measures people, and trains nothing."""

    label: Label
    repeats: int
    """The id of the answer to the pair as it was asked first."""


class Flag(NamedTuple):
    """A pair that was taken out of the queue, because something is wrong with its clips."""

    left: int
    """Segment id, as shown."""
    right: int
    """Segment id, as shown."""
    reason: str
    labeller: str | None
    """Who said so; None for a program."""
    agent_step: int
    """Agent steps taken when the pair was chosen."""
    created_at: str
    """The time of day (ISO 8601)."""


class Unflagged(NamedTuple):
    """A flag that was taken back."""

    flag: Flag
    undone_at: str
    """The time of day (ISO 8601)."""


class History(NamedTuple):
    """Everything that is kept of a run's labels but those that stand."""

    taken_back: tuple[TakenBack, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    flags: tuple[Flag, ...] = ()
    late: tuple[Label, ...] = ()
    """Answers to pairs that had the answers they wanted: kept, and never used."""
    flags_taken_back: tuple[Unflagged, ...] = ()

    @property
    def entries(self) -> list[Label | Flag]:
        """What was said, each time about one pair."""
        return [*self.answers, *self.late, *self.flags, *(unflagged.flag for unflagged in self.flags_taken_back)]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The segments of each entry."""
        return [(entry.left, entry.right) for entry in self.entries]

    @property
    def answers(self) -> list[Label]:
        """Those taken back, and those to pairs that were asked again."""
        return [*(back.label for back in self.taken_back), *(repeat.label for repeat in self.repeats)]

    def where(self, keep: Callable[[int, int], bool]) -> History:
        """Those about pairs of segments of which `keep` is true."""
        return History(
            tuple(back for back in self.taken_back if keep(back.label.left, back.label.right)),
            tuple(repeat for repeat in self.repeats if keep(repeat.label.left, repeat.label.right)),
            tuple(flag for flag in self.flags if keep(flag.left, flag.right)),
            tuple(label for label in self.late if keep(label.left, label.right)),
            tuple(back for back in self.flags_taken_back if keep(back.flag.left, back.flag.right)),
        )


NO_HISTORY = History()


def read_labels(store: LabelStore) -> list[Label]:
    """Standing comparisons, incomparable ones included, in the order of their ids."""
    return [_label(answer) for answer in store.standing() if answer.kind == COMPARISON]


def read_history(store: LabelStore) -> History:
    """What is kept in a run's store of comparisons; a repeat of what nobody has answered since is left out."""
    undo = ANSWERS.alias("undo")
    asked = sa.and_(QUERIES.c.id == ANSWERS.c.query_id, QUERIES.c.kind == COMPARISON)
    undone = sa.join(ANSWERS, undo, undo.c.undoes == ANSWERS.c.id).join(QUERIES, asked)
    taken_back = sa.select(ANSWERS, undo.c.created_at.label("undone_at")).select_from(undone)
    whole = sa.and_(READABLE, is_readable(undo, ANSWERS, kind_of(undo.c.query_id)))
    taken_back = taken_back.where(ANSWERS.c.value.is_not(None), whole)
    late = sa.select(ANSWERS).join_from(ANSWERS, QUERIES, asked).where(ANSWERS.c.late > 0, READABLE)
    again = sa.join(STANDING, REPEATS, REPEATS.c.query_id == STANDING.c.query_id)
    again_rows = sa.select(STANDING, REPEATS.c.original_id).select_from(again).where(STANDING.c.kind == COMPARISON)
    given = sa.select(ANSWERS.c.query_id, sa.func.max(ANSWERS.c.id)).group_by(ANSWERS.c.query_id)
    given = given.where(ANSWERS.c.value.is_not(None), ANSWERS.c.late == 0)
    flags = sa.select(WITHDRAWN, QUERIES.c.agent_step).order_by(WITHDRAWN.c.id)
    flags = flags.join_from(WITHDRAWN, QUERIES, QUERIES.c.id == WITHDRAWN.c.query_id)
    with store.database.read() as connection:
        about, rotten = segments_of(connection), damaged(connection)
        first: dict[int, int] = dict(connection.execute(given).all())
        first |= dict(connection.execute(sa.select(STANDING.c.query_id, STANDING.c.id)).all())
        first = {query: answer for query, answer in first.items() if answer not in rotten}
        backs = connection.execute(taken_back.order_by(ANSWERS.c.id)).all()
        rows = connection.execute(again_rows.order_by(STANDING.c.id)).all()
        flagged = connection.execute(flags.where(QUERIES.c.kind == COMPARISON)).all()
        late_rows = connection.execute(late.order_by(ANSWERS.c.id)).all()
        unflagged = connection.execute(_flags_taken_back()).all()
    return History(
        tuple(TakenBack(as_label(row, about), row.undone_at) for row in backs if row.id not in rotten),
        tuple(
            Repeat(as_label(row, about), first[row.original_id])
            for row in rows
            if row.id not in rotten and row.original_id in first
        ),
        tuple(_flag(row, about[row.query_id]) for row in flagged),
        tuple(as_label(row, about) for row in late_rows if row.id not in rotten),
        tuple(Unflagged(_flag(row, about[row.query_id]), row.undone_at) for row in unflagged),
    )


def _flags_taken_back() -> sa.Select[Any]:
    undo = WITHDRAWALS.alias("undo")
    joined = sa.join(WITHDRAWALS, undo, undo.c.undoes == WITHDRAWALS.c.id)
    joined = joined.join(QUERIES, QUERIES.c.id == WITHDRAWALS.c.query_id)
    columns = (WITHDRAWALS, QUERIES.c.agent_step, undo.c.created_at.label("undone_at"))
    flags = sa.select(*columns).select_from(joined).order_by(WITHDRAWALS.c.id)
    return flags.where(QUERIES.c.kind == COMPARISON, WITHDRAWALS.c.reason.is_not(None))


def as_label(row: Any, about: Mapping[int, Sequence[int]]) -> Label:
    """A row of the history, or of standing answers, to a comparison.

    Args:
        row: The row.
        about: The segments of queries, by the queries' ids.
    """
    judgement = Judgement(json.loads(row.value))
    given = (row.teacher, row.labeller, row.agent_step, row.response_seconds, row.created_at)
    left, right = about[row.query_id]
    return Label(row.id, left, right, judgement, *given)


def _label(answer: StandingAnswer) -> Label:
    given = (answer.teacher, answer.labeller, answer.agent_step, answer.response_seconds, answer.created_at)
    left, right = answer.segments
    return Label(answer.id, left, right, answer.value, *given)


def _flag(row: Any, segments: Sequence[int]) -> Flag:
    left, right = segments
    return Flag(left, right, row.reason, row.labeller, row.agent_step, row.created_at)
