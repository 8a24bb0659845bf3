"""The queue of queries that people answer: leases of viewers, rendered clips and withdrawn queries.

A viewer leases a query for a limited time. No query is leased by more viewers than it wants answers, and the queries of
a viewer that crashed become free again. The answers themselves are written to the label store.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import sqlalchemy as sa

from prefrl.errors import UsageError
from prefrl.feedback.database import (
    ANSWERS,
    LEASES,
    QUERIES,
    QUERY_SEGMENTS,
    RENDERED,
    SEGMENTS,
    STANDING,
    WITHDRAWALS,
    WITHDRAWN,
    now,
    segments_of,
)
from prefrl.feedback.kinds import KINDS, from_json
from prefrl.feedback.rows import is_closed, is_open, undo
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import IMPORTED_ROUND, Answer

LEASE_SECONDS = 60.0
"""Time until a lease expires. Viewers renew their leases much more often."""


class Lease(NamedTuple):
    """A query that a viewer has leased."""

    query_id: int
    kind: str
    segments: tuple[int, ...]
    """Segment ids, in the order shown."""
    agent_step: int


class TakenBack(NamedTuple):
    """The last answer of a labeller, or the last query that they withdrew, which they undo."""

    query_id: int
    value: Any
    """A value of the query's kind, or None if they had withdrawn the query."""
    kind: str


class Withdrawal(NamedTuple):
    """A query that was withdrawn from the queue."""

    query_id: int
    reason: str
    labeller: str | None
    """Who withdrew it; None for a program."""

    @property
    def description(self) -> str:
        """The reason, and the labeller's name if a person gave it."""
        return self.reason if self.labeller is None else f"{self.labeller} says: {self.reason}"


class LabelQueue:
    """The queue of a run's queries, for viewers and renderers."""

    def __init__(
        self, store: LabelStore, *, clock: Callable[[], float] = time.monotonic, boot: str | None = None
    ) -> None:
        """Initialise the queue.

        Args:
            store: The run's label store.
            clock: Returns the seconds since the machine started, which is the same for all processes and never set. It
                may stand still while the machine sleeps.
            boot: Identifies this start of the machine.
        """
        self._store = store
        self._read, self._write = store.database.read, store.database.write
        self._clock, self._boot = clock, boot_id() if boot is None else boot

    # -- viewers ------------------------------------------------------------------------------------------------------

    def lease(self, viewer: str, count: int = 1, labeller: str | None = None) -> list[Lease]:
        """Lease the next queries whose clips are rendered.

        Args:
            viewer: Name of the viewer, unique to a process.
            count: Number of queries that the viewer should have leased.
            labeller: Name of the person, who is never asked a query again that they answered.

        Returns:
            All queries that the viewer has leased, in the order in which they are shown; fewer than `count` if there
            are no more.
        """
        with self._write() as connection:
            if is_closed(connection):
                return []
            at = self._clock()
            connection.execute(LEASES.delete().where(~self._valid(at)))
            held = sa.select(LEASES.c.query_id).where(LEASES.c.viewer == viewer)
            missing = count - len(connection.scalars(held).all())
            if missing > 0:
                said = sa.select(STANDING.c.query_id).where(STANDING.c.labeller == labeller)
                free = sa.select(QUERIES.c.id).where(self._ready(), QUERIES.c.id.not_in(_taken()))
                free = free.where(QUERIES.c.id.not_in(held), QUERIES.c.id.not_in(said))
                ids = connection.scalars(free.order_by(QUERIES.c.round, QUERIES.c.rank).limit(missing)).all()
                for number in ids:
                    self.give(connection, number, viewer)
            about = segments_of(connection, held)
            columns = (QUERIES.c.id, QUERIES.c.kind, QUERIES.c.agent_step)
            query = sa.select(*columns).where(QUERIES.c.id.in_(held), self._ready())
            rows = connection.execute(query.order_by(QUERIES.c.round, QUERIES.c.rank))
            return [Lease(row.id, row.kind, about[row.id], row.agent_step) for row in rows]

    def take_back(self, viewer: str, labeller: str) -> TakenBack | None:
        """Undo a labeller's last standing answer or withdrawal, and lease its query to the viewer again.

        Returns:
            What was undone; None if there is nothing to undo.

        Raises:
            UsageError: if labelling is finished: the query could not be asked again, so the label would be lost.
        """
        # A single transaction, so that no other viewer can lease the query in between.
        with self._write() as connection:
            if is_closed(connection):
                raise UsageError("labelling is finished, so no pair can be asked again")
            last = _last_action(connection, labeller)
            if last is None:
                return None
            row_id, taken = last
            reinstate(connection, row_id) if taken.value is None else undo(connection, row_id)
            connection.execute(LEASES.delete().where(LEASES.c.query_id == taken.query_id))
            self.give(connection, taken.query_id, viewer)
        return taken

    def last_undoable(self, labeller: str) -> TakenBack | None:
        """Return what `take_back` would undo; None if there is nothing, or if labelling is finished."""
        with self._read() as connection:
            last = None if is_closed(connection) else _last_action(connection, labeller)
        return last[1] if last else None

    def give(self, connection: sa.Connection, query_id: int, viewer: str) -> None:
        """Lease a query to a viewer, within a transaction."""
        row = {"query_id": query_id, "viewer": viewer, "boot": self._boot, "expires_at": self._clock() + LEASE_SECONDS}
        connection.execute(LEASES.insert().values(row))

    def renew(self, viewer: str) -> None:
        """Renew all leases of a viewer."""
        with self._write() as connection:
            mine = LEASES.update().where(LEASES.c.viewer == viewer)
            connection.execute(mine.values(expires_at=self._clock() + LEASE_SECONDS))

    def release_all(self, beginning: str) -> None:
        """Release all leases of the viewers whose names start with `beginning`."""
        with self._write() as connection:
            connection.execute(LEASES.delete().where(LEASES.c.viewer.startswith(beginning, autoescape=True)))

    def release(self, viewer: str) -> None:
        """Release all leases of a viewer."""
        with self._write() as connection:
            connection.execute(LEASES.delete().where(LEASES.c.viewer == viewer))

    def answer(self, answer: Answer, viewer: str | None = None) -> bool:
        """Store an answer durably, and release the lease of its query.

        Args:
            answer: The answer.
            viewer: The viewer whose lease is released; None for all viewers.

        Returns:
            False if the query already had as many answers as it wants; these stand.
        """
        taken = self._store.add_answers([answer])
        with self._write() as connection:
            over = sa.or_(LEASES.c.viewer == viewer, ~is_open(LEASES.c.query_id)) if viewer else sa.true()
            connection.execute(LEASES.delete().where(LEASES.c.query_id == answer.query_id, over))
        return bool(taken)

    def withdraw(self, query_id: int, reason: str, labeller: str | None = None) -> None:
        """Withdraw a query. It is no longer pending and cannot be answered; another query is asked instead.

        Args:
            query_id: The query.
            reason: The reason.
            labeller: Who withdraws it and can undo this; None for a program, which cannot.
        """
        with self._write() as connection:
            there = sa.select(WITHDRAWN.c.query_id).where(WITHDRAWN.c.query_id == query_id)
            if connection.scalar(there) is None:
                newest = sa.select(sa.func.coalesce(sa.func.max(ANSWERS.c.id), 0))
                row = {"query_id": query_id, "reason": reason, "labeller": labeller, "created_at": now()}
                connection.execute(WITHDRAWALS.insert().values(after_answer=newest.scalar_subquery(), **row))
                connection.execute(LEASES.delete().where(LEASES.c.query_id == query_id))

    # -- renderers ----------------------------------------------------------------------------------------------------

    def to_render(self, limit: int = 16) -> list[int]:
        """Return the segments of open queries that are not rendered yet, in the order in which they are shown.

        Segments that could not be rendered for an earlier query are included: either they can be rendered now, or this
        query is withdrawn too.
        """
        done = sa.select(RENDERED.c.segment_id).where(RENDERED.c.frames > 0)
        joined = sa.join(QUERIES, QUERY_SEGMENTS, QUERY_SEGMENTS.c.query_id == QUERIES.c.id)
        missing = sa.select(QUERY_SEGMENTS.c.query_id).where(QUERY_SEGMENTS.c.segment_id.not_in(done))
        wanted = sa.select(QUERIES.c.id).where(is_open(QUERIES.c.id), QUERIES.c.id.in_(missing))
        wanted = wanted.order_by(QUERIES.c.round, QUERIES.c.rank).limit(limit)
        segments = sa.select(QUERY_SEGMENTS.c.segment_id).select_from(joined).where(QUERIES.c.id.in_(wanted))
        segments = segments.where(QUERY_SEGMENTS.c.segment_id.not_in(done))
        with self._read() as connection:
            if is_closed(connection):
                return []
            in_order = segments.order_by(QUERIES.c.round, QUERIES.c.rank, QUERY_SEGMENTS.c.place)
            return list(dict.fromkeys(connection.scalars(in_order)))

    def rendered(self, segment_id: int, frames: int) -> None:
        """Record that the clip of a segment was rendered completely."""
        self._note(segment_id, frames, None)

    def unrenderable(self, segment_id: int, problem: str) -> None:
        """Record that a segment cannot be shown, and withdraw its open queries."""
        self._note(segment_id, 0, problem)
        about = sa.select(QUERY_SEGMENTS.c.query_id).where(QUERY_SEGMENTS.c.segment_id == segment_id)
        with self._read() as connection:
            open_ids = connection.scalars(about.where(is_open(QUERY_SEGMENTS.c.query_id))).all()
        for query_id in open_ids:
            self.withdraw(query_id, f"clip {segment_id} cannot be shown: {problem}")

    def withdrawals(self, limit: int | None = None) -> list[Withdrawal]:
        """Return the withdrawn queries, newest first."""
        columns = (WITHDRAWN.c.query_id, WITHDRAWN.c.reason, WITHDRAWN.c.labeller)
        with self._read() as connection:
            rows = connection.execute(sa.select(*columns).order_by(WITHDRAWN.c.id.desc()).limit(limit))
            return [Withdrawal(*row) for row in rows]

    def problems(self) -> list[str]:
        """Return the reasons of all withdrawals, newest first."""
        return [withdrawal.description for withdrawal in self.withdrawals()]

    def waiting(self) -> dict[str, int]:
        """Count the open queries: `ready` to be shown, `unrendered`, and `leased` (which are among the ready ones)."""
        leased = sa.select(LEASES.c.query_id).where(self._valid(self._clock()))
        count = sa.select(sa.func.count()).select_from(QUERIES)
        with self._read() as connection:
            if is_closed(connection):
                return {"ready": 0, "unrendered": 0, "leased": 0}
            ready = connection.scalar(count.where(self._ready())) or 0
            everything = connection.scalar(count.where(is_open(QUERIES.c.id))) or 0
            in_hand = connection.scalar(count.where(self._ready(), QUERIES.c.id.in_(leased))) or 0
        return {"ready": ready, "unrendered": everything - ready, "leased": in_hand}

    def _note(self, segment_id: int, frames: int, problem: str | None) -> None:
        with self._write() as connection:
            if connection.scalar(sa.select(SEGMENTS.c.id).where(SEGMENTS.c.id == segment_id)) is None:
                return
            connection.execute(RENDERED.delete().where(RENDERED.c.segment_id == segment_id))
            row = {"segment_id": segment_id, "frames": frames, "problem": problem, "created_at": now()}
            connection.execute(RENDERED.insert().values(row))

    def _valid(self, at: float) -> sa.ColumnElement[bool]:
        """Whether a lease is valid. Leases from before the machine's last start have expired."""
        return sa.and_(LEASES.c.boot == self._boot, LEASES.c.expires_at.between(at, at + LEASE_SECONDS))

    def _ready(self) -> sa.ColumnElement[bool]:
        whole = sa.select(RENDERED.c.segment_id).where(RENDERED.c.frames > 0)
        lacking = sa.select(QUERY_SEGMENTS.c.query_id).where(QUERY_SEGMENTS.c.segment_id.not_in(whole))
        return sa.and_(is_open(QUERIES.c.id), QUERIES.c.id.not_in(lacking))


def _taken() -> sa.Select[tuple[int]]:
    """Select the queries whose leases and answers together reach the number of answers that they want."""
    hands = sa.select(LEASES.c.query_id, sa.func.count().label("hands")).group_by(LEASES.c.query_id).subquery()
    given = sa.select(sa.func.count()).where(STANDING.c.query_id == hands.c.query_id).scalar_subquery()
    joined = sa.join(hands, QUERIES, QUERIES.c.id == hands.c.query_id)
    return sa.select(hands.c.query_id).select_from(joined).where(hands.c.hands + given >= QUERIES.c.wanted)


def boot_id() -> str:
    """Return an identifier of this start of the machine; empty if the system provides none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _last_action(connection: sa.Connection, labeller: str) -> tuple[int, TakenBack] | None:
    """Return the newest standing answer or withdrawal of a labeller, without imported ones, and the id of its row."""
    own = sa.select(QUERIES.c.id).where(QUERIES.c.round != IMPORTED_ROUND)
    answers = sa.select(STANDING.c.id, STANDING.c.query_id, STANDING.c.kind, STANDING.c.value)
    answers = answers.where(STANDING.c.labeller == labeller, STANDING.c.query_id.in_(own))
    answer = connection.execute(answers.order_by(STANDING.c.id.desc()).limit(1)).first()
    withdrawals = sa.select(WITHDRAWN.c.id, WITHDRAWN.c.query_id, WITHDRAWN.c.after_answer, QUERIES.c.kind)
    withdrawals = withdrawals.join_from(WITHDRAWN, QUERIES, QUERIES.c.id == WITHDRAWN.c.query_id)
    withdrawals = withdrawals.where(WITHDRAWN.c.labeller == labeller, WITHDRAWN.c.query_id.in_(own))
    withdrawal = connection.execute(withdrawals.order_by(WITHDRAWN.c.id.desc()).limit(1)).first()
    if withdrawal is not None and (answer is None or withdrawal.after_answer >= answer.id):
        return withdrawal.id, TakenBack(withdrawal.query_id, None, withdrawal.kind)
    if answer is None:
        return None
    return answer.id, TakenBack(answer.query_id, from_json(KINDS[answer.kind], answer.value), answer.kind)


def reinstate(connection: sa.Connection, withdrawal_id: int, at: str | None = None) -> None:
    """Append a row that undoes a withdrawal, so that its query is asked again; `at` is the time, by default now."""
    row = connection.execute(sa.select(WITHDRAWALS).where(WITHDRAWALS.c.id == withdrawal_id)).mappings().one()
    undoing = {"id": None, "reason": None, "undoes": withdrawal_id, "created_at": at or now()}
    connection.execute(WITHDRAWALS.insert().values({**row, **undoing}))
