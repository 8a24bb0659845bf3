"""A custom feedback kind, a rating of one segment from 1 to 5, which no file but `stars.py` defines."""

import contextlib
import json
import sqlite3

import numpy as np
import pytest
from helpers import segments
from stars import STARS, Stars

from prefrl.errors import PrefrlError, UsageError
from prefrl.feedback.kinds import KINDS, FeedbackKind, checked_kind
from prefrl.feedback.label_changes import LabelChanges
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.quality import GivenAnswer, agreement, label_metrics
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer, Label, Query, StandingAnswer
from prefrl.registry import LOSSES, LossKind
from prefrl.teachers import make_teacher

POOL = segments(12)


@pytest.fixture(autouse=True)
def rating(monkeypatch):
    kind: FeedbackKind = STARS
    monkeypatch.setitem(KINDS, kind.name, kind)
    monkeypatch.setitem(LOSSES, kind.likelihood, LossKind("stars:fixed_odds"))
    return kind


def ask(store, count=3, *, wanted=1, first=0):
    queries = [Query("stars", (POOL[first + rank],), 1, first + rank, 100, wanted) for rank in range(count)]
    return list(store.add_queries(queries))


def said(query_id, value, labeller="ann"):
    return Answer(query_id, value, "human", 120, labeller, 1.5)


def rendered(store):
    queue = LabelQueue(store)
    for segment in queue.to_render(100):
        queue.rendered(segment, 15)
    return queue


def test_its_queries_are_stored_rendered_and_leased(store):
    ids = ask(store)
    assert [(pending.id, pending.kind, pending.segments) for pending in store.pending()] == [
        (number, "stars", (place,)) for place, number in enumerate(ids)
    ]
    assert LabelQueue(store).to_render() == [0, 1, 2]
    leases = rendered(store).lease("a", 2)
    assert [(lease.query_id, lease.kind, lease.segments) for lease in leases] == [
        (ids[0], "stars", (0,)),
        (ids[1], "stars", (1,)),
    ]


def test_its_answers_are_stored_counted_read_and_undone(store):
    ids = ask(store)
    store.add_answers([said(ids[0], 4), said(ids[1], 4), said(ids[2], 1)])
    counts = store.counts()
    assert (counts["stars 4"], counts["stars 1"], counts["answered"], counts["pending"]) == (2, 1, 3, 0)
    store.undo(3)
    assert store.counts()["answered"] == 2
    assert store.unanswered(ids) == {ids[2]}
    first = store.standing()[0]
    assert first._replace(created_at="") == StandingAnswer(
        1, ids[0], "stars", (0,), 4, "human", "ann", 120, 1.5, created_at=""
    )
    assert LabelQueue(store).last_undoable("ann") == (ids[1], 4, "stars")
    assert store.labels("stars") == [Label(1, (0,), 4.0, "stars"), Label(2, (1,), 4.0, "stars")]
    assert store.asked("stars") == {(0,), (1,), (2,)}
    assert store.labels("comparison") == []
    assert store.asked("comparison") == set()


def test_the_view_of_standing_answers_has_the_columns_of_the_contract(store, path):
    ids = ask(store)
    store.add_answers([said(ids[0], 4), said(ids[1], 2)])
    store.undo(2)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT * FROM answers_standing")
        names = [column[0] for column in found.description]
        rows = found.fetchall()
        assert connection.execute("SELECT count(*) FROM labels").fetchone() == (0,)  # which are comparisons
    contract = "id query_id kind value teacher labeller agent_step segments response_seconds created_at"
    assert names == contract.split()
    assert rows[0][:-1] == (1, ids[0], "stars", "4", "human", "ann", 120, "[0]", 1.5)
    assert len(rows) == 1
    assert (json.loads(rows[0][3]), json.loads(rows[0][7])) == (4, [0])


def test_an_oracle_answers_it(store):
    teacher = make_teacher("oracle", 0, lambda: None)
    asked = store.add_queries([Query("stars", (POOL[0],), 1, 0, 100)])
    teacher.submit(asked)
    store.add_answers(teacher.collect())
    (answer,) = store.standing()
    assert answer.value == 3 + np.sign(POOL[0].true_rewards.sum())
    assert answer.teacher == "oracle"


@pytest.mark.parametrize("value", [0, 6, "4", None, True, [1], "left"])
def test_what_is_no_value_of_its_is_refused(value, store):
    ids = ask(store)
    with pytest.raises(UsageError, match="not a valid answer of kind stars"):
        store.add_answers([said(ids[0], value)])
    assert store.standing() == []


def test_a_query_about_too_many_segments_is_refused(store):
    with pytest.raises(UsageError, match="has 1 segments, not 2"):
        store.add_queries([Query("stars", tuple(POOL[:2]), 1, 0, 100)])


def test_a_value_that_has_rotted_is_asked_again(store):
    ids = ask(store)
    store.add_answers([said(ids[0], 4), said(ids[1], 2)])
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE answers SET value = '9' WHERE id = 1")
    assert [pending.id for pending in store.pending()] == [ids[0], ids[2]]
    assert [answer.id for answer in store.standing()] == [2]
    assert store.damaged() == {1}


def test_a_value_that_has_rotted_of_a_kind_that_lists_none_is_left_out(store, monkeypatch):
    class Unlisted(Stars):
        values = None
        parse = STARS.parse

    monkeypatch.setitem(KINDS, "stars", Unlisted())
    ids = ask(store)
    store.add_answers([said(ids[0], 4), said(ids[1], 2), said(ids[2], 2)])
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE answers SET value = '9' WHERE id = 1")
    assert [answer.id for answer in store.standing()] == [2, 3]
    assert store.labels("stars") == [Label(2, (1,), 2.0, "stars"), Label(3, (2,), 2.0, "stars")]
    assert LabelChanges(store, "stars").changes() == store.labels("stars")
    counts = store.counts()
    assert (counts["answered"], counts["stars 2"]) == (2, 2)
    assert store.damaged() == {1}


def test_a_label_is_unreadable_until_its_query_is_answered_again(store):
    first, second, _ = ask(store)
    store.add_answers([said(first, 4), said(second, 2)])
    assert store.unreadable() == set()
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE answers SET value = '9' WHERE id = 1")
    assert store.unreadable() == {1}
    store.add_answers([said(first, 5)])
    assert store.unreadable() == set()
    assert store.damaged() == {1}


def test_a_store_with_an_unknown_kind_is_refused(store, path, monkeypatch):
    ask(store)
    monkeypatch.delitem(KINDS, "stars")
    with pytest.raises(PrefrlError, match="has the unknown kind 'stars'"):
        LabelStore(path)


def test_an_unknown_kind_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="unknown feedback kind 'star'; did you mean stars"):
        KINDS["star"]


def test_agreement_of_ratings_is_ordinal(rating):
    ann = [GivenAnswer(n, False, "ann", value, 1.0, None, kind=rating) for n, value in enumerate([1, 2, 3, 4, 5])]
    near = [GivenAnswer(n, False, "ben", value, 1.0, None, kind=rating) for n, value in enumerate([1, 2, 3, 4, 4])]
    far = [GivenAnswer(n, False, "ben", value, 1.0, None, kind=rating) for n, value in enumerate([1, 2, 3, 4, 1])]
    assert agreement(ann + near)[0] > agreement(ann + far)[0]
    assert label_metrics(rating, ann)["answers"] == 5


def test_a_kind_of_another_package_must_inherit_what_is_newer_than_it():
    assert checked_kind(STARS) is STARS
    with pytest.raises(TypeError, match="Old does not inherit from"):
        checked_kind(type("Old", (), {"name": "old", "arity": 1})())


def test_who_compares_is_offered_four_answers():
    """As `docs/own-environment.md` describes them."""
    kind = KINDS["comparison"]
    assert (kind.question, kind.titles) == ("Which is better?", ("Left", "Right"))
    assert [choice[:5] for choice in kind.choices] == [
        ("left", "Left", "←", "Left", "the left clip is better"),
        ("equal", "Up", "↑", "Equal", "they are equally good"),
        ("incomparable", "Down", "↓", "Can't tell", "can't tell (the pair is dropped and does not count)"),
        ("right", "Right", "→", "Right", "the right clip is better"),
    ]
    notes = [choice.note for choice in kind.choices]
    assert notes == ["", "", "Can't tell: that pair is dropped and does not count", ""]


# -- several labellers ------------------------------------------------------------------------------------------------


def test_a_query_that_wants_two_answers_waits_for_both_and_takes_no_third(store):
    (query,) = ask(store, 1, wanted=2)
    assert store.counts()["pending"] == 2
    assert store.add_answers([said(query, 4, "ann")]) == {query}
    assert store.counts()["pending"] == 1
    assert store.unanswered([query]) == {query}
    assert store.add_answers([said(query, 5, "ann")]) == set()  # each labeller answers once
    assert store.add_answers([said(query, 3, "ben")]) == {query}
    assert store.add_answers([said(query, 1, "cleo")]) == set()
    counts = store.counts()
    assert (counts["answered"], counts["pending"], store.late_answers()) == (2, 0, 2)
    assert store.pending() == []
    store.undo(1)
    assert [pending.id for pending in store.pending()] == [query]


def test_it_is_in_as_many_hands_as_it_wants_answers_and_never_twice_in_one(store):
    first, second = ask(store, 1, wanted=2) + ask(store, 1, first=1)
    queue = rendered(store)
    hands = {name: [lease.query_id for lease in queue.lease(name, 1, name)] for name in ("ann", "ben", "cleo", "dan")}
    assert hands == {"ann": [first], "ben": [first], "cleo": [second], "dan": []}
    assert queue.answer(said(first, 4, "ann"), "ann")
    assert [lease.query_id for lease in queue.lease("ben", 1, "ben")] == [first]  # still in hand
    assert queue.lease("ann", 2, "ann") == []  # who has said it already
    assert queue.lease("dan", 1, "dan") == []
    assert queue.answer(said(first, 5, "ben"), "ben")
    assert queue.waiting() == {"ready": 1, "unrendered": 0, "leased": 1}


def test_who_takes_an_answer_back_is_asked_again(store):
    (query,) = ask(store, 1, wanted=2)
    queue = rendered(store)
    for name in ("ann", "ben"):
        queue.lease(name, 1, name)
        queue.answer(said(query, 4, name), name)
    assert queue.take_back("ann", "ann")[:2] == (query, 4)
    assert [lease.query_id for lease in queue.lease("ann", 1, "ann")] == [query]
    assert queue.answer(said(query, 2, "ann"), "ann")
    assert sorted(answer.value for answer in store.standing()) == [2, 4]
