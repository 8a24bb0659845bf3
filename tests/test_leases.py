"""The queue of pairs for people: leases, rendering, withdrawals."""

import subprocess
import sys

import pytest
import sqlalchemy as sa
from helpers import segments

from prefrl.errors import UsageError
from prefrl.feedback.database import ANSWERS, RENDERED
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.leases import LEASE_SECONDS, LabelQueue
from prefrl.feedback.terms import Answer

POOL = segments(40)


class Clock:
    """A clock that the test sets."""

    def __init__(self):
        self.time = 1e9

    def __call__(self):
        return self.time


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(store, clock):
    return LabelQueue(store, clock=clock)


def ask(store, count, *, round_=1):
    start = 4 * (round_ - 1)
    pairs = [(POOL[start + 2 * rank], POOL[start + 2 * rank + 1]) for rank in range(count)]
    return list(store.add_queries([pair_query(round_, rank, *pair, 100) for rank, pair in enumerate(pairs)]))


def render_all(queue):
    while ids := queue.to_render():
        for segment in ids:
            queue.rendered(segment, 30)


def said(query_id, judgement=Judgement.LEFT):
    return Answer(query_id, judgement, "human", 100, "ann", 1.5)


def held(queue, viewer, count=1):
    return [lease.query_id for lease in queue.lease(viewer, count)]


def test_only_pairs_whose_clips_are_both_there_are_shown(store, queue):
    (first,) = ask(store, 1)
    assert held(queue, "a") == []
    left, right = queue.to_render()
    queue.rendered(left, 30)
    assert held(queue, "a") == []
    queue.rendered(right, 30)
    assert held(queue, "a") == [first]
    assert queue.to_render() == []


def test_pairs_are_shown_and_rendered_by_round_and_rank_and_not_as_they_came(store, queue):
    keys = [(2, 1), (1, 2), (2, 0), (1, 0), (3, 0), (1, 1)]
    asked = [pair_query(*key, POOL[2 * n], POOL[2 * n + 1], 0) for n, key in enumerate(keys)]
    ids = {(query.round, query.rank): number for number, query in store.add_queries(asked).items()}
    segments_in_turn = [number for key in sorted(keys) for number in (2 * keys.index(key), 2 * keys.index(key) + 1)]
    assert queue.to_render() == segments_in_turn
    assert queue.to_render(limit=2) == segments_in_turn[:4]
    render_all(queue)
    in_turn = [ids[key] for key in sorted(keys)]
    assert held(queue, "a", 2) == in_turn[:2]
    assert held(queue, "b", 1) == in_turn[2:3]
    assert held(queue, "a", 4) == [*in_turn[:2], *in_turn[3:5]]
    queue.release("a")
    assert held(queue, "c", 9) == [*in_turn[:2], *in_turn[3:]]


def test_a_lease_says_what_is_on_which_side(store, queue):
    ask(store, 1)
    render_all(queue)
    (lease,) = queue.lease("a")
    assert (lease.segments[0], lease.segments[1], lease.agent_step) == (POOL[0].id, POOL[1].id, 100)


def test_two_viewers_never_have_the_same_pair(store, queue):
    ids = ask(store, 4)
    render_all(queue)
    a, b = held(queue, "a", 3), held(queue, "b", 3)
    assert (a, b) == (ids[:3], ids[3:])


def test_earlier_rounds_and_better_ranks_come_first(store, queue):
    later = ask(store, 2, round_=2)
    earlier = ask(store, 2, round_=1)
    render_all(queue)
    assert held(queue, "a", 4) == earlier + later


def test_a_viewer_keeps_what_it_has_and_gets_more(store, queue):
    ids = ask(store, 3)
    render_all(queue)
    assert held(queue, "a", 1) == ids[:1]
    assert held(queue, "a", 3) == ids


def test_a_lease_expires_and_another_viewer_gets_the_pair(store, queue, clock):
    ids = ask(store, 1)
    render_all(queue)
    assert held(queue, "a") == ids
    clock.time += LEASE_SECONDS - 1
    assert held(queue, "b") == []
    clock.time += 2
    assert held(queue, "b") == ids
    assert held(queue, "a") == []


def test_a_lease_that_is_renewed_does_not_expire(store, queue, clock):
    ids = ask(store, 1)
    render_all(queue)
    for _ in range(5):
        assert held(queue, "a") == ids
        clock.time += LEASE_SECONDS / 2
        queue.renew("a")
    assert held(queue, "b") == []


def test_a_lease_from_before_the_machine_restarted_is_free(store, clock):
    ids = ask(store, 1)
    before, after = (LabelQueue(store, clock=clock, boot=boot) for boot in ("one", "two"))
    render_all(before)
    assert held(before, "a") == ids
    assert held(after, "b") == ids


_STEPPED = """
import sys, time
from pathlib import Path
real, step = time.time, float(sys.argv[2])
time.time = lambda: real() + step
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore

store = LabelStore(Path(sys.argv[1]))
print([lease.query_id for lease in LabelQueue(store).lease("b", 2)])
"""


@pytest.mark.parametrize("step", [-3600, -1, 61, 3600])
def test_two_viewers_never_get_one_pair_when_the_time_of_day_is_set(tmp_path, store, step):
    first, second = ask(store, 2)
    queue = LabelQueue(store)
    render_all(queue)
    assert held(queue, "a") == [first]
    command = [sys.executable, "-c", _STEPPED, str(tmp_path / "labels.sqlite"), str(step)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == f"[{second}]"


def test_what_is_released_is_free_at_once(store, queue):
    ids = ask(store, 2)
    render_all(queue)
    assert held(queue, "a", 2) == ids
    queue.release("a")
    assert held(queue, "b", 2) == ids


def test_all_viewers_of_a_beginning_are_released_and_a_beginning_is_no_pattern(store, queue):
    ids = ask(store, 4)
    render_all(queue)
    for viewer in ("a_b-1", "a_b-2", "axb-1", "ca_b-1"):
        held(queue, viewer)
    queue.release_all("a_b-")
    assert held(queue, "d", 4) == ids[:2]


def test_an_answered_pair_is_gone_and_its_answer_stands(store, queue):
    first, second = ask(store, 2)
    render_all(queue)
    assert held(queue, "a") == [first]
    assert queue.answer(said(first))
    assert held(queue, "a") == [second]
    assert store.counts()["left"] == 1


def test_the_first_answer_stands_and_the_second_is_told(store, queue, clock):
    (first,) = ask(store, 1)
    render_all(queue)
    held(queue, "a")
    clock.time += 2 * LEASE_SECONDS
    held(queue, "b")
    assert queue.answer(said(first))
    assert not queue.answer(said(first, Judgement.RIGHT)._replace(labeller="bo", response_seconds=2.5))
    assert (store.counts()["left"], store.counts()["right"]) == (1, 0)
    assert store.late_answers() == 1
    store.undo(1)
    assert store.counts()["pending"] == 1  # the pair is asked again: the second never stands
    with store.database.read() as connection:
        (late,) = connection.execute(sa.select(ANSWERS).where(ANSWERS.c.late > 0)).mappings().all()
    expected = {"query_id": first, "value": '"right"', "teacher": "human", "labeller": "bo", "agent_step": 100}
    assert {name: late[name] for name in expected} == expected
    assert (late["shown"], late["response_seconds"], late["late"]) == ("[0, 1]", 2.5, 1)
    assert late["created_at"].endswith("+00:00")


def test_an_answer_that_was_undone_comes_again(store, queue):
    (first,) = ask(store, 1)
    render_all(queue)
    held(queue, "a")
    queue.answer(said(first))
    store.undo(1)
    assert held(queue, "a") == [first]


def test_a_pair_that_cannot_be_shown_is_withdrawn_with_the_reason(store, queue):
    first, second = ask(store, 2)
    queue.unrenderable(POOL[0].id, "the simulator has no state")
    render_all(queue)
    assert held(queue, "a", 2) == [second]
    assert queue.problems() == [f"clip {POOL[0].id} cannot be shown: the simulator has no state"]
    assert store.counts()["pending"] == 1  # so that another pair is asked instead
    assert [row[0] for row in store.pending()] == [second]
    assert first not in {row[0] for row in store.pending()}


def test_a_clip_that_can_no_longer_be_shown_is_noted_with_the_reason(store, queue):
    ask(store, 1)
    render_all(queue)
    queue.unrenderable(POOL[1].id, "no light")
    with store.database.read() as connection:
        rows = connection.execute(sa.select(RENDERED).order_by(RENDERED.c.segment_id)).mappings().all()
    assert [(row["segment_id"], row["frames"], row["problem"]) for row in rows] == [(0, 30, None), (1, 0, "no light")]
    store.add_queries([pair_query(2, 0, POOL[0], POOL[1], 200)])
    assert queue.to_render() == [POOL[1].id]


def test_a_clip_that_could_not_be_shown_is_tried_again_for_a_later_pair(store, queue):
    """Nobody would ever be shown that pair otherwise, nor another in its stead."""
    ask(store, 1)
    queue.unrenderable(POOL[0].id, "no light")
    assert queue.to_render() == []
    store.add_queries([pair_query(2, 0, POOL[0], POOL[5], 200)])
    assert queue.to_render() == [POOL[0].id, POOL[5].id]
    queue.rendered(POOL[5].id, 15)
    assert queue.to_render() == [POOL[0].id]
    assert held(queue, "a") == []
    queue.unrenderable(POOL[0].id, "no light")
    assert (queue.to_render(), store.counts()["pending"]) == ([], 0)


def test_what_was_answered_is_not_withdrawn(store, queue):
    (first,) = ask(store, 1)
    render_all(queue)
    queue.answer(said(first))
    queue.unrenderable(POOL[0].id, "damaged since")
    assert queue.problems() == []
    queue.withdraw(first, "a person flagged it after all")
    assert store.counts()["left"] == 1  # the answer is still an answer


def test_a_pair_that_was_withdrawn_is_in_nobody_s_hands(store, queue):
    first, second = ask(store, 2)
    render_all(queue)
    assert held(queue, "a") == [first]
    queue.withdraw(first, "bad clip", "ann")
    assert held(queue, "a") == [second]


def test_withdrawing_twice_says_it_once(store, queue):
    (first,) = ask(store, 1)
    for _ in range(2):
        queue.withdraw(first, "bad clip")
    assert queue.problems() == ["bad clip"]


def test_what_is_waited_for_can_be_told(store, queue):
    assert queue.waiting() == {"ready": 0, "unrendered": 0, "leased": 0}
    ask(store, 3)
    assert queue.waiting() == {"ready": 0, "unrendered": 3, "leased": 0}
    for segment in queue.to_render()[:4]:
        queue.rendered(segment, 30)
    held(queue, "a")
    assert queue.waiting() == {"ready": 2, "unrendered": 1, "leased": 1}


def do(queue, query_id, what, labeller="ann"):
    if what == "broken":
        queue.withdraw(query_id, "a clip is broken", labeller)
    else:
        queue.answer(said(query_id, Judgement(what))._replace(labeller=labeller))


@pytest.mark.parametrize(
    "said_in_turn",
    [["broken", "left"], ["left", "broken"], ["broken", "broken"], ["left", "broken", "broken", "right", "broken"]],
)
def test_undo_takes_back_what_was_said_last_be_it_an_answer_or_a_broken_clip(store, queue, said_in_turn):
    ids = ask(store, len(said_in_turn))
    render_all(queue)
    for query_id, what in zip(ids, said_in_turn, strict=True):
        do(queue, query_id, what)
    for left, (query_id, what) in reversed(list(enumerate(zip(ids, said_in_turn, strict=True)))):
        assert queue.take_back("a", "ann")[:2] == (query_id, None if what == "broken" else what)
        assert len(queue.problems()) + store.counts()["left"] + store.counts()["right"] == left
    assert queue.take_back("a", "ann") is None
    assert held(queue, "a", len(ids)) == ids


def test_a_withdrawal_that_was_undone_can_be_made_again_and_taken_back_again(store, queue):
    (first,) = ask(store, 1)
    for _ in range(3):
        do(queue, first, "broken")
        assert store.counts()["pending"] == 0
        assert queue.take_back("a", "ann")[:2] == (first, None)
        assert store.counts()["pending"] == 1
    assert queue.take_back("a", "ann") is None


@pytest.mark.parametrize("what", ["left", "broken"])
def test_what_was_taken_back_is_in_the_hands_of_who_took_it_back(store, queue, what):
    first, second = ask(store, 2)
    render_all(queue)
    do(queue, first, what)
    assert queue.take_back("a", "ann").query_id == first
    assert held(queue, "b") == [second]
    assert held(queue, "a") == [first]


def test_an_answer_that_was_stored_past_the_queue_can_be_taken_back_by_who_still_has_the_pair(store, queue):
    (first,) = ask(store, 1)
    render_all(queue)
    assert held(queue, "a") == [first]
    store.add_answers([said(first)])
    assert queue.take_back("a", "ann")[:2] == (first, "left")
    assert held(queue, "a") == [first]


@pytest.mark.parametrize("what", ["left", "broken"])
def test_nobody_takes_back_what_was_imported(store, queue, what):
    (imported,) = store.add_queries([pair_query(0, 0, POOL[4], POOL[5], 0)])
    (own,) = ask(store, 1)
    do(queue, own, "left")
    do(queue, imported, what)
    assert queue.take_back("a", "ann")[:2] == (own, "left")
    assert queue.take_back("a", "ann") is None


def test_nobody_takes_back_what_another_said_or_a_program(store, queue):
    first, second, third = ask(store, 3)
    do(queue, first, "left", "ann")
    do(queue, second, "broken", "ben")
    queue.withdraw(third, "the file is cut off")
    assert queue.take_back("a", "ann")[:2] == (first, "left")
    assert queue.take_back("a", "ann") is None
    assert queue.problems() == ["the file is cut off", "ben says: a clip is broken"]


@pytest.mark.parametrize("what", ["left", "broken"])
def test_undo_after_labelling_was_finished_is_refused_and_changes_nothing(store, queue, what):
    (first,) = ask(store, 1)
    render_all(queue)
    do(queue, first, what)
    store.closed = True
    before = dump(store)
    with pytest.raises(UsageError, match="labelling is finished"):
        queue.take_back("a", "ann")
    assert dump(store) == before
    store.closed = False
    assert queue.take_back("a", "ann").query_id == first


def dump(store):
    """All that the store holds."""
    with store.database.read() as connection:
        tables = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
        return {name: connection.exec_driver_sql(f"SELECT * FROM {name}").all() for name in tables.scalars().all()}


_VIEWER = """
import sys
from pathlib import Path
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer

store = LabelStore(Path(sys.argv[1]))
queue = LabelQueue(store)
while leases := queue.lease(sys.argv[2], 3):
    for lease in leases:
        print(lease.query_id, queue.answer(Answer(lease.query_id, Judgement.LEFT, "human", 0, sys.argv[2])))
store.close()
"""


def test_viewers_at_once_share_the_pairs_and_double_none(tmp_path, store, queue):
    pool = segments(61)
    ids = list(store.add_queries([pair_query(1, rank, pool[rank], pool[rank + 1], 0) for rank in range(60)]))
    real = LabelQueue(store)
    render_all(real)
    command = [sys.executable, "-c", _VIEWER, str(tmp_path / "labels.sqlite")]
    viewers = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("a", "b", "c")]
    lines = [line.split() for viewer in viewers for line in viewer.communicate(timeout=60)[0].splitlines()]
    assert sorted(int(number) for number, _ in lines) == ids
    assert {taken for _, taken in lines} == {"True"}
    assert store.counts()["answered"] == 60
