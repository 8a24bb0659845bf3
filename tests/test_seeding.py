"""Random streams: each purpose and key has its own, and the streams of oracle runs have not changed."""

import itertools

import numpy as np
import pytest
from helpers import quick
from hypothesis import given
from hypothesis import strategies as st

from prefrl.seeding import PURPOSES, environment_seed, stream

KEPT = ("queries", "batches", "bootstrap")
KEYS = [(), (0,), (1,), (0, 0), (0, 1), (1, 0), (-1,), (2**32,), (-1, 3), (1, 0, 0)]


def first(seed, purpose, keys):
    return tuple(stream(seed, purpose, *keys).integers(2**63, size=2).tolist())


def test_every_purpose_key_and_seed_has_a_stream_of_its_own():
    """`default_rng([s, 1])` and `default_rng([s, 1, 0])` are one."""
    asked = [*itertools.product((0, 1, 2, 2**32 - 1), PURPOSES, KEYS)]
    drawn = {(seed, purpose, keys): first(seed, purpose, keys) for seed, purpose, keys in asked}
    assert len(drawn) == 4 * len(PURPOSES) * len(KEYS)
    assert len(set(drawn.values())) == len(drawn)


@quick
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**32 - 1),
            st.sampled_from(PURPOSES),
            st.lists(st.one_of(st.integers(-2, 2), st.integers(-(2**63), 2**63 - 1)), max_size=4).map(tuple),
        ),
        min_size=2,
        max_size=30,
        unique=True,
    )
)
def test_no_two_of_any_share_one(asked):
    assert len({first(*each) for each in asked}) == len(asked)


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_the_streams_that_decide_oracles_runs_are_as_they_were(seed):
    def same(one, other):
        np.testing.assert_array_equal(one.integers(2**62, size=5), other.integers(2**62, size=5))

    same(stream(seed, "queries"), np.random.default_rng([seed, 1]))
    same(stream(seed, "batches"), np.random.default_rng(seed))
    for comparison in (1, 12345):
        same(stream(seed, "bootstrap", comparison), np.random.Generator(np.random.Philox(key=[seed, comparison])))


def test_a_stream_is_the_same_each_time_and_depends_on_its_name_alone():
    """Known numbers: a stream must not change when another purpose is added."""
    assert stream(3, "teacher", 2, 1).random(2).tolist() == stream(3, "teacher", 2, 1).random(2).tolist()
    assert stream(0, "teacher", 0, 0).integers(1000, size=4).tolist() == [288, 139, 86, 168]
    assert stream(5, "holdout").integers(1000, size=4).tolist() == [726, 9, 925, 482]
    assert max(map(len, PURPOSES)) <= 16


@pytest.mark.parametrize(
    ("seed", "purpose", "keys"),
    [(-1, "teacher", ()), (2**32, "teacher", ()), (0, "nonsense", ()), (0, "teacher", (2**63,))],
)
def test_what_cannot_have_a_stream_of_its_own_is_refused(seed, purpose, keys):
    with pytest.raises(ValueError, match="no stream"):
        stream(seed, purpose, *keys)


def test_purposes_are_those_that_the_package_draws_for():
    kept = ["queries", "batches", "bootstrap", "teacher", "holdout", "repeats"]
    later = [
        "evaluation",
        "random actions",
        "made-up clips",
        "crops",
        "pseudo-labels",
        "study",
        "reference",
        "probe",
        "demonstrations",
        "imitation",
        "can't tell",
    ]
    assert list(PURPOSES) == [*kept, *later]


def test_a_key_is_its_two_s_complement_in_two_words_behind_the_purpose_s_name():
    name = [int.from_bytes(b"teacher         "[at : at + 4], "little") for at in range(0, 16, 4)]
    for key, words in ((-1, [2**32 - 1, 2**32 - 1]), (5, [0, 5]), (3 * 2**32 + 4, [3, 4]), (-(2**63), [2**31, 0])):
        expected = np.random.default_rng(np.random.SeedSequence(9, spawn_key=[*name, *words])).integers(2**62, size=4)
        np.testing.assert_array_equal(stream(9, "teacher", key).integers(2**62, size=4), expected)


def test_environments_seeds_are_numbers_that_every_environment_takes():
    seeds = [environment_seed(0, "evaluation", number) for number in range(50)]
    assert len(set(seeds)) == 50
    assert all(type(seed) is int and 0 <= seed < 2**31 for seed in seeds)
