"""Statistics of runs x tasks: values worked by hand, rliable's output, and invariants."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers import quick
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from prefrl_benchmarks import run_statistics as statistics
from prefrl_benchmarks.run_statistics import (
    improvement,
    interval,
    iqm,
    mean,
    median,
    normalised,
    optimality_gap,
    performance_profile,
)

RLIABLE = json.loads((Path(__file__).parent / "data" / "rliable.json").read_text())
CASES = pytest.mark.parametrize("case", RLIABLE["cases"].values(), ids=list(RLIABLE["cases"]))
AGGREGATES = (mean, median, iqm, optimality_gap)
SCORES = np.array([[0.0, 1.0], [0.5, 2.0]])
"""Two runs on two tasks."""

shapes = st.tuples(st.integers(2, 5), st.integers(1, 4))
tables = shapes.flatmap(lambda shape: arrays(float, shape, elements=st.floats(-2, 2, width=32)))


def test_aggregates_worked_by_hand():
    assert mean(SCORES) == 0.875
    assert median(SCORES) == np.median([0.25, 1.5]) == 0.875
    assert iqm(SCORES) == (0.5 + 1.0) / 2
    assert optimality_gap(SCORES) == 1 - (0 + 1 + 0.5 + 1) / 4
    assert iqm(np.array([[-9.0], [1.0], [2.0], [3.0], [99.0]])) == 2.0  # floor(5 / 4) = 1 goes at either end


def test_scores_are_zero_at_the_random_policy_and_one_at_the_true_reward():
    returns = [[-10.0, 300.0], [-4.0, 100.0], [-7.0, 500.0]]
    expected = [[0.0, 0.5], [1.0, 0.0], [0.5, 1.0]]
    np.testing.assert_allclose(normalised(returns, [-10, 100], [-4, 500]), expected)


def test_a_task_whose_baselines_are_equal_has_no_score():
    scores = normalised([[1.0, 2.0]], [1.0, 0.0], [1.0, 4.0])
    assert math.isnan(scores[0, 0])
    assert scores[0, 1] == 0.5


def test_the_probability_of_improvement_counts_ties_half():
    ours, theirs = np.array([[1.0], [2.0]]), np.array([[1.0], [0.0], [3.0]])
    assert improvement(ours, theirs) == pytest.approx((0.5 + 1 + 0 + 1 + 1 + 0) / 6)


def test_a_profile_is_the_share_of_runs_above_each_threshold():
    np.testing.assert_array_equal(performance_profile(SCORES, [-1.0, 0.0, 0.5, 3.0]), [1.0, 0.75, 0.5, 0.0])


def test_the_area_under_a_curve_is_its_mean_height():
    curves = [[0.0, 10.0, 10.0], [4.0, 4.0, 4.0]]
    np.testing.assert_allclose(statistics.area_under_curve([0, 10, 40], curves), [(50 + 300) / 40, 4.0])


@CASES
def test_aggregates_are_rliable_s(case):
    ours = np.array(case["ours"])
    for statistic in AGGREGATES:
        assert statistic(ours) == pytest.approx(case["aggregates"][statistic.__name__], abs=1e-12)
    assert improvement(ours, np.array(case["theirs"])) == pytest.approx(case["improvement"], abs=1e-12)
    np.testing.assert_allclose(performance_profile(ours, RLIABLE["thresholds"]), case["profile"])


@CASES
def test_intervals_are_rliable_s_up_to_the_draws(case):
    ours, theirs = np.array(case["ours"]), np.array(case["theirs"])
    for statistic in AGGREGATES:
        found = interval(statistic, ours, resamples=5000)
        width = np.ptp(case["intervals"][statistic.__name__])
        np.testing.assert_allclose(found, case["intervals"][statistic.__name__], atol=0.06 * width)
    found = interval(improvement, ours, theirs, resamples=5000)
    np.testing.assert_allclose(found, case["improvement_interval"], atol=0.06 * np.ptp(case["improvement_interval"]))


def test_an_interval_is_the_same_for_the_same_seed_alone():
    scores = np.random.default_rng(0).normal(size=(5, 3))
    assert interval(mean, scores) == interval(mean, scores)
    assert interval(mean, scores) != interval(mean, scores, seed=1)


def test_one_run_has_no_interval():
    assert all(math.isnan(end) for end in interval(mean, np.array([[1.0, 2.0]])))


def test_runs_are_drawn_within_their_task():
    scores = np.array([[0.0, 100.0], [0.0, 100.0], [0.0, 100.0]])  # mixing tasks would spread the mean
    assert interval(mean, scores) == (50.0, 50.0)


@quick
@given(tables)
def test_aggregates_lie_between_the_lowest_and_the_highest_run(scores):
    for statistic in (mean, median, iqm):
        assert scores.min() - 1e-9 <= statistic(scores) <= scores.max() + 1e-9
    low, high = interval(iqm, scores, resamples=50)
    assert scores.min() - 1e-9 <= low <= high <= scores.max() + 1e-9


@quick
@given(tables, st.floats(0.1, 10), st.floats(-5, 5))
def test_normalisation_undoes_a_task_s_scale(scores, span, floor):
    np.testing.assert_allclose(normalised(scores * span + floor, floor, floor + span), scores, atol=1e-6)


@quick
@given(tables, st.randoms(use_true_random=False))
def test_neither_the_order_of_runs_nor_that_of_tasks_matters(scores, random):
    runs, tasks = list(range(len(scores))), list(range(scores.shape[1]))
    random.shuffle(runs)
    random.shuffle(tasks)
    for statistic in AGGREGATES:
        assert statistic(scores[runs][:, tasks]) == pytest.approx(float(statistic(scores)))


@quick
@given(tables)
def test_what_one_side_wins_the_other_loses(scores):
    other = scores[::-1] * 0.5
    assert improvement(scores, other) + improvement(other, scores) == pytest.approx(1)
    assert improvement(scores, scores) == pytest.approx(0.5)
    assert 0 <= optimality_gap(scores) <= 3


@quick
@given(tables)
def test_resamples_are_computed_at_once_as_one_by_one(scores):
    stack = np.stack([scores, scores * 2, scores - 1])
    for statistic in AGGREGATES:
        np.testing.assert_allclose(statistic(stack), [statistic(each) for each in stack])
    np.testing.assert_allclose(improvement(stack, stack[:1]), [improvement(each, scores) for each in stack])


def test_bands_worked_by_hand():
    """Of two runs, 0 and 1 at one point, a resample's mean is 0, 1/2 or 1 with probabilities of 1/4, 1/2 and 1/4."""
    curves = np.array([[0.0, 7.0, 3.0], [1.0, 7.0, 5.0]])
    np.testing.assert_array_equal(statistics.band(curves), [[0.0, 7.0, 3.0], [1.0, 7.0, 5.0]])
    np.testing.assert_array_equal(statistics.band(curves, confidence=0.4), [[0.5, 7.0, 4.0]] * 2)
    none = statistics.band(curves[:1])
    assert none.shape == (2, 3)
    assert np.isnan(none).all()


def test_draws_are_those_of_the_seed_and_number_that_are_documented():
    curves = np.random.default_rng(0).normal(size=(6, 4))
    found = statistics.band(curves)
    np.testing.assert_array_equal(found, statistics.band(curves, confidence=0.95, resamples=1000, seed=0))
    assert not np.array_equal(found, statistics.band(curves, seed=1))
    assert interval(mean, curves) == interval(mean, curves, confidence=0.95, resamples=2000, seed=0)
    assert not np.array_equal(found, statistics.band(curves, resamples=20))
    assert interval(mean, curves) != interval(mean, curves, resamples=20)
    assert np.ptp(interval(mean, curves, confidence=0.5)) < np.ptp(interval(mean, curves))
