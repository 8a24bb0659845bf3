"""The asker meets the budget on its schedule, and asks about pairs as its rule says."""

import contextlib
from types import SimpleNamespace

import numpy as np
import pytest
from asker_bench import LABELS, STEPS, Bench, Moody, Worker, unanswered
from helpers import same_segment

from prefrl.config import replace
from prefrl.feedback.terms import JUDGE
from prefrl.selection import asker as asker_module


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(asker_module, "_POLL_SECONDS", 0)


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


def test_the_schedule_has_as_many_bins_as_are_set(tmp_path):
    """Two, with rates of 1 and 100 / (500 + 100): 525 labels are due after the first 175, 6/7 of them by half time."""
    bench = Bench(tmp_path, Moody(), labels=700, schedule_bins=2)
    assert [bench.asker.due(step) for step in (0, 250, 500, 750, 1000)] == [175, 400, 625, 662, 700]
    bench.close()


def test_the_schedule_begins_when_exploration_ends(tmp_path):
    """Half of the run later, as far from its end: 175 + floor(525 ln(1 + T/100) / ln 6) labels at T = 0, 50, 250."""
    bench = Bench(tmp_path, Moody(), labels=700)
    bench.asker.config = replace(bench.asker.config, {"exploration.steps": 500})
    assert [bench.asker.due(step) for step in (0, 500, 550, 750, 1000)] == [175, 175, 293, 542, 700]
    bench.close()


def test_the_schedule_begins_at_once_if_imported_labels_leave_nothing_to_explore_for(tmp_path):
    bench = Bench(tmp_path, Moody(), labels=700)
    bench.asker.config = replace(bench.asker.config, {"exploration.steps": 500})
    bench.asker._imported = 175
    assert [bench.asker.due(step) for step in (0, 50, 100, 1000)] == [175, 263, 326, 700]
    bench.close()


@pytest.mark.parametrize("skips_count", [False, True])
def test_what_a_judge_could_not_tell_is_spent_once(tmp_path, monkeypatch, skips_count):
    bench = Bench(tmp_path, Moody())
    said = {None: {"left": 5, "incomparable": 3, "answered": 5, "pending": 1}}
    said[JUDGE] = said[None] | {"incomparable": 2, "pending": 1}
    monkeypatch.setattr(bench.store, "counts", lambda upto, teacher=None: said[teacher])
    bench.asker._has_judge, bench.asker._skips_count = True, skips_count
    assert bench.asker.counts["spent"] == (8 if skips_count else 7)  # a person said the third
    bench.close()


@pytest.mark.parametrize(("labels", "pool", "segments"), [(24, 60, 6), (24, 4, 4), (4, 60, 3), (4, 2, 2)])
def test_a_segment_for_each_initial_label_is_recorded_but_at_least_three_and_no_more_than_are_kept(
    tmp_path, labels, pool, segments
):
    bench = Bench(tmp_path, Moody(), labels=labels, pool=pool)
    assert bench.asker.initial_segments == segments
    bench.close()


def test_candidates_are_as_many_for_each_query_as_are_set(tmp_path):
    worker, seen = Worker(ready=False), []
    real = worker.ensemble.predict_preferences
    worker.ensemble.predict_preferences = lambda pool, pairs: (seen.append(len(pairs)), real(pool, pairs))[1]
    bench = Bench(tmp_path, Moody(0, 0.0), worker=worker, candidate_factor=2)
    bench.begin(spare=3)
    worker.ready = True
    bench.asker.settle(500, lambda: 10, bench.wait)
    assert seen == [2 * 4]  # of the 36 pairs of nine segments, 30 of which were not asked yet
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
    assert list(rounds) == [(1, 0), (2, 100), (3, 200)]
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


def test_it_pauses_between_two_looks_at_the_answers(tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(asker_module, "_POLL_SECONDS", 0.25)
    monkeypatch.setattr(asker_module, "time", SimpleNamespace(sleep=pauses.append))
    bench = Bench(tmp_path, Moody(0, 0.0, delay=6))
    bench.begin()
    assert pauses == [0.25] * bench.waits != []
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


@pytest.mark.parametrize(("spare", "waits"), [(0, False), (-1, True)])
def test_people_may_be_behind_by_half_of_the_lead_at_half_time(tmp_path, spare, waits):
    """Nothing was answered, so that all that is due by then is missing: 6 + floor(18 ln 6 / ln 11) = 19 labels."""
    bench = unanswered(tmp_path, 6, lead=2 * 19 + spare)
    assert bench.asker.due(500) == 19

    class Waits(Exception):  # noqa: N818
        pass

    def waiting(counts):
        raise Waits

    with pytest.raises(Waits) if waits else contextlib.nullcontext():
        bench.asker.wait_for_people(500, waiting)
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
