"""The learner forgets undone answers: in both modes, immediately, and equally after resuming."""

import itertools
import multiprocessing
import threading
from types import SimpleNamespace

import numpy as np
import torch
from helpers import Library, clip_reader, laid_out, quick, same_tree, segments, through_file, tiny_reward
from hypothesis import given
from hypothesis import strategies as st
from runs import until

from prefrl.errors import PrefrlError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.label_changes import LabelChanges
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer, Label, Undone
from prefrl.recipes import resolve
from prefrl.reward.learner import RewardLearner
from prefrl.reward.loss import multiplicity
from prefrl.reward.process import Orders, learn_until
from prefrl.reward.workers import InlineLearner
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import load_tree

LEFT, RIGHT, EQUAL, NEITHER = Judgement


# -- the history ------------------------------------------------------------------------------------------------------


POOL = segments(24, rewards=np.arange(5.0))


def ask(store, round_, count=1):
    """Queries of a round, about segments that no other is about; their ids."""
    first = 2 * (store.counts()["answered"] + store.counts()["pending"] + store.counts()["incomparable"])
    pairs = [(POOL[(first + 2 * n) % 24], POOL[(first + 2 * n + 1) % 24]) for n in range(count)]
    return list(store.add_queries([pair_query(round_, rank, *pair, 0) for rank, pair in enumerate(pairs)]))


def say(store, query_id, judgement=LEFT, labeller="ann"):
    store.add_answers([Answer(query_id, Judgement(judgement), "human", 0, labeller)])


def test_changes_are_comparisons_that_stand_and_answers_that_were_undone_since(store):
    history = LabelChanges(store, "comparison")
    one, two = ask(store, 1, 2)
    say(store, one)  # row 1
    say(store, two, EQUAL)
    assert history.changes() == [Label(1, (0, 1), 1.0), Label(2, (2, 3), 0.5)]
    store.undo(1)  # row 3
    say(store, one, RIGHT)
    assert history.changes(after=2) == [Undone(3, 1), Label(4, (0, 1), 0.0)]
    assert history.changes() == [Label(2, (2, 3), 0.5), Label(4, (0, 1), 0.0)]
    store.undo(4)  # row 5: said and taken back between two looks
    assert history.changes(after=3) == []
    assert history.changes(after=4) == [Undone(5, 4)]
    say(store, one, NEITHER)
    assert history.changes(after=5) == []


def test_what_stood_as_of_a_row_is_told_whatever_was_undone_later(store):
    history = LabelChanges(store, "comparison")
    (one,) = ask(store, 1)
    say(store, one)
    store.undo(1)
    say(store, one, RIGHT)
    assert [[change.id for change in history.changes(upto=row)] for row in range(4)] == [[], [1], [], [3]]
    assert history.changes(after=1, upto=2) == [Undone(2, 1)]


def test_an_answer_with_a_value_of_the_wrong_type_is_no_change(store):
    for query_id in ask(store, 1, 2):
        say(store, query_id)
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE answers SET agent_step = 'soon' WHERE id = 1")
    assert LabelChanges(store, "comparison").changes() == [Label(2, (2, 3), 1.0)]


def test_the_first_row_of_any_later_round_is_where_a_round_ends(store):
    history = LabelChanges(store, "comparison")
    assert history.last_row(0, 0) == 0
    for round_ in (1, 2, 3):
        say(store, *ask(store, round_), labeller=None)
    assert [history.last_row(round_, 0) for round_ in (0, 1, 2, 3, 4)] == [0, 1, 2, 3, 3]


def test_where_a_round_ended_is_noted_for_each_step_once_people_answer(store):
    history = LabelChanges(store, "comparison")
    one, two, three, four = ask(store, 1, 4)
    say(store, one, labeller=None)
    assert history.last_row(1, 0) == 1
    say(store, two, labeller=None)
    assert history.last_row(1, 0) == 2  # of teachers that are simulated nothing has to be noted
    say(store, three)
    assert history.last_row(1, 0) == 3
    say(store, four)
    assert history.last_row(1, 0) == 3
    assert history.last_row(1, 5) == 4


def test_a_learner_that_follows_in_steps_has_the_standing_answers_at_each(store):
    rng = np.random.default_rng(0)
    history, followed, at, standing = LabelChanges(store, "comparison"), {}, 0, {}
    for round_ in range(1, 40):
        if standing and rng.random() < 0.4:
            store.undo(int(rng.choice(list(standing))))
        elif round_ < 12:
            say(store, *ask(store, round_), rng.choice([*Judgement]))
        standing = {comparison.id: comparison for comparison in store.labels("comparison")}
        if rng.random() < 0.5:
            for change in history.changes(after=at):
                at = change.id
                if isinstance(change, Undone):
                    followed.pop(change.answer, None)
                else:
                    followed[change.id] = change
            assert followed == standing


# -- the learner ------------------------------------------------------------------------------------------------------


def learner(capacity=6, seed=0, features=4):
    return RewardLearner(tiny_reward(buffer=capacity, batch_size=4), Inputs((features,)), 5, seed)


def assert_equal(one, other):
    """What two learners learn from is the same; the moments up to rounding."""
    count = len(other.dataset)
    assert (len(one.dataset), one.dataset.seen) == (count, other.dataset.seen)
    assert all(map(torch.equal, laid_out(one), laid_out(other)))
    assert len(one.dataset.segments) == len(other.dataset.segments) == 2 * count
    for name in ("bags", "held_out"):
        for own, same in zip(getattr(one.dataset, name), getattr(other.dataset, name), strict=True):
            np.testing.assert_array_equal(own, same, err_msg=name)
    np.testing.assert_allclose(one.dataset.moments.sums, other.dataset.moments.sums, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(one.ensemble.input_normaliser.mean, other.ensemble.input_normaliser.mean)
    torch.testing.assert_close(one.ensemble.input_normaliser.std, other.ensemble.input_normaliser.std)


@st.composite
def histories(draw):
    """Rows of a history in batches: comparisons, and those that stand taken back."""
    batches, standing, said = [[]], [], 0
    for row in range(1, 1 + draw(st.integers(1, 30))):
        if standing and draw(st.integers(0, 2)) == 0:
            answer = draw(st.sampled_from(standing))
            standing.remove(answer)
            batches[-1].append(Undone(row, answer))
        else:
            batches[-1].append(Label(row, (2 * said, 2 * said + 1), draw(st.sampled_from([0.0, 0.5, 1.0]))))
            standing.append(row)
            said += 1
        if draw(st.booleans()):
            batches.append([])
    return batches


def net(rows):
    """What stands at the end."""
    rows = list(rows)
    undone = {row.answer for row in rows if isinstance(row, Undone)}
    return [row for row in rows if isinstance(row, Label) and row.id not in undone]


@quick
@given(histories(), st.sampled_from([1, 3, 6, 64]))
def test_a_learner_equals_one_that_saw_only_standing_answers(batches, capacity):
    library, followed, fresh = Library(60), learner(capacity), learner(capacity)
    for batch in batches:
        followed.add(batch, library.read)
    fresh.add(net(itertools.chain(*batches)), library.read)
    if fresh.dataset.seen:
        assert_equal(followed, fresh)
        followed.train(8)
        fresh.train(8)
        for own, same in zip(followed.ensemble.parameters(), fresh.ensemble.parameters(), strict=True):
            torch.testing.assert_close(own, same)
    else:
        assert len(followed.dataset) == 0
        assert (followed.dataset.moments.sums == 0).all()
        assert (followed.ensemble.input_normaliser.std == 1).all()


@quick
@given(histories(), st.integers(0, 30), st.sampled_from([3, 64]))
def test_a_resumed_learner_is_one_that_followed_to_the_last_bit(tmp_path_factory, batches, at, capacity):
    library, through, resumed = Library(60), learner(capacity), None
    for number, batch in enumerate(batches):
        for each in (through, resumed):
            if each is not None:
                each.add(batch, library.read)
                each.train(4)
        if number == at:
            state = through_file(tmp_path_factory.mktemp("state"), through.state_dict())
            resumed = learner(capacity, seed=0)
            resumed.dataset.segments._features.fill_(torch.nan)  # what memory never written may hold
            resumed.load_state_dict(state, net(itertools.chain(*batches[: number + 1])), library.read)
    if resumed is not None:
        assert same_tree(through.state_dict(), resumed.state_dict())
        assert_equal(through, resumed)


def test_an_answer_that_was_undone_leaves_the_held_out_sets_too():
    number = next(n for n in range(1, 100) if multiplicity(0, n, 3).min() == 0 < multiplicity(0, n, 3).max())
    library, followed = Library(4), learner()
    followed.add([Label(number, (0, 1), 1.0), Label(number + 1, (2, 3), 1.0)], library.read)
    followed.add([Undone(number + 2, number)], library.read)
    counts = multiplicity(0, number + 1, 3)
    assert [len(bag) for bag in followed.dataset.bags] == counts.tolist()
    assert [len(out) for out in followed.dataset.held_out] == (counts == 0).tolist()


def test_images_are_given_up_too():
    frames = np.random.default_rng(0).integers(0, 256, (20, 5, 3, 48, 48), dtype=np.uint8)

    def read(number):
        return frames[number], np.zeros(5, np.float32)

    config = tiny_reward(network="cnn", buffer=4, batch_size=2)
    followed, fresh = (RewardLearner(config, Inputs((3, 48, 48)), 5, 0) for _ in range(2))
    said = [Label(n + 1, (2 * n, 2 * n + 1), 1.0) for n in range(8)]
    followed.add([*said, Undone(9, 6), Undone(10, 2)], read)
    fresh.add([comparison for comparison in said if comparison.id not in (6, 2)], read)
    assert torch.equal(laid_out(followed)[0], laid_out(fresh)[0])
    assert torch.equal(laid_out(followed)[0][1, 1], torch.from_numpy(frames[2 * 8 - 1]))  # the newest of six


def test_a_clip_damaged_since_costs_its_own_label_and_no_more():
    library, damaged = Library(40), set()

    def read(segment):
        if segment in damaged:
            raise PrefrlError("damaged")
        return library.read(segment)

    followed, fresh = learner(4), learner(4)
    followed.add(library.comparisons(last=10), read)
    damaged |= {10, 11, 19}  # of comparisons 6, which would come back, and 10, which is given up
    followed.add([Undone(11, 10)], read)
    fresh.add([c for c in library.comparisons(last=9) if c.id != 6], library.read)
    assert [c.id for c in followed.dataset._standing] == [1, 2, 3, 4, 5, 7, 8, 9]
    assert torch.equal(laid_out(followed)[0], laid_out(fresh)[0])
    assert torch.isfinite(followed.ensemble.input_normaliser.mean).all()


# -- in the agent's process -------------------------------------------------------------------------------------------


def inline(tmp_path, store):
    for kept in POOL:
        ClipFolder(tmp_path).save(kept)
    config = resolve("hopper", settings={"queries.segment_length": 5})
    run = SimpleNamespace(clips=tmp_path, weights=tmp_path / "weights", config=config)
    made = RewardLearner(tiny_reward(comparisons_per_step=0.1), Inputs((3,)), 5, 0)
    return InlineLearner(run, store, made)


def test_left_learned_taken_back_right_is_one_label_right(tmp_path, store):
    worker = inline(tmp_path, store)
    queries = ask(store, 1, 4)
    for query in queries:
        say(store, query)
    worker.fit(0, 1)
    store.undo(4)
    say(store, queries[3], RIGHT)
    worker.fit(100, 2)
    assert store.counts()["answered"] == worker.metrics["comparisons"] == 4
    assert worker._learner.dataset.target[:4].tolist() == [1, 1, 1, 0]
    assert [c.id for c in worker._learner.dataset._standing] == [1, 2, 3, 6]


MOVES = st.lists(st.sampled_from(["ask", "undo", "again", "learn", "learn"]), min_size=6, max_size=40)


@quick
@given(MOVES, st.integers(0, 8))
def test_a_synchronous_run_that_went_back_learns_what_it_had_learned(tmp_path_factory, moves, at):
    """People take answers back whenever they like: after a round's learning, and while the next is not asked yet."""
    tmp_path = tmp_path_factory.mktemp("run")
    store, rng = LabelStore(tmp_path / "labels.sqlite", create=True), np.random.default_rng(len(moves))
    worker, round_, states = inline(tmp_path, store), 0, []
    open_ids = []
    for move in moves:
        standing = store.labels("comparison")
        if move == "ask" and round_ < 10:
            open_ids = [pending[0] for pending in store.pending()]
            for query in (*open_ids, *ask(store, round_ := round_ + 1)):
                say(store, query, rng.choice(["left", "right"]))
        elif move == "undo" and standing:
            store.undo(standing[-1].id)
        elif move == "again":
            for pending in store.pending():
                say(store, pending[0], RIGHT)
        elif move == "learn" and (not states or states[-1][0] < round_):
            worker.fit(1000 * round_, round_)
            states.append((round_, through_file(tmp_path, worker.state_dict())))
    if at < len(states):
        replayed = inline(tmp_path, store)
        replayed.load_state_dict(states[at][1])
        for learned, state in states[at + 1 :]:
            replayed.fit(1000 * learned, learned)
            assert same_tree(through_file(tmp_path, replayed.state_dict()), state)
    store.close()


def test_rows_of_later_rounds_are_followed_later_and_none_is_passed_over(tmp_path, store):
    """An answer of round 1 that came after those of round 2, in a run that goes back to round 1."""
    worker = inline(tmp_path, store)
    (first,) = ask(store, 1)
    say(store, first, labeller=None)
    say(store, *ask(store, 2), labeller=None)
    store.undo(1)
    say(store, first, RIGHT, labeller=None)
    worker.fit(0, 1)
    assert [c.id for c in worker._learner.dataset._standing] == [1]
    worker.fit(100, 2)
    assert [c.id for c in worker._learner.dataset._standing] == [2, 4]


# -- in a process of its own ------------------------------------------------------------------------------------------


def test_the_learner_s_own_process_follows_without_a_resume(tmp_path):
    settings = {"queries.segment_length": 5, "reward.pretrain_comparisons": 32, "reward.batch_size": 8}
    run = RunDirectory.create(tmp_path / "run", resolve("hopper", settings=settings))
    store = LabelStore(run.labels, create=True)
    for kept in POOL:
        ClipFolder(run.clips).save(kept)
    queries = ask(store, 1, 4)
    for query in queries:
        say(store, query)
    run.saved.save(0, {"agent": {}})
    reader, writer = multiprocessing.Pipe(duplex=False)
    working = threading.Thread(target=learn_until, args=(Orders(reader), run, Inputs((3,)), "cpu"))
    working.start()

    def published(comparisons):
        return lambda: run.weights.exists() and load_tree(run.weights)["metrics"]["comparisons"] == comparisons

    try:
        until(published(4), "four comparisons to be learned from")
        store.undo(4)
        writer.send(1000)
        until(published(3), "three comparisons to be learned from")
        say(store, queries[3], RIGHT)
        writer.send(2000)
        until(published(4), "four comparisons again")
    finally:
        writer.send(None)
        working.join(60)
    assert not working.is_alive()
    resumed = RewardLearner(run.config.reward, Inputs((3,)), 5, run.config.seed)
    state = load_tree(run.learner_state)
    resumed.load_state_dict(
        state,
        LabelChanges(store, "comparison").changes(upto=state["counters"]["last_id"]),
        clip_reader(ClipFolder(run.clips)),
    )
    assert resumed.dataset.target[:4].tolist() == [1, 1, 1, 0]
    store.close()
