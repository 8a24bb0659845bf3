"""Queries and answers, as they are written to and read from the store."""

from __future__ import annotations

from typing import Any, NamedTuple

from prefrl.experience.segment import Segment

Target = float | tuple[float, ...]
"""What a reward model learns from an answer."""
JUDGE = "judge"
"""The teacher that is a learned reward model."""
DEMONSTRATIONS = "demonstrations"
"""The teacher of automatic labels, which prefer demonstrated clips. They are not part of the label budget."""
IMPORTED_ROUND = 0
"""Selection round of imported labels. It is before all rounds of the run, so a replay always includes them."""


class Query(NamedTuple):
    """A query for a teacher. Its key in the store is (round, rank)."""

    kind: str
    """A name in `prefrl.feedback.kinds.KINDS`."""
    segments: tuple[Segment, ...]
    """The segments, in the order shown; their number is the kind's arity."""
    round: int
    """Number of the selection round, counted over the whole run."""
    rank: int
    """Position within the round, best first."""
    agent_step: int
    """Agent steps taken when it was asked."""
    wanted: int = 1
    """Number of labellers who should answer it."""


class Pending(NamedTuple):
    """A query in the store that still wants answers."""

    id: int
    kind: str
    segments: tuple[int, ...]
    """Segment ids, in the order shown."""
    round: int
    rank: int
    agent_step: int
    wanted: int


class Answer(NamedTuple):
    """A teacher's answer to a query, to be stored."""

    query_id: int
    value: Any
    """A value of the query's kind."""
    teacher: str
    agent_step: int
    labeller: str | None = None
    response_seconds: float | None = None


class StandingAnswer(NamedTuple):
    """An answer from the store that is neither late nor undone."""

    id: int
    query_id: int
    kind: str
    segments: tuple[int, ...]
    """Segment ids, in the order shown."""
    value: Any
    teacher: str
    labeller: str | None
    agent_step: int
    """Agent steps taken when it was answered."""
    response_seconds: float | None
    created_at: str
    """Time in ISO 8601."""


class Label(NamedTuple):
    """A label for training, from the store."""

    id: int
    """The answer's id, which is also the key of its bootstrap draws."""
    segments: tuple[int, ...]
    """Segment ids, in the order shown."""
    target: Target
    """The answer as a number, or as one for each step; see `FeedbackKind.target`."""
    kind: str = "comparison"
    """The feedback kind of the answer."""


class GivenAnswer(NamedTuple):
    """A standing answer, which may be "can't tell"."""

    id: int
    """The answer's id."""
    segments: tuple[int, ...]
    """Segment ids, in the order shown."""
    target: Target | None
    """The answer as a number, see `FeedbackKind.target`; None for "can't tell"."""
    kind: str = "comparison"
    """The feedback kind of the answer."""

    @property
    def told(self) -> bool:
        """Whether the labeller could tell."""
        return self.target is not None


class Undone(NamedTuple):
    """An answer that was undone."""

    id: int
    """Id of the history row that undoes it."""
    answer: int
    """The answer's id."""
