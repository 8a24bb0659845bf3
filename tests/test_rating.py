"""The feedback kind `rating`: its values, its simulated raters, and its quality."""

import dataclasses
import math

import numpy as np
import pytest
from helpers import quick, segments
from hypothesis import given
from hypothesis import strategies as st

from prefrl.config import QueryConfig
from prefrl.errors import UsageError
from prefrl.feedback.kinds import KINDS, kinds_of
from prefrl.feedback.kinds.rating import UNCLEAR, RatingKind, quantile_step, rate
from prefrl.feedback.kinds.simulation import TeacherConfiguration
from prefrl.feedback.quality import GivenAnswer, agreement, label_metrics
from prefrl.feedback.terms import Answer, Label, Query
from prefrl.recipes import resolve

ORACLE = TeacherConfiguration()
HALF = np.full(8, 0.5)


def of(*sums):
    """(N, 2) rewards with these sums."""
    return np.array([[each, 0.0] for each in sums], np.float32)


def test_the_scale_is_that_of_the_run():
    kind = kinds_of(resolve("hopper", feedback="rating", settings={"queries.rating_steps": 5}))["rating"]
    assert kind.values == (1, 2, 3, 4, 5, UNCLEAR)
    assert [choice.key for choice in kind.choices] == ["1", "2", "3", "4", "5", "Down"]
    assert [choice.name for choice in kind.choices] == ["Worst", "", "", "", "Best", "Can't tell"]
    assert KINDS["rating"].configured(QueryConfig()).values[-2] == 7


@pytest.mark.parametrize("steps", [1, 0, 10])
def test_a_scale_of_one_step_is_refused(steps):
    with pytest.raises(UsageError, match=r"^queries.rating_steps must be in \[2, 9\]: a scale needs two steps$"):
        resolve("hopper", feedback="rating", settings={"queries.rating_steps": steps})


@pytest.mark.parametrize("value", [0, 8, 4.0, "4", True, None, [4], "left"])
def test_what_is_no_rating_is_refused(value):
    with pytest.raises(ValueError, match="from 1 to 7, or unclear"):
        RatingKind(7).parse(value)


def test_can_t_tell_is_no_label():
    kind = RatingKind(7)
    assert [kind.counts(value) for value in (1, 7, UNCLEAR)] == [True, True, False]
    assert [kind.target(value) for value in (1, 7, UNCLEAR)] == [1.0, 7.0, None]
    assert [kind.tally(value) for value in (3, UNCLEAR)] == ["rated 3", "incomparable"]
    assert kind.rates([1, 7, 7, UNCLEAR]) == {"mean_rating": pytest.approx(2 / 3), "incomparable_rate": 0.25}
    assert kind.rates([]) == {"mean_rating": None, "incomparable_rate": None}


def test_the_store_counts_ratings_and_can_t_tell(store):
    ids = list(store.add_queries([Query("rating", (one,), 1, n, 0) for n, one in enumerate(segments(3))]))
    store.add_answers([Answer(number, value, "human", 0) for number, value in zip(ids, (7, 7, UNCLEAR), strict=True)])
    counts = store.counts()
    assert (counts["rated 7"], counts["incomparable"], counts["answered"]) == (2, 1, 2)
    assert store.labels("rating") == [Label(1, (0,), 7.0, "rating"), Label(2, (1,), 7.0, "rating")]


# -- simulated raters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, 1), (1.0, 1), (2.0, 2), (3.5, 3), (4.0, 4), (6.0, 6), (6.5, 6), (7.0, 7), (9.0, 7)]
)
def test_steps_divide_what_was_seen_into_equal_parts(value, expected):
    """Of 1 to 7, n has n - 1/2 of 7 parts below it."""
    assert quantile_step(value, np.arange(1.0, 8), 7) == expected


def test_the_first_clip_of_all_is_in_the_middle():
    assert [quantile_step(5.0, np.zeros(0), steps) for steps in (2, 5, 7)] == [1, 3, 4]
    assert rate(of(5.0)[0], ORACLE, None, HALF, of(5.0), 7) == 4


values = st.lists(st.floats(-100, 100), min_size=1, max_size=30)


@quick
@given(values, st.integers(2, 9))
def test_ratings_of_an_oracle_have_the_order_of_the_sums(sums, steps):
    watched = of(*sums)
    given_ = [rate(each, ORACLE, None, HALF, watched, steps) for each in watched]
    order = np.argsort(watched.sum(axis=1, dtype=float), kind="stable")
    assert (np.diff(np.array(given_)[order]) >= 0).all()
    assert set(given_) <= set(range(1, steps + 1))


def test_every_step_is_used_equally_often():
    watched = of(*range(70))
    given_ = [rate(each, ORACLE, None, HALF, watched, 7) for each in watched]
    assert np.bincount(given_).tolist() == [0, *7 * [10]]


def test_a_rater_with_gumbel_noise_orders_two_clips_by_the_boltzmann_rule():
    """P(left is rated higher) = sigmoid(beta (S_left - S_right)) = sigmoid(2 * 0.5)."""
    rng, teacher, watched = (
        np.random.default_rng(0),
        TeacherConfiguration(rationality=2.0),
        of(*np.linspace(-6, 6, 3000)),
    )
    draws = rng.random((3000, 2, 4))
    left, right = (
        np.array([rate(of(total)[0], teacher, None, draw, watched, 1000) for draw in draws[:, side]])
        for side, total in enumerate((0.25, -0.25))
    )
    higher, equal = np.mean(left > right), np.mean(left == right)
    assert higher + equal / 2 == pytest.approx(1 / (1 + math.exp(-1)), abs=0.05)


def test_imperfect_raters():
    watched = of(*range(70))
    certain = np.array([0.5, 0.0, 0.99, 0.5])
    assert rate(of(0)[0], TeacherConfiguration(mistake=0.1), None, certain, watched, 7) == 7
    assert rate(of(0)[0], TeacherConfiguration(mistake=0.1), None, HALF, watched, 7) == 1
    assert rate(of(0.9)[0], TeacherConfiguration(skip=0.1), 10.0, HALF, watched, 7) == UNCLEAR
    assert rate(of(1.1)[0], TeacherConfiguration(skip=0.1), 10.0, HALF, watched, 7) == 1
    assert rate(of(10.9)[0], TeacherConfiguration(equal=0.1), 10.0, HALF, watched, 7) == 4
    assert rate(of(11.1)[0], TeacherConfiguration(equal=0.1), 10.0, HALF, watched, 7) == 2
    first = np.array([[60.0, 0.0]], np.float32)[0]
    myopic = TeacherConfiguration(discount=0.5)  # who sees 30, and 0 to 34.5 in the others
    assert rate(first, ORACLE, None, HALF, watched, 7) == 7
    assert rate(first[::-1], myopic, None, HALF, watched, 7) == 7
    assert rate(np.array([20.0, 0.0]), myopic, None, HALF, watched, 7) == rate(
        of(20)[0], ORACLE, None, HALF, watched, 7
    )


def test_who_perceives_by_weber_s_law_errs_in_proportion_to_the_sum():
    teacher, watched = TeacherConfiguration(noticeable=0.1), of(*range(700))
    chance = np.array([0.5, 0.5, 1 - math.exp(-0.5), 0.0])  # a normal deviate of 1
    assert rate(of(100)[0], teacher, None, chance, watched, 7) == quantile_step(110, np.arange(700.0), 7) == 2
    assert rate(of(0)[0], teacher, None, chance, watched, 7) == 1


def test_nothing_but_the_rater_s_parameters_matters_to_a_perfect_one():
    assert dataclasses.asdict(ORACLE)["mistake"] == 0
    watched = of(1, 2, 3)
    assert {rate(of(2)[0], ORACLE, usual, HALF, watched, 3) for usual in (None, 0.0, 100.0)} == {2}


# -- quality -----------------------------------------------------------------------------------------------------------


def given_answers(name, values, **more):
    kind = RatingKind(5)
    return [GivenAnswer(n, False, name, value, 1.0, None, kind=kind, **more) for n, value in enumerate(values)]


def test_near_ratings_agree_more_than_far_ones():
    kind = RatingKind(5)
    assert [kind.likeness(4, other) for other in (4, 3, 1)] == [1, 0.75, 0.25]
    ann = given_answers("ann", [1, 2, 3, 4, 5])
    near, far = given_answers("ben", [1, 2, 3, 4, 4]), given_answers("ben", [1, 2, 3, 4, 1])
    assert agreement(ann + near)[0] > agreement(ann + far)[0]


def test_ratings_agree_with_the_reward_as_far_as_the_pairs_that_they_order():
    rewards = [(np.array([total], np.float32),) for total in (1.0, 2.0, 3.0, 3.0)]
    kind = RatingKind(5)
    assert kind.concordance([1, 2, 3, 3], rewards) == 1
    assert kind.concordance([3, 2, 1, 1], rewards) == 0
    assert kind.concordance([1, 3, 2, 2], rewards) == pytest.approx(3 / 5)  # of five pairs with different sums
    assert kind.concordance([2, 2, 2, 2], rewards) is None
    assert kind.concordance([], []) is None
    answers = [
        GivenAnswer(n, False, "ann", value, 1.0, None, kind=kind, rewards=rewards[n])
        for n, value in enumerate([1, 3, 2, UNCLEAR])
    ]
    assert label_metrics(kind, answers)["agrees_with_reward"] == pytest.approx(2 / 3)
