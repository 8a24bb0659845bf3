from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from helpers import quick, segment, segments
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from prefrl.selection.rules import RULES, Candidates, choose, disagreement, draw_queries, newest, uncertainty


def ordered(pairs):
    return [(min(a, b), max(a, b)) for a, b in pairs]


def key(pairs):
    return ordered((left.id, right.id) for left, right in pairs)


@quick
@given(st.integers(2, 60), st.integers(1, 300), st.integers(0, 10_000))
def test_drawn_pairs_are_distinct_and_never_of_one_segment(count, wanted, seed):
    pairs = draw_queries(np.random.default_rng(seed), count, wanted)
    assert len(pairs) == min(wanted, count * (count - 1) // 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    assert pairs.min() >= 0
    assert pairs.max() < count
    assert len(set(ordered(pairs.tolist()))) == len(pairs)


@pytest.mark.parametrize("arity", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 17])
def test_every_set_of_segments_can_be_drawn(count, arity):
    every = set(combinations(range(count), arity))
    drawn = draw_queries(np.random.default_rng(0), count, len(every) + 1, arity)
    assert drawn.shape == (len(every), arity)
    assert {tuple(sorted(query)) for query in drawn.tolist()} == every


@pytest.mark.parametrize("arity", [1, 3])
def test_sets_of_segments_are_drawn_uniformly_and_in_any_order(arity):
    rng, counts = np.random.default_rng(3), Counter()
    for _ in range(6000):
        counts[tuple(draw_queries(rng, 5, 1, arity)[0].tolist())] += 1
    every = list(permutations(range(5), arity))  # 5, or 60 with 100 expected of each
    assert counts.keys() == set(every)
    assert stats.chisquare([counts[query] for query in every]).pvalue > 0.01


def test_single_segments_are_asked_about_once_the_ones_of_highest_variance_first():
    spread = np.random.default_rng(0).permutation(40) / 40

    def predict(pool, queries):
        assert queries.shape == (39, 1)
        return np.stack([0.5 - spread[queries[:, 0]] / 2, 0.5 + spread[queries[:, 0]] / 2])

    chosen = choose(segments(40), 6, np.random.default_rng(1), arity=1, asked={(7,)}, predict=predict)
    best = [number for number in np.argsort(-spread).tolist() if number != 7]
    assert [(query.id,) for (query,) in chosen] == [(number,) for number in best[:6]]


def test_pairs_are_drawn_uniformly():
    rng = np.random.default_rng(3)
    counts = np.zeros((6, 6))
    for _ in range(3000):
        ((a, b),) = draw_queries(rng, 6, 1)
        counts[a, b] += 1
    off_diagonal = counts[~np.eye(6, dtype=bool)]  # 30 ordered pairs, 100 expected of each
    assert stats.chisquare(off_diagonal).pvalue > 0.01


def test_segments_are_drawn_uniformly_on_either_side_when_many_pairs_are_drawn():
    rng = np.random.default_rng(4)
    pairs = np.concatenate([draw_queries(rng, 20, 19) for _ in range(200)])
    for side in (0, 1):
        assert stats.chisquare(np.bincount(pairs[:, side], minlength=20)).pvalue > 0.01


def test_the_earlier_segment_is_on_the_left_half_the_time():
    pairs = draw_queries(np.random.default_rng(5), 100, 2000)
    assert stats.binomtest(int((pairs[:, 0] < pairs[:, 1]).sum()), len(pairs)).pvalue > 0.01


def test_the_first_pairs_drawn_are_not_those_of_the_first_segments():
    firsts = [draw_queries(np.random.default_rng(seed), 30, 100)[0].min() for seed in range(100)]
    assert 5 < np.mean(firsts) < 14  # the smaller of two of 0 … 29 is 9.67 on average


def test_disagreement_is_the_variance_between_members():
    probabilities = np.array([[0.2, 0.5, 1.0], [0.6, 0.5, 0.0], [0.7, 0.5, 1.0]])
    np.testing.assert_allclose(disagreement(probabilities), [0.14 / 3, 0, 2 / 9], atol=1e-12)


def test_uncertainty_is_the_mean_entropy_of_the_members_predictions():
    probabilities = np.array([[0.5, 1.0, 0.25], [0.5, 0.0, 0.25]])
    # 0.25 ln 4 + 0.75 ln (4 / 3) = 0.5623
    np.testing.assert_allclose(uncertainty(probabilities), [np.log(2), 0.0, 0.5623351], atol=1e-7)


@pytest.mark.parametrize(("rule", "best"), [("variance", (0, 2)), ("entropy", (0, 1))])
def test_a_rule_decides_which_pair_is_worth_most(rule, best):
    def predict(clips, pairs):
        sure = {(0, 1): (0.5, 0.5), (0, 2): (0.0, 1.0), (1, 2): (0.9, 0.9)}
        return np.array([sure[pair] for pair in ordered(pairs.tolist())]).T

    rng = np.random.default_rng(0)
    assert key(choose(segments(3), 1, rng, predict=predict, rule=RULES[rule])) == [best]


@quick
@given(st.integers(0, 25), st.integers(0, 60), st.integers(0, 1000), st.booleans())
def test_chosen_pairs_are_new_and_distinct(count, wanted, seed, by_variance):
    pool = segments(count)
    rng = np.random.default_rng(seed)
    every = {(a, b) for b in range(count) for a in range(b)}
    asked = {pair for pair in every if rng.random() < 0.3}

    def predict(_, pairs):
        return rng.random((3, len(pairs)))

    chosen = choose(pool, wanted, rng, asked=asked, predict=predict if by_variance else None)
    assert len(chosen) == min(wanted, len(every - asked))
    assert len(set(key(chosen))) == len(chosen)
    assert set(key(chosen)) <= every - asked


def test_asked_pairs_are_known_by_segment_ids_not_by_places():
    pool = [segment(number) for number in (40, 7, 23)]
    chosen = choose(pool, 9, np.random.default_rng(0), asked={(7, 40), (7, 23)})
    assert key(chosen) == [(23, 40)]


@quick
@given(st.sets(st.integers(-(2**31), 2**31 - 1) | st.integers(-3, 3), min_size=2, max_size=8), st.randoms())
def test_a_pair_is_fresh_unless_it_was_asked_whatever_its_segments_ids(ids, random):
    """Imported segments have negative ids: (-3, -1) and (-2, -1) are two pairs."""
    pool = [segment(number, seed=0) for number in sorted(ids)]
    every = set(ordered((a.id, b.id) for a in pool for b in pool if a.id < b.id))
    asked = set(random.sample(sorted(every), random.randrange(len(every) + 1)))
    assert set(key(choose(pool, 99, np.random.default_rng(0), asked=asked))) == every - asked


def test_the_candidates_of_highest_variance_are_chosen_best_first():
    seen = {}

    def predict(pool, pairs):
        scores = np.random.default_rng(11).random(len(pairs))
        for (a, b), score in zip(pairs.tolist(), scores, strict=True):
            seen[min(pool[a].id, pool[b].id), max(pool[a].id, pool[b].id)] = score
        return np.stack([0.5 - scores / 2, 0.5 + scores / 2])

    chosen = choose(segments(40), 7, np.random.default_rng(1), predict=predict)
    assert len(seen) == 70  # ten times as many candidates
    assert key(chosen) == sorted(seen, key=seen.get, reverse=True)[:7]


def test_candidates_are_still_ten_times_as_many_after_most_pairs_were_asked():
    pool = segments(30)
    asked = {(a, b) for b in range(30) for a in range(b) if (a + b) % 3}
    sizes = []

    def predict(_, pairs):
        sizes.append(len(pairs))
        return np.zeros((3, len(pairs)))

    choose(pool, 5, np.random.default_rng(0), asked=asked, predict=predict)
    assert sizes == [50]


def test_the_number_of_candidates_can_be_set():
    sizes = []

    def predict(_, pairs):
        sizes.append(len(pairs))
        return np.zeros((2, len(pairs)))

    choose(segments(40), 4, np.random.default_rng(0), candidate_factor=3, predict=predict)
    assert sizes == [12]


def watched(calls):
    def predict(pool, pairs):
        calls.append({pool[place].id for place in pairs.ravel()})
        return np.random.default_rng(0).random((3, len(pairs)))

    return predict


def test_candidates_may_be_drawn_among_fewer_clips_all_alike():
    calls = []
    for seed in range(400):
        found = choose(segments(40), 3, np.random.default_rng(seed), candidate_clips=4, predict=watched(calls))
        assert len(key(found)) == len(set(key(found))) == 3
    assert {len(used) for used in calls} <= set(range(9, 13))  # thirty pairs of twelve clips
    often = np.bincount([number for used in calls for number in used], minlength=40)
    assert stats.chisquare(often).pvalue > 1e-3


def test_a_single_query_has_its_ten_candidates_among_few_clips():
    calls = []

    def predict(pool, pairs):
        calls.append(len(pairs))
        return np.random.default_rng(0).random((3, len(pairs)))

    assert len(choose(segments(40), 1, np.random.default_rng(0), candidate_clips=2, predict=predict)) == 1
    assert calls == [10]


def test_where_few_clips_have_no_new_pairs_all_are_drawn_from():
    pool = segments(9)
    every = {(a, b) for b in range(9) for a in range(b)}
    left = {(0, 1), (2, 3), (7, 8)}
    rng = np.random.default_rng(0)
    found = choose(pool, 3, rng, asked=every - left, candidate_clips=2, predict=watched([]))
    assert set(key(found)) == left


def test_left_and_right_are_kept_as_they_were_scored():
    def predict(pool, pairs):
        return np.stack([np.zeros(len(pairs)), (pairs[:, 0] < pairs[:, 1]).astype(float)])

    chosen = choose(segments(40), 10, np.random.default_rng(0), predict=predict)
    assert all(left.id < right.id for left, right in chosen)


def test_choice_by_variance_puts_either_segment_on_the_left():
    def predict(_, pairs):
        return np.random.default_rng(2).random((3, len(pairs)))

    chosen = choose(segments(80), 200, np.random.default_rng(6), predict=predict)
    lefts = sum(left.id < right.id for left, right in chosen)
    assert stats.binomtest(lefts, len(chosen)).pvalue > 0.01


def test_nothing_is_chosen_from_less_than_two_segments_or_for_no_pairs():
    rng = np.random.default_rng(0)
    assert choose([], 5, rng) == []
    assert choose(segments(1), 5, rng) == []
    assert choose(segments(9), 0, rng) == []


def test_the_same_seed_chooses_the_same():
    def predict(_, pairs):
        return np.stack([pairs[:, 0] % 3, pairs[:, 1] % 5]) / 5

    one, other = (choose(segments(20), 6, np.random.default_rng(9), predict=predict) for _ in range(2))
    assert [(a.id, b.id) for a, b in one] == [(a.id, b.id) for a, b in other]


def test_candidates_of_few_clips_are_as_many_as_is_set_and_of_eight_clips_at_least():
    used, sizes = [], set()

    def predict(pool, pairs):
        used.append({pool[place].id for place in pairs.ravel()})
        sizes.add(len(pairs))
        return np.zeros((2, len(pairs)))

    for seed in range(20):
        rng = np.random.default_rng(seed)
        choose(segments(40), 1, rng, candidate_factor=25, candidate_clips=2, predict=predict)
    assert sizes == {25}
    assert {len(clips) for clips in used} == {8}


def test_where_all_that_is_left_is_asked_nothing_is_predicted():
    def predict(_, pairs):
        raise AssertionError("there is no choice")

    assert len(choose(segments(3), 3, np.random.default_rng(0), predict=predict)) == 3


def test_candidates_that_are_worth_the_same_keep_the_order_in_which_they_were_drawn():
    drawn = []

    def predict(_, pairs):
        drawn.extend(map(tuple, pairs.tolist()))
        worth = (pairs.sum(axis=1) % 2).astype(float)
        return np.stack([np.zeros(len(pairs)), worth])

    chosen = choose(segments(60), 20, np.random.default_rng(0), predict=predict)
    expected = sorted(drawn, key=lambda pair: -(sum(pair) % 2))[:20]
    assert [(left.id, right.id) for left, right in chosen] == expected


def test_the_rule_newest_chooses_the_pairs_with_the_newest_segment_whatever_the_other_one():
    pool = [segment(number) for number in (5, 1, 9, 3)]
    queries = np.array([[0, 1], [2, 3], [1, 3], [0, 2]])  # the newer segments are 5, 9, 3 and 9
    candidates = Candidates(pool, queries, predict=never_asked)
    assert newest(candidates, 3).tolist() == [1, 3, 0]
    assert newest(candidates, 9).tolist() == [1, 3, 0, 2]


def test_by_the_rule_newest_one_segment_is_new_and_the_other_of_any_age():
    rng, pool = np.random.default_rng(0), segments(200)
    pairs = [choose(pool, 1, rng, predict=never_asked, rule=RULES["newest"])[0] for _ in range(300)]
    newer = np.array([max(left.id, right.id) for left, right in pairs])
    older = np.array([min(left.id, right.id) for left, right in pairs])
    # The newest of 20 segments has about 20 of 21 parts of the pool below it. The other one is of any age below.
    assert newer.mean() == pytest.approx(200 * 20 / 21, abs=2)
    assert older.mean() == pytest.approx(newer.mean() / 2, abs=10)


def never_asked(segments, queries):
    raise AssertionError("the rule needs no predictions")
