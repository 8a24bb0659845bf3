"""What happened to a run's labels beside those that stand: answers taken back, pairs asked again, pairs flagged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import sqlalchemy as sa

from prefrl.feedback.answers import damaged
from prefrl.feedback.columns import legible
from prefrl.feedback.database import HISTORY, LABELS, QUERIES, REPEATS, WITHDRAWN
from prefrl.feedback.store import LabelStore
from prefrl.types import Judgement, Label


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


class History(NamedTuple):
    """Everything that is kept of a run's labels but those that stand."""

    taken_back: tuple[TakenBack, ...] = ()
    repeats: tuple[Repeat, ...] = ()
    flags: tuple[Flag, ...] = ()

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The segments of each entry."""
        entries: list[Label | Flag] = [*self.answers, *self.flags]
        return [(entry.left, entry.right) for entry in entries]

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
        )


NO_HISTORY = History()


def read_history(store: LabelStore) -> History:
    """What is kept in a run's store; a repeat of what nobody has answered since is left out."""
    undo, repeated = HISTORY.alias("undo"), sa.select(REPEATS.c.query_id)
    undone = sa.join(HISTORY, undo, undo.c.undoes == HISTORY.c.id).join(QUERIES, QUERIES.c.id == HISTORY.c.query_id)
    taken_back = sa.select(*_label(HISTORY), undo.c.created_at.label("undone_at")).select_from(undone)
    whole = sa.and_(legible(HISTORY, HISTORY), legible(undo, HISTORY))
    taken_back = taken_back.where(QUERIES.c.id.not_in(repeated), whole).order_by(HISTORY.c.id)
    again = sa.join(LABELS, QUERIES, QUERIES.c.id == LABELS.c.query_id)
    again = again.join(REPEATS, REPEATS.c.query_id == QUERIES.c.id)
    answers = sa.select(HISTORY.c.query_id, sa.func.max(HISTORY.c.id)).where(HISTORY.c.judgement.is_not(None))
    with store.database.read() as connection:
        first: dict[int, int] = dict(connection.execute(answers.group_by(HISTORY.c.query_id)).all())
        first |= dict(connection.execute(sa.select(LABELS.c.query_id, LABELS.c.id)).all())
        rotten = damaged(connection)
        backs = [TakenBack(_read(row), row.undone_at) for row in connection.execute(taken_back) if row.id not in rotten]
        asked_again = connection.execute(sa.select(*_label(LABELS), REPEATS.c.original_id).select_from(again))
        rows = [row for row in asked_again if row.id not in rotten]
        first = {query: answer for query, answer in first.items() if answer not in rotten}
        repeats = [Repeat(_read(row), first[row.original_id]) for row in sorted(rows) if row.original_id in first]
        sides, said = (QUERIES.c.segment_left, QUERIES.c.segment_right), (WITHDRAWN.c.reason, WITHDRAWN.c.labeller)
        flags = sa.select(*sides, *said, QUERIES.c.agent_step, WITHDRAWN.c.created_at)
        flags = flags.join_from(WITHDRAWN, QUERIES, QUERIES.c.id == WITHDRAWN.c.query_id).order_by(WITHDRAWN.c.id)
        return History(tuple(backs), tuple(repeats), tuple(Flag(*row) for row in connection.execute(flags)))


def _label(answers: Any) -> list[Any]:
    """The columns of a `Label`, of the history or of those that stand."""
    given = ("judgement", "teacher", "labeller", "agent_step", "response_seconds", "created_at")
    return [answers.c.id, QUERIES.c.segment_left, QUERIES.c.segment_right, *(answers.c[name] for name in given)]


def _read(row: Any) -> Label:
    return Label(*row[: len(Label._fields)])._replace(judgement=Judgement(row.judgement))
