from collections import deque

import numpy as np
import pytest
import sqlalchemy as sa
import torch
from helpers import same_segment, segment, through_file, tiny_reward

from prefrl.config import QueryConfig, RunConfig
from prefrl.experience.clips import ClipFolder
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds.comparison import Judgement, judge
from prefrl.feedback.kinds.simulation import TeacherConfiguration
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.selection import asker as asker_module
from prefrl.selection.asker import Asker
from prefrl.teachers import make_teacher

STEPS, LABELS, STRIDE = 1000, 24, 100


def exact(query):
    """The oracle's judgement."""
    return judge(
        query.segments[0].true_rewards, query.segments[1].true_rewards, TeacherConfiguration(), 0.0, np.ones(2)
    )


class Moody:
    """A teacher who says "can't tell" at random and may take their time."""

    def __init__(self, seed=0, incomparable=0.3, delay=0):
        self._rng, self._incomparable, self._delay = np.random.default_rng(seed), incomparable, delay
        self._waiting, self._clock = [], 0
        self.asked = []

    def submit(self, queries):
        for query_id, query in queries.items():
            self.asked.append((query_id, query))
            doubt = self._rng.random() < self._incomparable
            said = Judgement.INCOMPARABLE if doubt else exact(query)
            answer = Answer(query_id, said, "moody", query.agent_step)
            self._waiting.append((self._clock + self._rng.integers(0, self._delay + 1), answer))

    def collect(self):
        self._clock += 1
        ready = [answer for due, answer in self._waiting if due < self._clock]
        self._waiting = [entry for entry in self._waiting if entry[0] >= self._clock]
        return ready


class Worker:
    """A reward learner that is pretrained, and learns nothing."""

    def __init__(self, ready=True):
        torch.manual_seed(0)
        self.ensemble, self.ready, self.metrics, self.calls = RewardEnsemble(tiny_reward(), Inputs((3,))), ready, {}, []

    def fit(self, agent_step, max_round):
        self.calls.append((agent_step, max_round))


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(asker_module, "_POLL_SECONDS", 0)


class Bench:
    """An asker with a store, clips, and a pool that grows by four segments every hundred steps."""

    def __init__(self, folder, teacher, *, mode="sync", worker=None, grow=4, shift=0, seed=0, **queries):
        folder.mkdir(exist_ok=True)
        queries = {"labels": LABELS, "segment_length": 3, "pool": 60} | queries
        config = RunConfig("t", "t", mode=mode, seed=seed, steps=STEPS, queries=QueryConfig(**queries))
        self.store = LabelStore(folder / "labels.sqlite", create=True)
        self.clips = ClipFolder(folder)
        self.pool = deque(maxlen=config.queries.pool)
        self.teacher, self.grow, self.shift, self.next = teacher, grow, shift, 0
        self.worker = worker or Worker()
        self.asker = Asker(config, self.store, self.clips, self.pool, teacher, self.ensemble)

    def ensemble(self):
        return self.worker.ensemble if self.worker.ready else None

    def record(self, count):
        for _ in range(count):
            number = self.next
            rewards = np.random.default_rng(number).integers(0, 3, size=3)  # ties are common
            self.pool.append(segment(number, rewards, seed=number + self.shift))
            self.next += 1

    def begin(self, spare=0):
        self.asker.sync_with_store()
        self.record(self.asker.initial_segments + spare)
        self.waits = 0
        self.asker.settle(0, lambda: self.asker.config.queries.initial_labels, self.wait)

    def wait(self, counts):
        self.waits += 1
        assert self.waits < 1000, f"waits for good: {counts}"

    def play(self, first=STRIDE, last=STEPS, check=None):
        self.waits = 0
        for step in range(first, last + 1, STRIDE):
            self.record(self.grow)
            self.asker.ask(step, self.wait, last=step == STEPS)
            self.worker.fit(step, self.asker.replayed_round)
            if check:
                check(step)

    def finish(self):
        pass

    def close(self):
        self.store.close()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("incomparable", [0.0, 0.3, 0.8])
def test_the_budget_is_met_exactly_at_every_round(tmp_path, seed, incomparable):
    bench = Bench(tmp_path, Moody(seed, incomparable))
    bench.begin(spare=20)
    assert bench.store.counts()["answered"] == 6  # a quarter

    def exact(step):
        assert bench.store.counts()["answered"] == bench.asker.due(step)
        assert bench.store.counts()["pending"] == 0

    bench.play(check=exact)
    counts = bench.store.counts()
    assert counts["answered"] == LABELS
    assert counts["left"] + counts["right"] + counts["equal"] == LABELS
    assert (counts["incomparable"] > 0) == (incomparable > 0)
    assert len(bench.store.labels("comparison")) == LABELS
    bench.close()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_slow_teacher_is_never_asked_for_more_than_is_due_and_the_budget_is_met_at_the_end(tmp_path, seed):
    bench = Bench(tmp_path, Moody(seed, 0.4, delay=6), mode="async")
    bench.begin()
    waited = []

    def within(step):
        counts = bench.store.counts()
        waited.append(counts["pending"])
        assert counts["answered"] + counts["pending"] <= bench.asker.due(step)

    bench.play(check=within)
    assert max(waited[:-1]) > 0
    assert bench.store.counts()["answered"] == LABELS
    assert bench.store.counts()["pending"] == 0
    bench.close()


def test_no_pair_is_asked_twice_and_none_is_of_one_segment(tmp_path):
    bench = Bench(tmp_path, Moody(0, 0.5), grow=0)
    bench.begin(spare=6)
    bench.play()
    pairs = [frozenset((query.segments[0].id, query.segments[1].id)) for _, query in bench.teacher.asked]
    assert all(len(pair) == 2 for pair in pairs)
    assert len(set(pairs)) == len(pairs) > LABELS
    bench.close()


def test_a_pool_without_new_pairs_ends_the_asking(tmp_path):
    bench = Bench(tmp_path, Moody(0, 0.0), grow=0, pool=5)
    bench.begin()
    bench.play()
    assert bench.store.counts()["answered"] == 10  # all the pairs of five segments
    bench.close()


def test_a_teacher_that_never_answers_does_not_hang_the_run(tmp_path):
    bench = Bench(tmp_path, Moody(0, 1.0), grow=0, pool=6)
    bench.begin()
    assert bench.store.counts()["answered"] == 0
    assert bench.store.counts()["incomparable"] == 15
    bench.close()


def test_a_quarter_of_the_labels_is_due_before_training_and_the_schedule_spans_the_run(tmp_path):
    bench = Bench(tmp_path, Moody(), labels=700)
    assert [bench.asker.due(step) for step in (0, 50, 100, 250, 500, 1000)] == [175, 263, 326, 449, 567, 700]
    bench.close()


def test_initial_queries_are_uniform_and_later_ones_of_the_highest_variance(tmp_path):
    worker = Worker(ready=False)
    bench = Bench(tmp_path, Moody(0, 0.0), worker=worker, candidate_factor=1000)
    seen = []
    real = worker.ensemble.predict_preferences
    worker.ensemble.predict_preferences = lambda pool, pairs: (seen.append((pairs, real(pool, pairs))), seen[-1][1])[1]
    bench.begin()
    assert seen == []
    worker.ready = True
    bench.record(3)
    bench.asker.settle(500, lambda: 10, bench.wait)
    ((pairs, predicted),) = seen
    best = np.argsort(-predicted.var(axis=0), kind="stable")[:4]
    expected = [tuple(bench.pool[place].id for place in pairs[index]) for index in best]
    assert [(query.segments[0].id, query.segments[1].id) for _, query in bench.teacher.asked[6:]] == expected
    bench.close()


def test_random_selection_never_asks_the_ensemble(tmp_path):
    worker = Worker()
    worker.ensemble.predict_preferences = None
    bench = Bench(tmp_path, Moody(), worker=worker, selection="random")
    bench.begin()
    bench.play(last=200)
    assert bench.store.counts()["answered"] == bench.asker.due(200)
    bench.close()


def test_every_segment_asked_about_is_kept_as_a_clip(tmp_path):
    bench = Bench(tmp_path, Moody())
    bench.begin()
    for _, query in bench.teacher.asked:
        for side in (query.segments[0], query.segments[1]):
            assert same_segment(bench.clips.load(side.id), side)
    bench.close()


def test_queries_know_their_round_rank_and_step(tmp_path):
    bench = Bench(tmp_path, Moody(0, 0.0))
    bench.begin()
    bench.play(last=200)
    rounds = {}
    for _, query in bench.teacher.asked:
        rounds.setdefault((query.round, query.agent_step), []).append(query.rank)
    assert [step for _, step in rounds] == [0, 100, 200]
    assert [number for number, _ in rounds] == sorted({number for number, _ in rounds})
    assert all(ranks == list(range(len(ranks))) for ranks in rounds.values())
    bench.close()


def test_waiting_may_stop_the_run(tmp_path):
    def stop(counts):
        raise InterruptedError(f"{counts['pending']} pending")

    teacher = Moody()
    teacher.collect = list
    bench = Bench(tmp_path, teacher)
    bench.asker.sync_with_store()
    bench.record(20)
    with pytest.raises(InterruptedError, match="10 pending"):
        bench.asker.settle(0, lambda: 10, stop)
    bench.close()


def labels(store):
    return store.labels("comparison")


class Silent(Moody):
    """A teacher who must not be asked anything."""

    def submit(self, queries):
        assert not queries


def roll_back(tmp_path, teacher, *, at, shift=0, mode="sync", exact=True, first_teacher=None, last=STEPS):
    """A whole run, then the same run taken up again from its state at a step; gives both benches."""
    first = Bench(tmp_path, first_teacher or Moody(3, 0.3), mode=mode)
    first.begin()
    saved = {}

    def save(step):
        if step == at:
            saved["asker"] = through_file(tmp_path, first.asker.state_dict())
            saved["pool"], saved["next"] = list(first.pool), first.next

    first.play(check=save, last=last)
    again = Bench(tmp_path, teacher, mode=mode, shift=shift)
    again.pool.extend(saved["pool"])
    again.next = max(saved["next"], again.asker.load_state_dict(saved["asker"], exact=exact))
    return first, again


@pytest.mark.parametrize("at", [100, 500, 900])
def test_a_synchronous_run_that_went_back_finds_its_old_answers_and_asks_nothing(tmp_path, at):
    first, again = roll_back(tmp_path, Silent(), at=at)
    before, rounds = labels(first.store), first.asker.round
    due = []
    again.play(
        first=at + STRIDE, check=lambda step: due.append(again.asker.counts["answered"] == again.asker.due(step))
    )
    assert all(due)
    assert labels(again.store) == before
    assert again.asker.round == rounds
    assert (
        len(again.store.asked("comparison")) == again.store.counts()["answered"] + again.store.counts()["incomparable"]
    )
    for bench in (first, again):
        bench.close()


@pytest.mark.parametrize("at", [100, 500])
def test_a_synchronous_run_killed_before_an_answer_was_stored_asks_that_query_again(tmp_path, at):
    class Killed(Moody):
        def collect(self):
            if self.asked and self.asked[-1][1].agent_step > at:
                raise KeyboardInterrupt
            return super().collect()

    first = Bench(tmp_path, Killed(3, 0.0))
    first.begin()
    first.play(last=at)
    saved, pool, free = through_file(tmp_path, first.asker.state_dict()), list(first.pool), first.next
    with pytest.raises(KeyboardInterrupt):
        first.play(first=at + STRIDE)
    unanswered = [row[0] for row in first.store.pending()]
    assert unanswered
    again = Bench(tmp_path, Moody(3, 0.0))
    again.pool.extend(pool)
    again.next = max(free, again.asker.load_state_dict(saved, exact=True))
    again.play(first=at + STRIDE)
    assert again.store.counts()["answered"] == LABELS
    assert again.store.counts()["pending"] == 0
    assert [number for number, _ in again.teacher.asked][: len(unanswered)] == unanswered
    for bench in (first, again):
        bench.close()


def test_a_synchronous_run_that_went_back_does_not_see_labels_of_its_future(tmp_path):
    first, again = roll_back(tmp_path, Silent(), at=200)
    assert again.store.counts()["answered"] == LABELS
    assert again.asker.counts["answered"] == again.asker.due(200)
    assert again.asker.replayed_round == again.asker.round
    for bench in (first, again):
        bench.close()


@pytest.mark.parametrize("last", [400, STEPS])
def test_a_run_that_continues_differently_after_going_back_keeps_all_labels_and_meets_the_budget(tmp_path, last):
    first, again = roll_back(tmp_path, Moody(9, 0.3), at=200, shift=1000, last=last)
    before = labels(first.store)
    clips = {left: first.clips.load(left) for _, (left, _), _ in before}
    again.play(first=300)
    assert labels(again.store)[: len(before)] == before
    for number, kept in clips.items():
        assert same_segment(again.clips.load(number), kept)
    assert again.store.counts()["answered"] == LABELS
    for bench in (first, again):
        bench.close()


@pytest.mark.parametrize(("mode", "exact"), [("async", True), ("async", False), ("sync", False)])
def test_any_other_run_keeps_its_later_labels_and_continues_after_them(tmp_path, mode, exact):
    first, again = roll_back(tmp_path, Moody(9, 0.3), at=200, mode=mode, exact=exact, last=400)
    before = labels(first.store)
    assert again.asker.counts["answered"] == len(before)
    assert again.next > again.store.last_segment()
    asked = again.store.asked("comparison")
    again.play(first=300)
    assert labels(again.store)[: len(before)] == before
    assert again.store.counts()["answered"] == LABELS
    new = [tuple(sorted((query.segments[0].id, query.segments[1].id))) for _, query in again.teacher.asked]
    assert not set(new) & asked
    assert len(set(new)) == len(new)
    for bench in (first, again):
        bench.close()


def unanswered(folder, count, **queries):
    """A run that asked about so many pairs of twenty segments, and was told nothing yet."""
    never = Moody()
    never.collect = list
    bench = Bench(folder, never, mode="async", **queries)
    bench.asker.sync_with_store()
    bench.record(20)
    bench.asker.ask_once(0, count)
    return bench


def test_queries_that_were_open_when_the_run_stopped_are_put_again_from_the_clips(tmp_path):
    first = unanswered(tmp_path, 10)
    asked = dict(first.teacher.asked)
    again = Bench(tmp_path, Moody(0, 0.0), mode="async")
    free = again.asker.sync_with_store()
    assert free == first.store.last_segment() + 1
    assert {number for number, _ in again.teacher.asked} == set(asked)
    for number, query in again.teacher.asked:
        assert (query.round, query.rank) == (asked[number].round, asked[number].rank)
        assert (query.kind, query.agent_step) == (asked[number].kind, asked[number].agent_step)
        for side, original in (
            (query.segments[0], asked[number].segments[0]),
            (query.segments[1], asked[number].segments[1]),
        ):
            assert same_segment(side, original)
    assert again.store.counts()["answered"] == 10
    for bench in (first, again):
        bench.close()


def test_queries_that_are_put_again_are_judged_as_they_would_have_been(tmp_path):
    """Each meets a chance of its own, whichever of them were open when the run stopped."""
    first = unanswered(tmp_path, 30, labels=40)
    teacher = make_teacher("boltzmann", 0, lambda: None)
    teacher.submit(dict(first.teacher.asked))
    expected = {answer.query_id: answer.value for answer in teacher.collect()}
    again = Bench(tmp_path, make_teacher("boltzmann", 0, lambda: None), mode="async", labels=40)
    again.asker.sync_with_store()
    with again.store.database.read() as connection:
        rows = connection.execute(sa.text("SELECT query_id, judgement FROM labels")).all()
    assert {row[0]: row[1] for row in rows} == {number: judgement.value for number, judgement in expected.items()}
    for bench in (first, again):
        bench.close()


def test_an_open_query_with_a_damaged_clip_is_withdrawn_and_another_asked(tmp_path):
    first = unanswered(tmp_path, 10)
    broken = min(first.teacher.asked)[0]
    clip = first.clips.file(dict(first.teacher.asked)[broken].segments[0].id)
    clip.write_bytes(clip.read_bytes()[:50])
    again = Bench(tmp_path, Moody(0, 0.0), mode="async")
    again.asker.sync_with_store()
    assert broken not in {number for number, _ in again.teacher.asked}
    assert any(clip.name in problem for problem in LabelQueue(again.store).problems())
    again.next = 20
    again.record(20)
    again.asker.ask_once(0, 10)
    assert again.store.counts()["answered"] == 10
    for bench in (first, again):
        bench.close()


def test_people_may_be_behind_less_and_less_towards_the_end(tmp_path):
    bench = unanswered(tmp_path, LABELS // 4, lead=LABELS // 2)

    class Waits(Exception):  # noqa: N818
        pass

    def waiting(counts):
        raise Waits

    bench.asker.wait_for_people(0, waiting)  # a quarter of the labels is due, and half of them may be missing
    with pytest.raises(Waits):
        bench.asker.wait_for_people(STEPS - 1, waiting)
    bench.close()


def test_the_same_seed_asks_the_same(tmp_path):
    def asked(name):
        bench = Bench(tmp_path / name, Moody(1, 0.3))
        bench.begin()
        bench.play(last=300)
        bench.close()
        return [(number, query.segments[0].id, query.segments[1].id) for number, query in bench.teacher.asked]

    assert asked("one") == asked("other")


def test_which_pairs_are_asked_depends_on_the_run_s_seed(tmp_path):
    """Else runs of several seeds ask about the same places of their pools: fewer experiments than they seem."""
    asked = []
    for folder, seed in (("a", 0), ("b", 1), ("c", 0)):
        bench = Bench(tmp_path / folder, Moody(incomparable=0), seed=seed)
        bench.begin(spare=40)
        asked.append([(query.segments[0].id, query.segments[1].id) for _, query in bench.teacher.asked])
        bench.close()
    assert asked[0] == asked[2] != asked[1]
