"""Answers of any feedback kind in archives, tables and reports: with ratings, which `stars.py` defines."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers import quick
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labelled import add_labels, make_run, random_segment
from runs import content
from stars import Stars
from test_admission import forged
from test_archive import text
from test_history_files import entry

from prefrl.errors import DamagedFileError, UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.archive import LabelArchive, write_archive
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.kinds import KINDS, LONGEST_VALUE
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.label_history import Flag, History, RecordedAnswer, Repeat, TakenBack, Unflagged
from prefrl.feedback.label_table import write_table
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.quality import report, report_lines
from prefrl.feedback.run_store import run_store
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer, Query
from prefrl.feedback.transfer import add_labels as add_archive
from prefrl.feedback.transfer import archive_lines, export_labels, import_archive, labelled_task
from prefrl.registry import LOSSES, LossKind
from prefrl.runs.directory import RunDirectory

VIEW = "id,query_id,kind,value,teacher,labeller,agent_step,segments,response_seconds,created_at"


class Spans(Stars):
    """Which steps of a clip are good: values that cannot be listed, nor hashed."""

    name, values = "spans", None

    def parse(self, value: Any) -> list[int]:
        if not isinstance(value, list) or not all(type(step) is int for step in value):
            raise ValueError("it is a list of steps")
        return sorted(value)

    def tally(self, value: list[int]) -> str:
        return f"{len(value)} steps"


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (Stars(), Spans()):
        monkeypatch.setitem(KINDS, kind.name, kind)
    monkeypatch.setitem(LOSSES, Stars.likelihood, LossKind("stars:fixed_odds"))


@pytest.fixture
def asks_ratings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's runs ask for ratings."""
    monkeypatch.setitem(globals(), "make_run", partial(make_run, feedback="stars"))


def ask(store: LabelStore, clips: ClipFolder, count: int, kind: str = "stars", first: int = 0) -> list[int]:
    pool = [random_segment(first + number) for number in range(count)]
    for segment in pool:
        clips.save(segment)
    queries = [Query(kind, (segment,), 1, segment.id, 100 + segment.id) for segment in pool]
    return list(store.add_queries(queries))


@pytest.fixture
def rated(tmp_path: Path) -> Iterator[tuple[RunDirectory, LabelStore]]:
    """A run with ratings, and with something of everything that may happen to them."""
    run = make_run(tmp_path / "rated", teacher="human")
    store = LabelStore(run.labels, create=True)
    queue, ids = LabelQueue(store), ask(store, ClipFolder(run.clips), 8)
    for number, value in zip(ids, (4, 4, 2, 5, 1), strict=False):
        queue.answer(Answer(number, value, "human", 300, "ann", 1.5))
    store.add_answers([Answer(ids[5], 3, "oracle", 301)])
    assert queue.take_back("v", "ann").value == 1
    queue.answer(Answer(ids[4], 2, "human", 310, "ann", 2.5))
    with store.database.write() as connection:  # ann is asked about the first one again
        connection.exec_driver_sql(f"INSERT INTO queries VALUES (99, 'stars', -1, {ids[0]}, 400, 1, '2026-01-01')")
        connection.exec_driver_sql("INSERT INTO query_segments VALUES (99, 0, 0)")
        connection.exec_driver_sql(f"INSERT INTO repeats VALUES (99, {ids[0]})")
    queue.answer(Answer(99, 5, "human", 400, "ann", 3.5))
    assert not queue.answer(Answer(ids[1], 1, "human", 401, "ben", 4.5))  # too late
    queue.withdraw(ids[6], "it flickers", "ann")
    queue.take_back("v", "ann")
    queue.withdraw(ids[7], "it is black", "ann")
    yield run, store
    store.close()


def known(archive: LabelArchive) -> list[Any]:
    """What a file holds, whatever numbers it has: each entry with its clips, and what it repeats."""
    answers = {label.id: label for label in (*archive.labels, *archive.history.taken_back)}

    def told(entry: RecordedAnswer | Flag) -> str:
        repeated = told(answers[entry.repeats]) if isinstance(entry, Repeat) else None
        clips = [archive.digests[segment] for segment in entry.segments]
        at = getattr(entry, "undone_at", None)
        return repr((clips, entry.identity, entry.agent_step, at, repeated))

    return [sorted(map(told, entries)) for entries in (archive.labels, *archive.history)]


@pytest.mark.usefixtures("asks_ratings")
def test_ratings_and_all_that_happened_to_them_go_through_a_file(rated: Any, tmp_path: Path) -> None:
    archive = export_labels(rated[0].root, tmp_path / "labels.zip")
    assert archive == read_archive(tmp_path / "labels.zip")
    assert archive.kinds == ["stars"]
    assert [(label.kind, label.segments, label.value) for label in archive.labels] == [
        *(("stars", (segment,), value) for segment, value in enumerate((4, 4, 2, 5))),
        ("stars", (5,), 3),
        ("stars", (4,), 2),
    ]
    history = archive.history
    assert [(back.segments, back.value) for back in history.taken_back] == [((4,), 1)]
    assert [(again.segments, again.value, again.repeats) for again in history.repeats] == [((0,), 5, 1)]
    assert [(label.segments, label.value, label.labeller) for label in history.late] == [((1,), 1, "ben")]
    assert [(flag.segments, flag.reason) for flag in history.flags] == [((7,), "it is black")]
    assert [(flag.segments, flag.reason) for flag in history.flags_taken_back] == [((6,), "it flickers")]
    lines = "\n".join(archive_lines(archive))
    assert "judgements: 2 stars 2, 1 stars 3, 2 stars 4, 1 stars 5\n" in lines
    assert "given by: human ann 5, oracle 1" in lines


def test_marks_beyond_the_segment_make_no_file(tmp_path: Path) -> None:
    run = make_run(tmp_path / "marked", feedback="marks")
    with run_store(run, create=True) as store:
        (number,) = ask(store, ClipFolder(run.clips), 1, "marks")
        last = len(random_segment(0)) - 1
        store.add_answers([Answer(number, [[last, 1]], "oracle", 0)])
    export_labels(run.root, tmp_path / "good.zip")
    assert read_archive(tmp_path / "good.zip").labels[0].value == [[last, 1]]

    def later(contents: Any, members: Any) -> None:
        contents["labels"][0]["value"] = [[last + 1, 1]]

    with pytest.raises(DamagedFileError, match=f"step {last + 1} is beyond the segment"):
        read_archive(forged(tmp_path / "good.zip", tmp_path / "bad.zip", later))


@pytest.mark.usefixtures("asks_ratings")
def test_ratings_are_imported_once(rated: Any, tmp_path: Path) -> None:
    run, store = rated
    archive = export_labels(run.root, tmp_path / "labels.zip")
    other = make_run(tmp_path / "other", teacher="human")
    assert import_archive(tmp_path / "labels.zip", other.root) == (6, 0)
    before = content(other.root)
    assert import_archive(tmp_path / "labels.zip", other.root) == (0, 0)
    assert content(other.root) == before
    again = export_labels(other.root, tmp_path / "again.zip")
    assert known(again) == known(archive)
    assert import_archive(again, run.root) == (0, 0)
    with run_store(other) as theirs:
        said = [name for name in store.counts() if name.startswith("rated")]
        assert [theirs.counts()[name] for name in said] == [store.counts()[name] for name in said]
        assert (theirs.counts()["answered"], theirs.late_answers(), theirs.pending()) == (6, 1, [])
    reports = [report(each.root) | {"run": None, "hasty_answers": None} for each in (run, other)]
    assert reports[0] == reports[1]


@pytest.mark.usefixtures("asks_ratings")
def test_a_rating_that_was_taken_back_elsewhere_is_taken_back(rated: Any, tmp_path: Path) -> None:
    run, store = rated
    other = make_run(tmp_path / "other")
    import_archive(export_labels(run.root, tmp_path / "early.zip"), other.root)
    store.undo(4)
    assert import_archive(export_labels(run.root, tmp_path / "late.zip"), other.root) == (0, 1)
    assert import_archive(tmp_path / "early.zip", other.root) == (0, 0)


def test_answers_of_another_kind_than_the_run_asks_for_are_refused(rated: Any, file: Path, tmp_path: Path) -> None:
    export_labels(rated[0].root, tmp_path / "labels.zip")
    other = make_run(tmp_path / "other")
    before = content(other.root)
    line = "labels.zip contains answers of kind stars; the run asks for kind comparison"
    with pytest.raises(UsageError, match=line):
        import_archive(tmp_path / "labels.zip", other.root)
    assert content(other.root) == before
    assert import_archive(file, other.root).labels == 12


def test_a_file_holds_answers_of_several_kinds(rated: Any, tmp_path: Path) -> None:
    run, store = rated
    add_labels(run, 3, first=20, round_=2)
    spans = ask(store, ClipFolder(run.clips), 2, "spans", first=30)
    store.add_answers([Answer(spans[0], [3, 1], "human", 500, "ann"), Answer(spans[1], [], "human", 500, "ann")])
    archive = export_labels(run.root, tmp_path / "labels.zip")
    assert archive.kinds == ["comparison", "spans", "stars"]
    assert archive.answered == 6 + 3 + 2
    other = make_run(tmp_path / "other")
    for added in ((11, 0), (0, 0)):
        assert add_archive(other, archive) == added
    assert known(export_labels(other.root, tmp_path / "again.zip")) == known(archive)
    write_table(other.root, tmp_path / "labels.csv")
    with (tmp_path / "labels.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert {(row["kind"], len(json.loads(row["segments"]))) for row in rows} == {
        ("comparison", 2), ("stars", 1), ("spans", 1),
    }  # fmt: skip
    assert [json.loads(row["value"]) for row in rows if row["kind"] == "spans"] == [[1, 3], []]


def test_a_table_of_ratings_is_the_view_of_standing_answers(rated: Any, tmp_path: Path) -> None:
    run, store = rated
    assert write_table(run.root, tmp_path / "labels.csv") == 7
    with (tmp_path / "labels.csv").open(newline="") as table:
        names, *rows = csv.reader(table)
    with closing(sqlite3.connect(run.labels)) as connection:
        view = connection.execute("SELECT * FROM answers_standing ORDER BY id").fetchall()
    assert names == VIEW.split(",")
    assert rows == [["" if value is None else str(value) for value in row] for row in view]
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE answers SET labeller = 'eve' WHERE id = 2")
    assert write_table(run.root, tmp_path / "less.csv") == 6  # one has rotted


@pytest.mark.usefixtures("asks_ratings")
def test_the_report_of_ratings_speaks_of_ratings(rated: Any) -> None:
    found = report(rated[0].root)
    assert (found["kind"], found["all"]["answers"], found["all"]["repeats"]) == ("stars", 7, 1)
    assert found["all"]["self_consistency"] == 0
    lines = report_lines(found)
    assert not any("left" in line or "pair" in line for line in lines)
    assert lines[-1].startswith("consistent:")


def test_the_report_leaves_answers_of_other_kinds_out(rated: Any) -> None:
    assert report(rated[0].root)["all"]["answers"] == 0
    add_labels(rated[0], 3, first=20, round_=2)
    found = report(rated[0].root)
    assert (found["kind"], found["all"]["answers"]) == ("comparison", 3)


@pytest.mark.parametrize(("name", "hint"), [("star", "did you mean stars"), ("song", "known: comparison")])
def test_an_unknown_kind_is_refused_with_the_nearest(name: str, hint: str, rated: Any, tmp_path: Path) -> None:
    export_labels(rated[0].root, tmp_path / "labels.zip")
    for place in ("labels", *History._fields):
        change = entry(place, kind=name)
        bad = forged(tmp_path / "labels.zip", tmp_path / "bad.zip", change)
        with pytest.raises(UsageError, match=f"^{bad} contains an unknown feedback kind '{name}'; {hint}"):
            read_archive(bad)


@pytest.mark.parametrize(
    "change",
    [{"value": 9}, {"value": "4"}, {"value": [4]}, {"segments": [1, 2]}, {"kind": "comparison"}, {"kind": "spans"}],
    ids=str,
)
def test_what_is_no_answer_of_its_kind_is_refused(change: dict[str, Any], rated: Any, tmp_path: Path) -> None:
    export_labels(rated[0].root, tmp_path / "labels.zip")
    bad = forged(tmp_path / "labels.zip", tmp_path / "bad.zip", lambda c, m: c["labels"][1].update(change))
    with pytest.raises(DamagedFileError, match="is damaged"):
        read_archive(bad)


def test_a_value_that_is_longer_than_the_store_reads_is_refused(rated: Any, tmp_path: Path) -> None:
    export_labels(rated[0].root, tmp_path / "labels.zip")
    change = {"kind": "spans", "value": [1] * LONGEST_VALUE}
    bad = forged(tmp_path / "labels.zip", tmp_path / "bad.zip", lambda c, m: c["labels"][1].update(change))
    with pytest.raises(DamagedFileError, match="longer than"):
        read_archive(bad)


# -- any answers ------------------------------------------------------------------------------------------------------

times = st.datetimes().map(lambda at: at.isoformat())
steps = st.integers(0, 2**63 - 1)
said = st.one_of(
    st.tuples(st.just("comparison"), st.tuples(st.integers(0, 5), st.integers(0, 5)), st.sampled_from(Judgement)),
    st.tuples(st.just("stars"), st.tuples(st.integers(0, 5)), st.integers(1, 5)),
    st.tuples(st.just("spans"), st.tuples(st.integers(0, 5)), st.lists(st.integers(0, 14), max_size=3).map(sorted)),
)
provenance = st.tuples(text, st.none() | text, steps, st.none() | st.floats(0, allow_infinity=False), times)
fates = st.sampled_from(("stands", "taken back", "repeated", "late"))
flags = st.tuples(st.tuples(text, st.none() | text, steps, times), st.none() | times)


def entries(rows: list[Any], flagged: list[Any]) -> tuple[list[RecordedAnswer], History]:
    """What a file might hold: a label for each row, by its fate; a repeated one with its repeat."""
    labels, backs, repeats, late = [], [], [], []
    for number, ((kind, segments, value), given_as, fate, at) in enumerate(rows):
        label = RecordedAnswer(2 * number + 1, kind, segments, value, *given_as)
        if fate == "late":
            late.append(label)
        elif fate == "taken back":
            backs.append(TakenBack(**vars(label), undone_at=at))
        else:
            labels.append(label)
        if fate == "repeated":
            again = vars(label) | {"id": label.id + 1, "teacher": f"{label.teacher}, again", "segments": segments[::-1]}
            repeats.append(Repeat(**again, repeats=label.id))
    about = [(kind, segments) for (kind, segments, _), *_ in rows]
    flags = [(Flag(*of, *told), at) for of, (told, at) in zip(about, flagged, strict=False)]
    standing = tuple(flag for flag, at in flags if at is None)
    lifted = tuple(Unflagged(**vars(flag), undone_at=at) for flag, at in flags if at is not None)
    return labels, History(tuple(backs), tuple(repeats), standing, tuple(late), lifted)


def known_by(row: tuple[Any, ...]) -> str:
    """What no two answers of a run have in common."""
    return repr((row[0][0], sorted(row[0][1]), row[1]))


@given(
    st.lists(st.tuples(said, provenance, fates, times), min_size=1, max_size=8, unique_by=known_by),
    st.lists(flags, max_size=4, unique_by=lambda row: repr(row[0])),
)
@settings(quick, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_answers_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], flagged: list[Any]
) -> None:
    tmp = tmp_path_factory.mktemp("any")
    clips = ClipFolder(tmp)
    for number in range(6):
        clips.save(random_segment(number))
    labels, history = entries(rows, flagged)
    run = make_run(tmp / "run")
    task = labelled_task(run.config)
    write_archive(tmp / "labels.zip", "0.1", task, labels, clips, history)
    archive = read_archive(tmp / "labels.zip")
    assert (list(archive.labels), archive.history) == (labels, history)
    for added in (len(labels), 0):
        assert add_archive(run, archive) == (added, 0)
    if labels:
        assert known(export_labels(run.root, tmp / "again.zip")) == known(archive)
