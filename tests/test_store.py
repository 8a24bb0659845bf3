"""The label store: what is asked and answered is kept, counted and read as it was said."""

import sqlite3
import subprocess
import sys

import pytest
from asking import POOL, answer, queries
from helpers import segments
from sqlalchemy import text

from prefrl.errors import PrefrlError, UsageError
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.label_history import read_labels
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Label


def view(path):
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    rows = [dict(row) for row in connection.execute("SELECT * FROM labels ORDER BY id")]
    connection.close()
    return rows


def history(path):
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT id, json_extract(value, '$'), undoes FROM answers WHERE late = 0 ORDER BY id"
    ).fetchall()
    connection.close()
    return rows


def test_the_view_has_the_columns_of_the_contract_and_what_was_said(store, path):
    ids = list(store.add_queries(queries(1)))
    details = {"teacher": "human", "labeller": "ann", "response_seconds": 3.5, "agent_step": 120}
    store.add_answers([answer(ids[0], Judgement.EQUAL, **details)])
    (row,) = view(path)
    names = "id query_id judgement teacher labeller agent_step shown_left response_seconds created_at"
    assert list(row) == names.split()
    created = row.pop("created_at")
    assert row == {"id": 1, "query_id": ids[0], "judgement": "equal", "shown_left": 0, **details}
    assert created.endswith("+00:00")


def test_shown_left_is_the_segment_on_the_left(store, path):
    pool = segments(8)
    ids = store.add_queries([pair_query(1, 0, pool[7], pool[2], 0), pair_query(1, 1, pool[3], pool[5], 0)])
    store.add_answers([answer(query_id) for query_id in ids])
    assert [row["shown_left"] for row in view(path)] == [7, 3]
    assert store.labels("comparison") == [Label(1, (7, 2), 1.0), Label(2, (3, 5), 1.0)]


def test_comparisons_have_the_paper_s_mu_and_leave_out_incomparable(store):
    ids = list(store.add_queries(queries(4)))
    store.add_answers([answer(query_id, judgement) for query_id, judgement in zip(ids, Judgement, strict=True)])
    assert [comparison.target for comparison in store.labels("comparison")] == [1.0, 0.0, 0.5]


def test_ties_count_as_labels_and_incomparable_ones_do_not(store):
    ids = list(store.add_queries(queries(6)))
    said = [Judgement.LEFT, Judgement.RIGHT, Judgement.EQUAL, Judgement.EQUAL, Judgement.INCOMPARABLE]
    store.add_answers([answer(query_id, judgement) for query_id, judgement in zip(ids, said, strict=False)])
    expected = {"left": 1, "right": 1, "equal": 2, "incomparable": 1, "pending": 1, "answered": 4}
    assert {name: count for name, count in store.counts().items() if count} == expected


def test_counts_of_an_empty_store_are_zero(store):
    assert set(store.counts().values()) == {0}
    assert store.labels("comparison") == []
    assert store.pending() == []
    assert store.asked("comparison") == set()
    assert store.last_round() == 0
    assert store.last_segment() == -1


def test_a_second_answer_to_a_query_is_ignored(store, path):
    (query_id,) = store.add_queries(queries(1))
    store.add_answers([answer(query_id, Judgement.LEFT)])
    store.add_answers([answer(query_id, Judgement.RIGHT)])
    assert [row["judgement"] for row in view(path)] == ["left"]
    assert len(history(path)) == 1


def test_a_second_answer_in_the_same_breath_is_ignored(store, path):
    (query_id,) = store.add_queries(queries(1))
    store.add_answers([answer(query_id, Judgement.INCOMPARABLE), answer(query_id, Judgement.LEFT)])
    assert [row["judgement"] for row in view(path)] == ["incomparable"]


def test_undo_adds_a_row_and_the_answer_stays_in_the_history(store, path):
    ids = list(store.add_queries(queries(2)))
    store.add_answers([answer(query_id) for query_id in ids])
    before = history(path)
    store.undo(1)
    assert history(path) == [*before, (3, None, 1)]
    assert [row["id"] for row in view(path)] == [2]
    assert store.counts()["answered"] == 1
    assert store.counts()["pending"] == 1
    assert store.unanswered(ids) == {ids[0]}
    assert [row[0] for row in store.pending()] == [ids[0]]


def test_a_query_whose_answer_was_undone_can_be_answered_again_under_a_new_id(store, path):
    (query_id,) = store.add_queries(queries(1))
    store.add_answers([answer(query_id, Judgement.LEFT)])
    store.undo(1)
    store.add_answers([answer(query_id, Judgement.RIGHT)])
    assert store.labels("comparison") == [Label(3, (0, 1), 0.0)]
    store.undo(3)
    assert view(path) == []
    assert [row[0] for row in history(path)] == [1, 2, 3, 4]


@pytest.mark.parametrize("number", [1, 3, 99])
def test_only_a_standing_answer_can_be_taken_back(store, path, number):
    store.add_answers([answer(query_id) for query_id in store.add_queries(queries(2))])
    store.undo(1)  # row 3; the second answer stands
    before = history(path)
    with pytest.raises(UsageError, match=str(number)):
        store.undo(number)
    assert history(path) == before


def test_a_query_has_one_id_for_good(store):
    first = store.add_queries(queries(3))
    again = store.add_queries(queries(5))
    assert list(again)[:3] == list(first)
    assert len(set(again)) == 5
    assert store.counts()["pending"] == 5


def test_segments_that_occur_twice_are_stored_once(store, path):
    pool = segments(3)
    store.add_queries([pair_query(1, 0, pool[0], pool[1], 5), pair_query(1, 1, pool[1], pool[2], 5)])
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT id, length, agent_step FROM segments").fetchall() == [
        (0, 3, 5),
        (1, 3, 5),
        (2, 3, 5),
    ]
    connection.close()


def test_counts_can_be_limited_by_round(store):
    early = list(store.add_queries(queries(3, round_=1)))
    late = list(store.add_queries(queries(3, first=5, round_=2)))
    store.add_answers([answer(query_id) for query_id in [*late[:2], *early]])
    assert [c.id for c in store.labels("comparison")] == [1, 2, 3, 4, 5]
    assert store.counts(max_round=1) == dict.fromkeys(store.counts(), 0) | {"answered": 3, "left": 3}
    assert store.counts()["pending"] == 1
    assert store.counts(max_round=1)["answered"] == 3
    assert store.last_round() == 2
    assert store.last_segment() == 15
    assert store.asked("comparison", max_round=1) == {(0, 1), (2, 3), (4, 5)}
    assert len(store.asked("comparison")) == 6


def test_asked_pairs_are_smaller_first(store):
    store.add_queries([pair_query(1, 0, POOL[9], POOL[4], 0)])
    assert store.asked("comparison") == {(4, 9)}


def test_an_answer_to_no_query_is_refused(store, path):
    with pytest.raises(PrefrlError):
        store.add_answers([answer(77)])
    assert view(path) == []


def test_answers_are_stored_together_or_not_at_all(store, path):
    (query_id,) = store.add_queries(queries(1))
    with pytest.raises(PrefrlError):
        store.add_answers([answer(query_id), answer(77)])
    assert view(path) == []


def test_write_ahead_log_and_full_synchronisation_are_really_set(store):
    with store._read() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar() == 2  # FULL
        assert connection.execute(text("PRAGMA foreign_keys")).scalar() == 1


def test_every_connection_is_set_up_alike(store):
    for _ in range(3):
        store.close()
        with store._write() as connection:
            assert connection.execute(text("PRAGMA synchronous")).scalar() == 2


def test_what_one_store_commits_another_sees_at_once(store, path):
    other = LabelStore(path)
    (query_id,) = store.add_queries(queries(1))
    other.add_answers([answer(query_id)])
    assert store.counts()["answered"] == 1
    other.close()


def test_a_reader_is_not_held_up_by_a_writer_that_has_not_committed(store, path):
    (query_id,) = store.add_queries(queries(1))
    other = LabelStore(path)
    with store._write() as connection:
        connection.execute(text("UPDATE meta SET value = value"))
        assert other.counts()["pending"] == 1
    other.close()
    assert store.unanswered([query_id]) == {query_id}


_WRITER = """
import sys
from contextlib import suppress
from pathlib import Path
from prefrl.errors import UsageError
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
store = LabelStore(Path(sys.argv[1]))
for query in range(1, 61):
    store.add_answers([Answer(query, Judgement.LEFT, sys.argv[2], 0)])
    if query % 20 == 0:
        with suppress(UsageError):  # another writer may have taken it back first
            store.undo(store.labels("comparison")[0].id)
"""


def test_concurrent_writers_lose_and_double_nothing(store, path):
    pool = segments(61)
    ids = store.add_queries([pair_query(1, rank, pool[rank], pool[rank + 1], 0) for rank in range(60)])
    assert list(ids) == list(range(1, 61))
    command = [sys.executable, "-c", _WRITER, str(path)]
    writers = [subprocess.Popen([*command, name], stderr=subprocess.PIPE) for name in ("a", "b", "c")]
    errors = [writer.communicate(timeout=60)[1].decode() for writer in writers]
    assert errors == [""] * 3
    rows = history(path)
    assert [row[0] for row in rows] == sorted({row[0] for row in rows})
    undone = [row[2] for row in rows if row[2] is not None]
    assert len(undone) == len(set(undone)) >= 3
    standing = [row["query_id"] for row in view(path)]
    assert len(standing) == len(set(standing))
    answered = [row for row in rows if row[1] is not None]
    assert len(standing) == len(answered) - len(undone)
    assert set(standing) | store.unanswered(range(1, 61)) == set(range(1, 61))
    store.check()


def test_a_store_tells_whether_it_holds_a_query_s_key_with_other_segments(store):
    first, second = queries(2)
    store.add_queries([first, second])
    assert store.differs([first, second]) is False
    assert store.differs([first._replace(segments=(POOL[30], first.segments[1]))]) is True
    assert store.differs([first, second._replace(segments=second.segments[::-1])]) is True
    assert (
        store.differs([first._replace(round=2, segments=(POOL[30], first.segments[1])), first]) is False
    )  # a key that it does not hold


def test_no_answers_are_none_taken(store):
    assert store.add_answers([]) == set()


def test_a_closed_store_is_opened_again_as_it_was(store, path):
    for closed in (True, False, True):
        store.closed = closed
        again = LabelStore(path)
        assert again.closed is closed
        again.close()


def test_repeats_are_no_labels_wherever_labels_are_read(store):
    ids = list(store.add_queries(queries(3)))
    store.add_answers([answer(number) for number in ids])
    with store.database.write() as connection:
        connection.execute(text(f"INSERT INTO repeats (query_id, original_id) VALUES ({ids[1]}, {ids[0]})"))
    assert [label.segments[0] for label in read_labels(store)] == [0, 4]
    assert [comparison.segments[0] for comparison in store.labels("comparison")] == [0, 4]
    assert store.counts()["answered"] == 2


def test_an_open_repeat_is_not_pending(store):
    first, second = store.add_queries(queries(2))
    with store.database.write() as connection:
        connection.execute(text(f"INSERT INTO repeats (query_id, original_id) VALUES ({second}, {first})"))
    assert [pending.id for pending in store.pending()] == [first]
    assert store.counts()["pending"] == 1


def test_whether_labels_were_imported_after_those_of_later_rounds(store):
    def answered(round_, *, first):
        asked = [query._replace(rank=query.rank + first) for query in queries(2, first=first, round_=round_)]
        store.add_answers([answer(number) for number in store.add_queries(asked)])

    assert store.imported_after(0) is False
    answered(1, first=0)
    assert store.imported_after(0) is False  # nothing was imported
    answered(0, first=2)
    assert store.imported_after(0) is True
    assert store.imported_after(1) is False  # no later round has answers
    answered(2, first=4)
    assert store.imported_after(0) is True
    assert store.imported_after(1) is False  # those of round 2 came after what was imported
    answered(0, first=6)
    assert store.imported_after(1) is True  # and before what was imported then
