"""The label store: segments, queries, and an append-only history of answers.

Answers are never changed or deleted: undoing an answer adds a row. The view `answers_standing` contains the others.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from prefrl.errors import UsageError
from prefrl.feedback.answers import append, damaged
from prefrl.feedback.database import (
    ANSWERS,
    META,
    QUERIES,
    SEGMENTS,
    STANDING,
    UNREADABLE,
    Database,
    now,
    segments_of,
)
from prefrl.feedback.kinds import KINDS, from_json
from prefrl.feedback.rows import (
    ASKED_HERE,
    ASKING,
    CLOSED,
    NO_REPEAT,
    add_segments,
    answer_row,
    check_fit,
    complete,
    is_closed,
    is_open,
    lengths_of,
    place_segments,
    query_row,
    standing_answers,
    undo,
)
from prefrl.feedback.terms import DEMONSTRATIONS, IMPORTED_ROUND, JUDGE, Answer, Label, Pending, Query, StandingAnswer
from prefrl.feedback.waiting import Waiting

_QUEUED = "queued"


class LabelStore:
    """The labels of a run. Several processes may use the store at the same time."""

    def __init__(self, path: Path, *, create: bool = False, waiting: Waiting | None = None) -> None:
        """Open a store.

        Args:
            path: The SQLite file.
            create: Whether to create the file if it is missing.
            waiting: See `Database`.

        Raises:
            UsageError: if it was made by a newer version.
            PrefrlError: if it is missing or damaged.
        """
        self.database = Database(path, create=create, waiting=waiting)
        self._read, self._write = self.database.read, self.database.write
        self.close, self.check = self.database.close, self.database.check

    def add_queries(self, queries: Sequence[Query]) -> dict[int, Query]:
        """Store queries and their segments. An existing query with the same (round, rank) is kept unchanged.

        Returns:
            All queries by their ids, including existing ones.
        """
        if not queries:
            return {}
        keys = QUERIES.c.round.in_({query.round for query in queries})
        columns = sa.select(QUERIES.c.round, QUERIES.c.rank, QUERIES.c.id).where(keys)
        with self._write() as connection:
            add_segments(connection, queries)
            there = {(row[0], row[1]) for row in connection.execute(columns)}
            new = [query for query in queries if (query.round, query.rank) not in there]
            if new:
                connection.execute(QUERIES.insert(), [query_row(query) for query in new])
            ids = {(row[0], row[1]): int(row[2]) for row in connection.execute(columns)}
            for query in new:
                place_segments(connection, ids[query.round, query.rank], [segment.id for segment in query.segments])
        return {ids[query.round, query.rank]: query for query in queries}

    def differs(self, queries: Sequence[Query]) -> bool:
        """Return whether the store has a query with the key of one of these, but of another kind or other segments."""
        rounds = QUERIES.c.round.in_({query.round for query in queries})
        columns = sa.select(QUERIES.c.id, QUERIES.c.round, QUERIES.c.rank, QUERIES.c.kind).where(rounds)
        with self._read() as connection:
            about = segments_of(connection, sa.select(QUERIES.c.id).where(rounds))
            held = {(row.round, row.rank): (row.kind, about[row.id]) for row in connection.execute(columns)}
        asked = {
            (query.round, query.rank): (query.kind, tuple(segment.id for segment in query.segments))
            for query in queries
        }
        return any(held[key] != asked[key] for key in held.keys() & asked.keys())

    def unanswered(self, query_ids: Iterable[int]) -> set[int]:
        """Return those of the queries that want more answers than they have."""
        asked = set(query_ids)
        with self._read() as connection:
            return asked - set(connection.scalars(complete().where(QUERIES.c.id.in_(asked))))

    def pending(self) -> list[Pending]:
        """Return the queries that still want answers, sorted by id."""
        waiting = sa.select(QUERIES.c.id).where(is_open(QUERIES.c.id), NO_REPEAT)
        columns = (
            QUERIES.c.id,
            QUERIES.c.kind,
            QUERIES.c.round,
            QUERIES.c.rank,
            QUERIES.c.agent_step,
            QUERIES.c.wanted,
        )
        query = sa.select(*columns).where(QUERIES.c.id.in_(waiting)).order_by(QUERIES.c.id)
        with self._read() as connection:
            about = segments_of(connection, waiting)
            return [Pending(row.id, row.kind, about[row.id], *row[2:]) for row in connection.execute(query)]

    def add_answers(self, answers: Sequence[Answer]) -> set[int]:
        """Append answers in one transaction.

        Late answers are stored too, but never stand: answers to a query that has as many answers as it wants, and
        further answers of the same labeller.

        Returns:
            The ids of the queries whose answers stand.

        Raises:
            UsageError: if a query does not exist, or an answer is not valid for its kind.
        """
        if not answers:
            return set()
        asked = {answer.query_id for answer in answers}
        with self._write() as connection:
            columns = sa.select(QUERIES.c.id, QUERIES.c.kind, QUERIES.c.wanted).where(QUERIES.c.id.in_(asked))
            queries = {row.id: row for row in connection.execute(columns)}
            if unknown := asked - queries.keys():
                raise UsageError(f"there is no query {min(unknown)}")
            about = segments_of(connection, sa.select(QUERIES.c.id).where(QUERIES.c.id.in_(asked)))
            lengths = lengths_of(connection, about.values())
            given = sa.select(STANDING.c.query_id, STANDING.c.teacher, STANDING.c.labeller)
            who: dict[int, list[tuple[str, str | None]]] = {number: [] for number in asked}
            for query_id, teacher, labeller in connection.execute(given.where(STANDING.c.query_id.in_(asked))):
                who[query_id].append((teacher, labeller))
            at, taken, late = now(), [], []
            for answer in answers:
                row = answer_row(answer, queries[answer.query_id].kind, about[answer.query_id], at)
                check_fit(answer, queries[answer.query_id].kind, [lengths[each] for each in about[answer.query_id]])
                before, whoever = who[answer.query_id], (answer.teacher, answer.labeller)
                if len(before) < queries[answer.query_id].wanted and whoever not in before:
                    taken.append(row)
                    before.append(whoever)
                else:
                    late.append(row | {"late": 1})
            if rows := [*sorted(taken, key=lambda row: int(row["query_id"])), *late]:
                append(connection, rows)
        return {row["query_id"] for row in taken}

    def damaged(self, after: int = 0) -> set[int]:
        """Return the ids of damaged rows of the history above `after`."""
        with self._read() as connection:
            return damaged(connection, after)

    def late_answers(self) -> int:
        """Return the number of late answers, which are stored but not used."""
        with self._read() as connection:
            return int(connection.scalar(sa.select(sa.func.count()).where(ANSWERS.c.late > 0)) or 0)

    def undo(self, answer_id: int) -> None:
        """Undo an answer by appending a row; the answer itself stays in the history.

        Raises:
            UsageError: if there is no such answer, or it was undone before.
        """
        with self._write() as connection:
            undo(connection, answer_id)

    def counts(self, max_round: int | None = None, teacher: str | None = None) -> dict[str, int]:
        """Count the standing answers by value, the labels among them, and the pending answers.

        Args:
            max_round: Count only queries up to this selection round.
            teacher: Count only answers of this teacher; pending ones are of any.

        Returns:
            Counts by the kinds' tallies; `answered`: answers that count as labels; `pending`: answers that open queries
            still want.
        """
        counted = STANDING.c.teacher != DEMONSTRATIONS if teacher is None else STANDING.c.teacher == teacher
        upto = NO_REPEAT if max_round is None else NO_REPEAT & (QUERIES.c.round <= max_round)
        joined = sa.join(STANDING, QUERIES, QUERIES.c.id == STANDING.c.query_id)
        said = sa.select(STANDING.c.kind, STANDING.c.value, sa.func.count()).select_from(joined).where(upto, counted)
        missing = sa.select(QUERIES.c.wanted - sa.func.count(STANDING.c.id).label("missing"))
        missing = missing.select_from(sa.outerjoin(QUERIES, STANDING, QUERIES.c.id == STANDING.c.query_id))
        missing = missing.where(ASKED_HERE, upto).group_by(QUERIES.c.id)
        missing = missing.having(sa.func.count(STANDING.c.id) < QUERIES.c.wanted)
        counts = dict.fromkeys((name for kind in KINDS.values() for name in kind.tallies), 0)
        counts |= {"pending": 0, "answered": 0}
        with self._read() as connection:
            for name, text, count in connection.execute(said.group_by(STANDING.c.kind, STANDING.c.value)):
                kind = KINDS[name]
                with contextlib.suppress(ValueError):  # of a kind whose values cannot be enumerated
                    value = from_json(kind, text)
                    counts[kind.tally(value)] = counts.get(kind.tally(value), 0) + count
                    counts["answered"] += count if kind.counts(value) else 0
            if not is_closed(connection):
                counts["pending"] = sum(connection.scalars(missing))
        return counts

    def by_teacher(self) -> dict[str, int]:
        """Count the standing answers by teacher, including the automatic labels of `DEMONSTRATIONS`."""
        joined = sa.join(STANDING, QUERIES, QUERIES.c.id == STANDING.c.query_id)
        count = sa.select(STANDING.c.teacher, sa.func.count()).select_from(joined).where(NO_REPEAT)
        with self._read() as connection:
            return {row[0]: row[1] for row in connection.execute(count.group_by(STANDING.c.teacher))}

    def next_rank(self, round_: int) -> int:
        """Return the rank after the last one of a round; 0 if the round has no queries."""
        with self._read() as connection:
            last = connection.scalar(sa.select(sa.func.max(QUERIES.c.rank)).where(QUERIES.c.round == round_))
        return 0 if last is None else int(last) + 1

    def label_seconds(self, max_round: int | None = None) -> float:
        """Return the time in seconds that the standing answers took, including repeats.

        An answer without a measured time counts as `FeedbackKind.seconds`, as if a person had given it. Answers of a
        judge and automatic labels take nobody's time.

        Args:
            max_round: Count only queries up to this selection round.
        """
        measured = STANDING.c.response_seconds
        sums = (sa.func.sum(measured), sa.func.count() - sa.func.count(measured))
        upto = sa.true() if max_round is None else QUERIES.c.round <= max_round
        upto &= STANDING.c.teacher.not_in((JUDGE, DEMONSTRATIONS))
        given = sa.select(STANDING.c.kind, *sums).join_from(STANDING, QUERIES, QUERIES.c.id == STANDING.c.query_id)
        with self._read() as connection:
            rows = connection.execute(given.where(upto).group_by(STANDING.c.kind)).all()
        return float(sum((seconds or 0.0) + unmeasured * KINDS[kind].seconds for kind, seconds, unmeasured in rows))

    def labels(self, *kinds: str) -> list[Label]:
        """Return the standing answers of some feedback kinds that can be learned from, sorted by id."""
        with self._read() as connection:
            answers = standing_answers(connection, QUERIES.c.kind.in_(kinds))
        labels = (label_of(answer.kind, answer.id, answer.segments, answer.value) for answer in answers)
        return [label for label in labels if label is not None]

    @property
    def closed(self) -> bool:
        """Whether the run finishes with its current labels, and no queries are asked any more."""
        with self._read() as connection:
            return is_closed(connection)

    @closed.setter
    def closed(self, closed: bool) -> None:
        with self._write() as connection:
            connection.execute(META.delete().where(META.c.key == ASKING))
            if closed:
                connection.execute(META.insert().values(key=ASKING, value=CLOSED))

    @property
    def queued(self) -> bool:
        """Whether queries were queued from outside of the run's own rounds; see `queue`."""
        with self._read() as connection:
            return connection.scalar(sa.select(META.c.value).where(META.c.key == _QUEUED)) is not None

    def queue(self, queries: Sequence[Query]) -> None:
        """Store queries from outside of the run's own rounds, e.g. of clips that a probe has found."""
        with self._write() as connection:
            connection.execute(META.delete().where(META.c.key == _QUEUED))
            connection.execute(META.insert().values(key=_QUEUED, value="1"))
        self.add_queries(queries)

    def unreadable(self) -> set[int]:
        """Return the ids of unreadable standing labels whose queries were not answered again."""
        ids = sa.select(UNREADABLE.c.id).join(QUERIES, QUERIES.c.id == UNREADABLE.c.query_id)
        ids = ids.where(NO_REPEAT, QUERIES.c.id.not_in(complete()))
        with self._read() as connection:
            return set(connection.scalars(ids))

    def standing(self) -> list[StandingAnswer]:
        """Return all standing answers, whether or not they count, sorted by id.

        Damaged answers are left out, because a copy of them would look intact.
        """
        with self._read() as connection:
            corrupt = damaged(connection)
            return [answer for answer in standing_answers(connection, sa.true()) if answer.id not in corrupt]

    def imported_after(self, round_: int) -> bool:
        """Return whether labels were imported after the first answers of rounds later than this one."""
        ids = sa.select(sa.func.max(STANDING.c.id), sa.func.min(STANDING.c.id))
        ids = ids.join_from(STANDING, QUERIES, QUERIES.c.id == STANDING.c.query_id)
        with self._read() as connection:
            imported = connection.execute(ids.where(QUERIES.c.round == IMPORTED_ROUND)).one()[0]
            later = connection.execute(ids.where(QUERIES.c.round > round_)).one()[1]
        return imported is not None and later is not None and imported > later

    def asked(self, kind: str, max_round: int | None = None) -> set[tuple[int, ...]]:
        """Return the segment ids of all queries of a feedback kind that were ever asked, each sorted.

        Those of automatic labels were not asked.
        """
        automatic = sa.select(STANDING.c.query_id).where(STANDING.c.teacher == DEMONSTRATIONS)
        query = sa.select(QUERIES.c.id).where(QUERIES.c.kind == kind, QUERIES.c.id.not_in(automatic))
        if max_round is not None:
            query = query.where(QUERIES.c.round <= max_round)
        with self._read() as connection:
            return {tuple(sorted(segments)) for segments in segments_of(connection, query).values()}

    def last_round(self) -> int:
        """Return the last selection round; 0 if there is none."""
        with self._read() as connection:
            return int(connection.scalar(sa.select(sa.func.max(QUERIES.c.round))) or 0)

    def last_segment(self) -> int:
        """Return the highest segment id; -1 if there is none."""
        with self._read() as connection:
            last = connection.scalar(sa.select(sa.func.max(SEGMENTS.c.id)))
        return -1 if last is None else int(last)


def answers_given(counts: Mapping[str, int]) -> int:
    """Return the number of all answers of `LabelStore.counts`, including those that do not count as labels."""
    return sum(count for tally, count in counts.items() if tally not in ("answered", "pending"))


def label_of(kind: str, answer_id: int, segments: Sequence[int], value: Any) -> Label | None:
    """Convert an answer to a label for training; None if nothing is learned from it."""
    target = KINDS[kind].target(value)
    return None if target is None else Label(answer_id, tuple(segments), target, kind)
