"""Merge a file of labels into a run.

The result of a merge does not depend on the order of the imports: a run has the answers of all files, and an answer
that was undone anywhere is undone.
"""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import sqlalchemy as sa

from prefrl.errors import PrefrlError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.answers import READABLE, append
from prefrl.feedback.archive import LabelArchive
from prefrl.feedback.archive import segments_of as segments_in
from prefrl.feedback.database import (
    ANSWERS,
    QUERIES,
    RENDERED,
    REPEATS,
    SEGMENTS,
    STANDING,
    WITHDRAWALS,
    WITHDRAWN,
    now,
    segments_of,
)
from prefrl.feedback.label_history import (
    Flag,
    History,
    RecordedAnswer,
    Repeat,
    TakenBack,
    as_answer,
    as_flag,
    flag_rows,
    history_rows,
)
from prefrl.feedback.leases import reinstate
from prefrl.feedback.rows import answer_row, place_segments, undo
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import IMPORTED_ROUND, Answer

_UNKNOWN = -1
"""Stands for the id of a flag that the run never had."""
Identity = tuple[Any, ...]
"""Identifies an answer or a flag across runs: the digests of its clips, and its provenance."""


class Added(NamedTuple):
    """Numbers of labels that an import changed."""

    labels: int
    taken_back: int
    """Answers that stood in the run and were undone, because they are undone in the file."""


class KnownAnswer(NamedTuple):
    """An answer of a run."""

    id: int
    query_id: int
    stands: bool


@dataclass(frozen=True)
class Known:
    """The labels that a run has."""

    segments: Mapping[str, int]
    """The run's segments by digest."""
    answers: Mapping[Identity, Sequence[KnownAnswer]]
    """All answers that the run ever had. Several identical answers are listed separately."""
    flags: Mapping[Identity, int | None]
    """All flags that the run ever had, with their ids if they stand."""
    late: Mapping[Identity, int]
    """Number of the run's late answers."""
    repeated: frozenset[int]
    """Ids of queries that have a repeat."""


@dataclass(frozen=True)
class Changes:
    """The changes that a file of labels makes to a run."""

    labels: tuple[RecordedAnswer, ...]
    """New standing answers."""
    history: History
    undone: tuple[int, ...]
    """Ids of the run's answers that are undone in the file."""
    reinstated: tuple[int, ...]
    """Ids of the run's flags that are undone in the file."""
    queries: Mapping[int, int]
    """The run's queries that the file has answers to as well, by the ids of the file's answers."""

    @property
    def segments(self) -> list[int]:
        """The file's ids of the segments of all changes."""
        return segments_in(self.labels, self.history)

    @property
    def steps(self) -> dict[int, int]:
        """The agent step at which each of these segments first occurs."""
        entries: list[RecordedAnswer | Flag] = [*self.labels, *self.history.entries]
        occurrences = [(entry.agent_step, segment) for entry in entries for segment in entry.segments]
        return {segment: step for step, segment in sorted(occurrences, reverse=True)}

    @property
    def added(self) -> Added:
        """The numbers of added and undone labels."""
        return Added(len(self.labels), len(self.undone))


def read_known(store: LabelStore, clips: ClipFolder) -> Known:
    """Read the labels that a run has.

    Raises:
        PrefrlError: if the clip of a label is missing.
    """
    stands = ANSWERS.c.id.in_(sa.select(STANDING.c.id)).label("stands")
    answers = history_rows().add_columns(stands).where(READABLE)
    flags = flag_rows().add_columns(WITHDRAWALS.c.id.in_(sa.select(WITHDRAWN.c.id)).label("stands"))
    with store.database.read() as connection:
        given, flagged = connection.execute(answers).all(), connection.execute(flags).all()
        repeated = frozenset(connection.scalars(sa.select(REPEATS.c.original_id)))
        about = segments_of(connection)
    needed = {segment for row in given if row.stands for segment in about[row.query_id]}
    others = {segment for row in (*given, *flagged) for segment in about[row.query_id]}
    digests = {segment: clips.digest(segment) for segment in needed} | _digests(clips, others - needed)
    known: dict[Identity, list[KnownAnswer]] = defaultdict(list)
    late: Counter[Identity] = Counter()
    for row in given:
        with contextlib.suppress(ValueError):  # of a kind whose values cannot be enumerated
            if {*about[row.query_id]} <= digests.keys():
                identity = _identity(as_answer(row, about), digests)
                if row.late:
                    late[identity] += 1
                else:
                    known[identity].append(KnownAnswer(row.id, row.query_id, bool(row.stands)))
    known_flags = {
        _identity(as_flag(row, about), digests): row.id if row.stands else None
        for row in flagged
        if {*about[row.query_id]} <= digests.keys()
    }
    return Known({digest: segment for segment, digest in digests.items()}, known, known_flags, late, repeated)


def _digests(clips: ClipFolder, segments: Iterable[int]) -> dict[int, str]:
    """Compute the digests of intact clips. A query may have been flagged because a clip is missing or damaged."""
    found = {}
    for segment in segments:
        try:
            found[segment] = clips.digest(segment)
        except PrefrlError:
            continue
    return found


def _identity(entry: RecordedAnswer | Flag, of: Mapping[int, str]) -> Identity:
    return (*(of[segment] for segment in entry.segments), *entry.identity)


def compare(archive: LabelArchive, known: Known) -> Changes:
    """Determine which changes a file of labels makes to a run."""
    unmatched = {identity: list(answers) for identity, answers in known.answers.items()}
    queries: dict[int, int] = {}

    def take_match(label: RecordedAnswer, *, stands: bool) -> KnownAnswer | None:
        """Return an identical answer of the run, preferably in the given state, and remove it from `unmatched`."""
        same = unmatched.get(_identity(label, archive.digests), [])
        found = next((answer for answer in same if answer.stands == stands), same[0] if same else None)
        if found:
            same.remove(found)
            queries[label.id] = found.query_id
        return found

    labels = tuple(label for label in archive.labels if not take_match(label, stands=True))
    taken_back, undone = [], []
    for back in archive.history.taken_back:
        found = take_match(back, stands=False)
        if found is None:
            taken_back.append(back)
        elif found.stands:
            undone.append(found.id)
    repeats = [repeat for repeat in archive.history.repeats if not take_match(repeat, stands=True)]
    repeats = [repeat for repeat in repeats if queries.get(repeat.repeats) not in known.repeated]
    flags = [flag for flag in archive.history.flags if _identity(flag, archive.digests) not in known.flags]
    undone_flags = [
        (back, known.flags.get(_identity(back, archive.digests), _UNKNOWN)) for back in archive.history.flags_taken_back
    ]
    unflagged = tuple(back for back, number in undone_flags if number == _UNKNOWN)
    reinstated = tuple(number for _, number in undone_flags if number is not None and number != _UNKNOWN)
    late = _new_late(archive, known)
    history = History(tuple(taken_back), tuple(repeats), tuple(flags), late, unflagged)
    return Changes(labels, history, tuple(undone), reinstated, queries)


def _new_late(archive: LabelArchive, known: Known) -> tuple[RecordedAnswer, ...]:
    unmatched, new = Counter(known.late), []
    for label in archive.history.late:
        identity = _identity(label, archive.digests)
        if unmatched[identity]:
            unmatched[identity] -= 1
        else:
            new.append(label)
    return tuple(new)


def free_segments(store: LabelStore, count: int) -> range:
    """Return unused ids for imported segments. A clip with such an id is left from an interrupted import."""
    with store.database.read() as connection:
        lowest = min(0, connection.scalar(sa.select(sa.func.min(SEGMENTS.c.id))) or 0)
    return range(lowest - 1, lowest - 1 - count, -1)


def insert_changes(
    store: LabelStore, archive: LabelArchive, changes: Changes, new: Mapping[int, int], places: Mapping[int, int]
) -> None:
    """Apply changes in one transaction.

    Args:
        store: The run's label store.
        archive: The file of labels.
        changes: The changes.
        new: The run's ids of new segments, by the file's ids.
        places: The run's ids of all segments of the changes, by the file's ids.
    """
    steps = changes.steps
    length = archive.task.segment_length
    with store.database.write() as connection:
        for segment, number in new.items():
            connection.execute(SEGMENTS.insert().values(id=number, length=length, agent_step=steps[segment]))
            if segment in archive.videos:
                connection.execute(RENDERED.insert().values(segment_id=number, frames=length, created_at=now()))
        _insert(connection, changes, places)


def _insert(connection: sa.Connection, changes: Changes, places: Mapping[int, int]) -> None:
    insert = _Inserter(connection, places)
    queries = dict(changes.queries)
    for label in changes.labels:
        queries[label.id] = insert.answer(label)
    for back in changes.history.taken_back:
        queries[back.id] = insert.taken_back(back)
    for repeat in changes.history.repeats:
        insert.repeat(repeat, queries[repeat.repeats])
    for flag in changes.history.flags:
        insert.flag(flag)
    for unflagged in changes.history.flags_taken_back:
        reinstate(connection, insert.flag(unflagged), unflagged.undone_at)
    insert.late(changes.history.late)
    for answer in changes.undone:
        undo(connection, answer)
    for flag_id in changes.reinstated:
        reinstate(connection, flag_id)


class _Inserter:
    """Inserts answers and flags from a file, each with a query of its own."""

    def __init__(self, connection: sa.Connection, places: Mapping[int, int]) -> None:
        self._connection, self._places = connection, places
        last = sa.select(sa.func.max(QUERIES.c.rank)).where(QUERIES.c.round == IMPORTED_ROUND)
        self._rank = 0 if (rank := connection.scalar(last)) is None else rank + 1

    def answer(self, label: RecordedAnswer) -> int:
        """Insert an answer, and return the query's id."""
        query, _ = self._answered(label)
        return query

    def taken_back(self, back: TakenBack) -> int:
        """Insert an undone answer, and return the query's id."""
        query, answer = self._answered(back)
        undo(self._connection, answer, back.undone_at)
        return query

    def repeat(self, repeat: Repeat, original: int) -> None:
        query, _ = self._answered(repeat)
        self._connection.execute(REPEATS.insert().values(query_id=query, original_id=original))

    def flag(self, flag: Flag) -> int:
        """Insert a flag, and return the withdrawal's id."""
        query = self._query(flag)
        row = {"reason": flag.reason, "labeller": flag.labeller, "created_at": flag.created_at, "after_answer": 0}
        return self._add(WITHDRAWALS.insert().values(query_id=query, **row))

    def late(self, labels: Sequence[RecordedAnswer]) -> None:
        """Insert late answers. Each belongs to the first query of its kind about its segments, if there is one."""
        about = segments_of(self._connection)
        kinds = dict(self._connection.execute(sa.select(QUERIES.c.id, QUERIES.c.kind)).all())
        queries = {(kinds[query], segments): query for query, segments in reversed(about.items())}
        for label in labels:
            asked = (label.kind, self._segments(label))
            query = queries.get(asked)
            if query is None:
                query = queries[asked] = self._query(label)
            append(self._connection, [self._row(label, query) | {"late": 1}])

    def _answered(self, label: RecordedAnswer) -> tuple[int, int]:
        """Insert a query and its answer, and return the ids of both."""
        query = self._query(label)
        return query, append(self._connection, [self._row(label, query)])[0]

    def _row(self, label: RecordedAnswer, query: int) -> dict[str, Any]:
        given = (label.teacher, label.agent_step, label.labeller, label.response_seconds)
        return answer_row(Answer(query, label.value, *given), label.kind, self._segments(label), label.created_at)

    def _query(self, about: RecordedAnswer | Flag) -> int:
        key = {"kind": about.kind, "round": IMPORTED_ROUND, "rank": self._rank, "wanted": 1}
        asked = {"agent_step": about.agent_step, "created_at": about.created_at}
        query = self._add(QUERIES.insert().values(**key, **asked))
        place_segments(self._connection, query, self._segments(about))
        self._rank += 1
        return query

    def _segments(self, about: RecordedAnswer | Flag) -> tuple[int, ...]:
        """Return the run's ids of an entry's segments."""
        return tuple(self._places[segment] for segment in about.segments)

    def _add(self, statement: sa.Insert) -> int:
        return int(self._connection.execute(statement).inserted_primary_key[0])  # type: ignore[index]
