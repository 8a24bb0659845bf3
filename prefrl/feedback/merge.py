"""What of a file of labels is new to a run, and how it gets there.

Two histories are brought together so that it does not matter which came first: what either has is there, and what
either has taken back is taken back.
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
    Label,
    Repeat,
    TakenBack,
    as_flag,
    as_label,
    flag_rows,
    history_rows,
)
from prefrl.feedback.leases import reinstate
from prefrl.feedback.store import IMPORTED_ROUND, LabelStore, answer_row, place_segments, undo
from prefrl.feedback.terms import Answer

_UNKNOWN = -1
"""In place of the id of a flag that a run never had."""
Identity = tuple[Any, ...]
"""What an answer or a flag is known by, whatever numbers it has: its clips' digests, and its provenance."""


class Added(NamedTuple):
    """What a run has got out of a file."""

    labels: int
    taken_back: int
    """Answers that stood in the run, and that the file knows to be taken back."""


class Held(NamedTuple):
    """An answer in a run."""

    id: int
    query_id: int
    stands: bool


@dataclass(frozen=True)
class Known:
    """What a run knows already."""

    segments: Mapping[str, int]
    """Its segments, by their digests."""
    answers: Mapping[Identity, Sequence[Held]]
    """Every answer that it ever had. Two that are alike in all respects are two."""
    flags: Mapping[Identity, int | None]
    """Every flag that it ever had, with its id where it stands."""
    late: Mapping[Identity, int]
    """How often it has each late answer."""
    repeated: frozenset[int]
    """Queries that were asked again."""


@dataclass(frozen=True)
class Changes:
    """What a run is to get out of a file."""

    labels: tuple[Label, ...]
    """Answers that will stand."""
    history: History
    undone: tuple[int, ...]
    """Answers of the run that the file knows to be taken back."""
    reinstated: tuple[int, ...]
    """Flags of the run that the file knows to be taken back."""
    queries: Mapping[int, int]
    """The run's queries about which the file has answers too, by the ids of the file's answers."""

    @property
    def segments(self) -> list[int]:
        """The file's ids of the segments that are in it."""
        return segments_in(self.labels, self.history)

    @property
    def steps(self) -> dict[int, int]:
        """When each of these segments was first met, in agent steps."""
        entries: list[Label | Flag] = [*self.labels, *self.history.entries]
        met = [(entry.agent_step, segment) for entry in entries for segment in entry.segments]
        return {segment: step for step, segment in sorted(met, reverse=True)}

    @property
    def added(self) -> Added:
        """How much it is."""
        return Added(len(self.labels), len(self.undone))


def read_known(store: LabelStore, clips: ClipFolder) -> Known:
    """Read what a run knows already.

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
    held: dict[Identity, list[Held]] = defaultdict(list)
    late: Counter[Identity] = Counter()
    for row in given:
        with contextlib.suppress(ValueError):  # of a kind whose values cannot be listed
            if {*about[row.query_id]} <= digests.keys():
                identity = _identity(as_label(row, about), digests)
                if row.late:
                    late[identity] += 1
                else:
                    held[identity].append(Held(row.id, row.query_id, bool(row.stands)))
    seen = {
        _identity(as_flag(row, about), digests): row.id if row.stands else None
        for row in flagged
        if {*about[row.query_id]} <= digests.keys()
    }
    return Known({digest: segment for segment, digest in digests.items()}, held, seen, late, repeated)


def _digests(clips: ClipFolder, segments: Iterable[int]) -> dict[int, str]:
    """Of those that are there: a pair may have been flagged because its clip is gone."""
    found = {}
    for segment in segments:
        try:
            found[segment] = clips.digest(segment)
        except PrefrlError:
            continue
    return found


def _identity(entry: Label | Flag, of: Mapping[int, str]) -> Identity:
    return (*(of[segment] for segment in entry.segments), *entry.identity)


def compare(archive: LabelArchive, known: Known) -> Changes:
    """What of a file is new to a run."""
    left = {identity: list(answers) for identity, answers in known.answers.items()}
    queries: dict[int, int] = {}

    def met(label: Label, *, stands: bool) -> Held | None:
        """The answer of the run that this one is: one in the same state, if there is one."""
        same = left.get(_identity(label, archive.digests), [])
        found = next((held for held in same if held.stands == stands), same[0] if same else None)
        if found:
            same.remove(found)
            queries[label.id] = found.query_id
        return found

    labels = tuple(label for label in archive.labels if not met(label, stands=True))
    taken_back, undone = [], []
    for back in archive.history.taken_back:
        found = met(back, stands=False)
        if found is None:
            taken_back.append(back)
        elif found.stands:
            undone.append(found.id)
    repeats = [repeat for repeat in archive.history.repeats if not met(repeat, stands=True)]
    repeats = [repeat for repeat in repeats if queries.get(repeat.repeats) not in known.repeated]
    flags = [flag for flag in archive.history.flags if _identity(flag, archive.digests) not in known.flags]
    held_flags = [
        (back, known.flags.get(_identity(back, archive.digests), _UNKNOWN)) for back in archive.history.flags_taken_back
    ]
    unflagged = tuple(back for back, number in held_flags if number == _UNKNOWN)
    reinstated = tuple(number for _, number in held_flags if number is not None and number != _UNKNOWN)
    late = _new_late(archive, known)
    history = History(tuple(taken_back), tuple(repeats), tuple(flags), late, unflagged)
    return Changes(labels, history, tuple(undone), reinstated, queries)


def _new_late(archive: LabelArchive, known: Known) -> tuple[Label, ...]:
    left, new = Counter(known.late), []
    for label in archive.history.late:
        identity = _identity(label, archive.digests)
        if left[identity]:
            left[identity] -= 1
        else:
            new.append(label)
    return tuple(new)


def free_segments(store: LabelStore, count: int) -> range:
    """Numbers for imported segments; a clip under one of them was left behind by an import that came to no end."""
    with store.database.read() as connection:
        lowest = min(0, connection.scalar(sa.select(sa.func.min(SEGMENTS.c.id))) or 0)
    return range(lowest - 1, lowest - 1 - count, -1)


def insert_changes(
    store: LabelStore, archive: LabelArchive, changes: Changes, new: Mapping[int, int], places: Mapping[int, int]
) -> None:
    """Make changes in one transaction.

    Args:
        store: Where to.
        archive: Where from.
        changes: What of it is new.
        new: The run's ids of segments that are new, by the file's.
        places: The run's ids of all of the changes' segments, by the file's.
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
    """Puts what came from a file into a run, each under a query of its own."""

    def __init__(self, connection: sa.Connection, places: Mapping[int, int]) -> None:
        self._connection, self._places = connection, places
        imported = sa.select(sa.func.count()).where(QUERIES.c.round == IMPORTED_ROUND)
        self._rank = connection.scalar(imported) or 0

    def answer(self, label: Label) -> int:
        """The query's id."""
        query, _ = self._answered(label)
        return query

    def taken_back(self, back: TakenBack) -> int:
        """The query's id."""
        query, answer = self._answered(back)
        undo(self._connection, answer, back.undone_at)
        return query

    def repeat(self, repeat: Repeat, original: int) -> None:
        query, _ = self._answered(repeat)
        self._connection.execute(REPEATS.insert().values(query_id=query, original_id=original))

    def flag(self, flag: Flag) -> int:
        """The withdrawal's id."""
        query = self._query(flag)
        row = {"reason": flag.reason, "labeller": flag.labeller, "created_at": flag.created_at, "after_answer": 0}
        return self._add(WITHDRAWALS.insert().values(query_id=query, **row))

    def late(self, labels: Sequence[Label]) -> None:
        """Under the first queries of their kind about their segments, where there are such."""
        about = segments_of(self._connection)
        kinds = dict(self._connection.execute(sa.select(QUERIES.c.id, QUERIES.c.kind)).all())
        queries = {(kinds[query], segments): query for query, segments in reversed(about.items())}
        for label in labels:
            asked = (label.kind, self._there(label))
            query = queries.get(asked)
            if query is None:
                query = queries[asked] = self._query(label)
            append(self._connection, [self._row(label, query) | {"late": 1}])

    def _answered(self, label: Label) -> tuple[int, int]:
        """The ids of the query and of the answer, which is stored with all that is known of it."""
        query = self._query(label)
        return query, append(self._connection, [self._row(label, query)])[0]

    def _row(self, label: Label, query: int) -> dict[str, Any]:
        given = (label.teacher, label.agent_step, label.labeller, label.response_seconds)
        return answer_row(Answer(query, label.value, *given), label.kind, self._there(label), label.created_at)

    def _query(self, about: Label | Flag) -> int:
        key = {"kind": about.kind, "round": IMPORTED_ROUND, "rank": self._rank, "wanted": 1}
        asked = {"agent_step": about.agent_step, "created_at": about.created_at}
        query = self._add(QUERIES.insert().values(**key, **asked))
        place_segments(self._connection, query, self._there(about))
        self._rank += 1
        return query

    def _there(self, about: Label | Flag) -> tuple[int, ...]:
        """The run's ids of the segments."""
        return tuple(self._places[segment] for segment in about.segments)

    def _add(self, statement: sa.Insert) -> int:
        return int(self._connection.execute(statement).inserted_primary_key[0])  # type: ignore[index]
