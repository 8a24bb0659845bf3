"""The queue of queries that people answer: what is rendered, who has which pair in hand, and what was withdrawn.

A viewer takes a pair by a lease that expires, so that no two viewers show the same pair and none is lost with a viewer
that died. Answers themselves go into the label store, one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import sqlalchemy as sa

from prefrl.database import LABELS, LEASES, QUERIES, RENDERED, SEGMENTS, WITHDRAWN, now
from prefrl.store import IMPORTED_ROUND, LabelStore, is_closed, is_open, undo
from prefrl.types import Answer

LEASE_SECONDS = 60.0
"""A viewer renews its leases many times within this; afterwards others may have the pairs."""


class Lease(NamedTuple):
    """A pair that a viewer has in hand."""

    query_id: int
    left: int
    """Segment id."""
    right: int
    """Segment id."""
    agent_step: int


class LabelQueue:
    """A viewer's and a renderer's view of a run's queries."""

    def __init__(self, store: LabelStore, *, clock: Callable[[], float] = time.time) -> None:
        """Look at a store's queries.

        Args:
            store: The run's labels.
            clock: The time of day in seconds, the same for all viewers.
        """
        self._store = store
        self._read, self._write = store.database.read, store.database.write
        self._clock = clock

    # -- viewers ------------------------------------------------------------------------------------------------------

    def lease(self, viewer: str, count: int = 1) -> list[Lease]:
        """Take the next pairs whose clips are there, those this viewer has in hand included and first.

        Args:
            viewer: Who takes them; unique to a process.
            count: Pairs wanted in hand; fewer where there are no more.
        """
        with self._write() as connection:
            if is_closed(connection):
                return []
            at = self._clock()
            connection.execute(LEASES.delete().where(~self._valid(at)))
            held = sa.select(LEASES.c.query_id).where(LEASES.c.viewer == viewer)
            missing = count - len(connection.scalars(held).all())
            if missing > 0:
                taken = sa.select(LEASES.c.query_id)
                free = sa.select(QUERIES.c.id).where(self._ready(), QUERIES.c.id.not_in(taken))
                ids = connection.scalars(free.order_by(QUERIES.c.round, QUERIES.c.rank).limit(missing)).all()
                rows = [{"query_id": number, "viewer": viewer, "expires_at": at + LEASE_SECONDS} for number in ids]
                if rows:
                    connection.execute(LEASES.insert(), rows)
            columns = (QUERIES.c.id, QUERIES.c.segment_left, QUERIES.c.segment_right, QUERIES.c.agent_step)
            query = sa.select(*columns).where(QUERIES.c.id.in_(held), self._ready())
            return [Lease(*row) for row in connection.execute(query.order_by(QUERIES.c.round, QUERIES.c.rank))]

    def take_back(self, viewer: str, labeller: str) -> int | None:
        """Undo a labeller's newest answer that was given here and stands; the viewer gets its pair to answer again.

        Returns:
            The query; None where the labeller has no answer to take back.
        """
        own = sa.select(QUERIES.c.id).where(QUERIES.c.round != IMPORTED_ROUND)
        mine = sa.select(LABELS.c.id, LABELS.c.query_id).where(
            LABELS.c.labeller == labeller, LABELS.c.query_id.in_(own)
        )
        # One transaction, so that no other viewer gets the pair in between.
        with self._write() as connection:
            newest = connection.execute(mine.order_by(LABELS.c.id.desc()).limit(1)).first()
            if newest is None:
                return None
            undo(connection, newest.id)
            connection.execute(LEASES.delete().where(LEASES.c.query_id == newest.query_id))
            self.give(connection, int(newest.query_id), viewer)
        return int(newest.query_id)

    def give(self, connection: sa.Connection, query_id: int, viewer: str) -> None:
        """Put a query that nobody has into a viewer's hand."""
        row = {"query_id": query_id, "viewer": viewer, "expires_at": self._clock() + LEASE_SECONDS}
        connection.execute(LEASES.insert().values(row))

    def renew(self, viewer: str) -> None:
        """Keep the pairs in hand for another while."""
        with self._write() as connection:
            mine = LEASES.update().where(LEASES.c.viewer == viewer)
            connection.execute(mine.values(expires_at=self._clock() + LEASE_SECONDS))

    def release_all(self, beginning: str) -> None:
        """Give back what viewers whose names begin so have in hand."""
        with self._write() as connection:
            connection.execute(LEASES.delete().where(LEASES.c.viewer.startswith(beginning, autoescape=True)))

    def release(self, viewer: str) -> None:
        """Give back what the viewer has in hand."""
        with self._write() as connection:
            connection.execute(LEASES.delete().where(LEASES.c.viewer == viewer))

    def answer(self, answer: Answer) -> bool:
        """Store an answer, at once and for good, and let go of its pair.

        Returns:
            False where somebody else has answered it meanwhile: that answer stands.
        """
        taken = self._store.add_answers([answer])
        with self._write() as connection:
            connection.execute(LEASES.delete().where(LEASES.c.query_id == answer.query_id))
        return bool(taken)

    def withdraw(self, query_id: int, reason: str) -> None:
        """Take a query out of the queue for good: it is not answered, not pending, and another is asked instead."""
        with self._write() as connection:
            there = sa.select(WITHDRAWN.c.query_id).where(WITHDRAWN.c.query_id == query_id)
            if connection.scalar(there) is None:
                connection.execute(WITHDRAWN.insert().values(query_id=query_id, reason=reason, created_at=now()))

    # -- renderers ----------------------------------------------------------------------------------------------------

    def to_render(self, limit: int = 16) -> list[int]:
        """Segments of open queries whose clips are still missing, in the order in which they will be shown."""
        done = sa.select(RENDERED.c.segment_id)
        query = sa.select(QUERIES.c.segment_left, QUERIES.c.segment_right).where(is_open(QUERIES.c.id))
        wanted = sa.or_(QUERIES.c.segment_left.not_in(done), QUERIES.c.segment_right.not_in(done))
        with self._read() as connection:
            if is_closed(connection):
                return []
            rendered = set(connection.scalars(done))
            pairs = connection.execute(query.where(wanted).order_by(QUERIES.c.round, QUERIES.c.rank).limit(limit))
            ids = dict.fromkeys(segment for pair in pairs for segment in pair)
        return [segment for segment in ids if segment not in rendered]

    def rendered(self, segment_id: int, frames: int) -> None:
        """Say that a segment's clip lies in the run's folder, whole."""
        self._note(segment_id, frames, None)

    def unrenderable(self, segment_id: int, problem: str) -> None:
        """Say that a segment cannot be shown; the queries about it are withdrawn."""
        self._note(segment_id, 0, problem)
        about = sa.or_(QUERIES.c.segment_left == segment_id, QUERIES.c.segment_right == segment_id)
        with self._read() as connection:
            open_ids = connection.scalars(sa.select(QUERIES.c.id).where(about, is_open(QUERIES.c.id))).all()
        for query_id in open_ids:
            self.withdraw(query_id, f"clip {segment_id} cannot be shown: {problem}")

    def problems(self) -> list[str]:
        """Why queries were withdrawn, newest first."""
        with self._read() as connection:
            return list(connection.scalars(sa.select(WITHDRAWN.c.reason).order_by(WITHDRAWN.c.created_at.desc())))

    def waiting(self) -> dict[str, int]:
        """Open queries: `ready` to be shown, `unrendered`, and those `leased` among the ready."""
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
        """A clock that was set back must not make a lease last longer than a lease can."""
        return LEASES.c.expires_at.between(at, at + LEASE_SECONDS)

    def _ready(self) -> sa.ColumnElement[bool]:
        whole = sa.select(RENDERED.c.segment_id).where(RENDERED.c.frames > 0)
        return sa.and_(is_open(QUERIES.c.id), QUERIES.c.segment_left.in_(whole), QUERIES.c.segment_right.in_(whole))
