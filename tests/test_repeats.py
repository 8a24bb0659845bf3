"""Repeated pairs with swapped sides: when and which, and that they do not count as labels."""

import itertools

import pytest
from helpers import segments

from prefrl.feedback.database import REPEATS
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.repeats import FORGOTTEN_AFTER, Repeats
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer

POOL = segments(240)


@pytest.fixture
def queue(store):
    return asked(store)


def asked(store):
    """A queue of 120 pairs that can be shown."""
    queue = LabelQueue(store)
    store.add_queries([pair_query(1, rank, POOL[2 * rank], POOL[2 * rank + 1], 100) for rank in range(120)])
    while ids := queue.to_render(64):
        for segment in ids:
            queue.rendered(segment, 30)
    return queue


def say(queue, query_id, judgement=Judgement.LEFT, labeller="ann"):
    assert queue.answer(Answer(query_id, judgement, "human", 100, labeller, 1.0))


def label(queue, repeats, count, labeller="ann", judge=lambda lease: Judgement.LEFT):
    """Answer this many pairs as the viewer does; the leases, in order."""
    done = []
    while len(done) < count:
        repeats.ask(labeller, labeller)
        lease = max(queue.lease(labeller, 1), key=lambda held: held.query_id)
        say(queue, lease.query_id, judge(lease), labeller)
        done.append(lease)
    return done


def repeated(store):
    """Which query repeats which."""
    with store.database.read() as connection:
        return dict(connection.execute(REPEATS.select()).all())


def test_one_in_twenty_is_asked_again(store, queue):
    label(queue, Repeats(store, queue, 0.05), 84)
    assert len(repeated(store)) == 4
    assert store.counts()["answered"] == 80


@pytest.mark.parametrize("share", [0.0, 0.01])
def test_few_or_no_repeats_for_small_shares(store, queue, share):
    label(queue, Repeats(store, queue, share), 60)
    assert repeated(store) == {}


def test_the_sides_are_swapped_and_the_pair_was_not_just_seen(store, queue):
    leases = label(queue, Repeats(store, queue, 0.25), 60)
    order = [lease.query_id for lease in leases]
    by_id = {lease.query_id: lease for lease in leases}
    assert len(repeated(store)) == 12
    for again, first in repeated(store).items():
        assert by_id[again].segments == by_id[first].segments[::-1]
        assert order.index(again) - order.index(first) > FORGOTTEN_AFTER


def test_no_pair_is_repeated_twice_and_no_repeat_is_repeated(store, queue):
    label(queue, Repeats(store, queue, 1.0), 100)
    pairs = repeated(store)
    assert len(set(pairs.values())) == len(pairs) > 30
    assert not set(pairs) & set(pairs.values())


def test_a_repeat_is_no_label(store, queue):
    label(queue, Repeats(store, queue, 0.5), 45)
    again = len(repeated(store))
    assert again == 15
    assert store.counts()["answered"] == len(store.labels("comparison")) == 30
    assert store.counts()["pending"] == len(store.pending()) == 90
    with store.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM labels").scalar_one() == 45  # but an answer


def test_what_nobody_could_tell_is_not_asked_again(store, queue):
    label(queue, Repeats(store, queue, 1.0), 40, judge=lambda _: Judgement.INCOMPARABLE)
    assert repeated(store) == {}


def test_every_other_repeat_is_of_what_somebody_else_answered(store, queue):
    repeats = Repeats(store, queue, 0.5)
    label(queue, repeats, 30, "ann")
    by_ann = {lease.query_id for lease in label(queue, Repeats(store, queue, 0), 1, "ann")} | set(range(1, 32))
    before = set(repeated(store))
    label(queue, repeats, 30, "ben")
    bens = [first in by_ann for again, first in repeated(store).items() if again not in before]
    assert len(bens) == 10
    assert sum(bens) >= 5


def test_one_open_repeat_at_a_time(store, queue):
    label(queue, Repeats(store, queue, 0.0), 40)
    repeats = Repeats(store, queue, 1.0)
    first = repeats.ask("ann", "ann")
    assert first is not None
    assert repeats.ask("ann", "ann") is None
    assert repeats.ask("ben", "ann") is None


def test_a_repeat_that_a_viewer_dropped_is_shown_by_another(store, queue):
    label(queue, Repeats(store, queue, 0.0), 40)
    again = Repeats(store, queue, 1.0).ask("ann", "ann")
    queue.release("ann")
    assert again in {lease.query_id for lease in queue.lease("ben", 1)}


def test_a_closed_run_asks_nothing_again(store, queue):
    label(queue, Repeats(store, queue, 0.0), 40)
    store.closed = True
    assert Repeats(store, queue, 1.0).ask("ann", "ann") is None
    assert queue.lease("ann", 4) == []
    store.closed = False
    assert len(queue.lease("ann", 4)) == 4


def test_closing_leaves_nothing_pending_and_opening_brings_it_back(store, queue):
    for query_id in itertools.islice((lease.query_id for lease in queue.lease("ann", 5)), 3):
        say(queue, query_id)
    assert (store.counts()["answered"], store.counts()["pending"]) == (3, 117)
    store.closed = True
    assert (store.counts()["answered"], store.counts()["pending"]) == (3, 0)
    assert queue.waiting() == {"ready": 0, "unrendered": 0, "leased": 0}
    store.closed = False
    assert store.counts()["pending"] == 117


def test_which_pair_is_asked_again_is_the_seed_s_chance(tmp_path):
    found = []
    for number, seed in enumerate((0, 0, 1)):
        store = LabelStore(tmp_path / f"{number}.sqlite", create=True)
        label(asked(store), Repeats(store, LabelQueue(store), 0.25, seed), 60)
        found.append(list(repeated(store).values()))
        store.close()
    assert found[0] == found[1] != found[2]
    assert len(found[0]) == 12
