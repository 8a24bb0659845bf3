"""Queries and answers, on their way into the store and out of it."""

from __future__ import annotations

from typing import Any, NamedTuple

from prefrl.experience.segment import Segment


class Query(NamedTuple):
    """A question put to a teacher. Its key is (round, rank)."""

    kind: str
    """A name of `prefrl.feedback.kinds.KINDS`."""
    segments: tuple[Segment, ...]
    """What is asked about, in the order shown; as many as the kind's arity."""
    round: int
    """The selection round, counted over the whole run."""
    rank: int
    """The place within its round, best first."""
    agent_step: int
    """Agent steps taken when it was asked."""
    wanted: int = 1
    """How many labellers are to answer it."""


class Pending(NamedTuple):
    """A query in the store that waits for an answer."""

    id: int
    kind: str
    segments: tuple[int, ...]
    """Segment ids, in the order shown."""
    round: int
    rank: int
    agent_step: int
    wanted: int


class Answer(NamedTuple):
    """What a teacher says of one query, on its way into the store."""

    query_id: int
    value: Any
    """A value of the query's kind."""
    teacher: str
    agent_step: int
    labeller: str | None = None
    response_seconds: float | None = None


class StandingAnswer(NamedTuple):
    """An answer that was neither late nor taken back, read from the store."""

    id: int
    query_id: int
    kind: str
    segments: tuple[int, ...]
    """Segment ids, in the order shown."""
    value: Any
    teacher: str
    labeller: str | None
    agent_step: int
    """Agent steps taken when it was given."""
    response_seconds: float | None
    created_at: str
    """The time of day (ISO 8601)."""


class Label(NamedTuple):
    """An answer as a reward model is fitted to it, read from the store."""

    id: int
    """The answer's id; also the key of its bootstrap draws."""
    segments: tuple[int, ...]
    """Segment ids, in the order shown."""
    target: float
    """What was said of them, as a number: see `FeedbackKind.target`."""


class Undone(NamedTuple):
    """An answer that was undone."""

    id: int
    """Id of the history row that undoes it."""
    answer: int
    """The answer's id."""
