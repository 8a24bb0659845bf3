"""Query rules that look at segments: k-centre, its mixture with variance, and segments of the same stage."""

import dataclasses
from typing import get_args, get_type_hints

import numpy as np
import pytest
from helpers import film, quick, segment, segments
from hypothesis import given
from hypothesis import strategies as st

from prefrl.config import QueryConfig
from prefrl.experience.clips import ClipFolder
from prefrl.experience.segment import Segment
from prefrl.recipes import resolve
from prefrl.selection.asked_features import AskedFeatures
from prefrl.selection.kcentre import kcentre_greedy, state_features
from prefrl.selection.rules import (
    RULES,
    Candidates,
    choose,
    kcentre,
    kcentre_variance,
    of_newest_episodes,
    same_stage,
)


def points(*values):
    return np.array(values, dtype=float)[:, None]


def test_each_choice_is_the_farthest_from_its_nearest_centre():
    # With a centre at 0: 10 is the farthest; then 4 (distance 4 to 0) before 7 (3 to 10) and 1.
    assert kcentre_greedy(points(1, 4, 7, 10), points(0), 4).tolist() == [3, 1, 2, 0]
    assert kcentre_greedy(points(1, 4, 7, 10), points(0, 9), 2).tolist() == [1, 2]


def test_without_centres_the_first_point_is_the_first_choice():
    assert kcentre_greedy(points(5, 4, 8, 0), np.zeros((0, 0)), 3).tolist() == [0, 3, 2]


def test_equal_points_are_chosen_once_each():
    assert sorted(kcentre_greedy(points(2, 2, 2), points(2), 3).tolist()) == [0, 1, 2]
    assert kcentre_greedy(points(2, 2), points(2), 5).tolist() == [0, 1]
    assert points(2, 2)[kcentre_greedy(points(2, 2), points(2), 0)].shape == (0, 1)


@quick
@given(st.integers(1, 12), st.integers(0, 400), st.integers(1, 12), st.integers(0, 99))
def test_kcentre_is_the_greedy_algorithm_step_by_step(count, centres, wanted, seed):
    rng = np.random.default_rng(seed)
    found, known = rng.normal(size=(count, 3)), rng.normal(size=(centres, 3))
    places = kcentre_greedy(found, known, wanted).tolist()
    assert len(set(places)) == len(places) == min(count, wanted)
    taken = list(known)
    for number, place in enumerate(places):
        left = [other for other in range(count) if other not in places[:number]]
        if taken:
            far = {other: min(np.linalg.norm(found[other] - each) for each in taken) for other in left}
            assert far[place] == pytest.approx(max(far.values()))
        taken.append(found[place])


def test_features_are_the_observations_without_actions():
    one = segment(3, (0.0, 0.0), features=4)
    np.testing.assert_array_equal(state_features(one), one.observations.ravel())


def test_features_of_images_are_means_of_blocks():
    frames = np.zeros((5, 17, 26), np.uint8)
    frames[0, :8, 8:16], frames[1, 15, 23] = 200, 64
    frames[:, 16], frames[:, :, 24:] = 255, 255  # not of a whole block
    steps = (np.zeros((5, 1), np.float32), np.zeros(5, np.float32), *np.zeros((2, 5), bool))
    found = state_features(Segment(0, frames, *steps)).reshape(5, 2, 3)
    expected = np.zeros((5, 2, 3))
    expected[0, 0, 1], expected[1, 1, 2] = 200, 1
    np.testing.assert_array_equal(found, expected)
    assert state_features(film(3, 4, 84)).shape == (6 * 10 * 10,)
    assert state_features(film(3, 1, 11)).shape == (3,)
    assert state_features(film(3, 1, 5)).shape == (3,)


def test_features_are_numbers_whose_differences_can_be_squared():
    steps = (np.zeros((1, 1), np.float32), np.zeros(1, np.float32), *np.zeros((2, 1), bool))
    one, other = (state_features(Segment(0, np.array([[value]], np.uint8), *steps)) for value in (1, 200))
    assert np.square(one - other).tolist() == [199**2]


def test_every_selection_has_a_rule_but_random():
    assert set(RULES) | {"random"} == set(get_args(get_type_hints(QueryConfig)["selection"]))


POOL = segments(6, features=3)


def candidates(queries, spread=(), asked=lambda: np.zeros((0, 0)), pool=POOL):
    """Candidates of which the n-th has a given difference between two members' predictions."""

    def predict(_, chosen):
        wide = {tuple(query): width for query, width in zip(queries, spread, strict=True)}
        return np.array([[0.5, 0.5 + wide[tuple(query)]] for query in chosen.tolist()]).T

    return Candidates(pool, np.array(queries), predict, asked)


def test_features_of_a_pair_do_not_depend_on_which_is_shown_first():
    one, other = candidates([(1, 4), (2, 0)]).features, candidates([(4, 1), (0, 2)]).features
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(one[0], np.concatenate([POOL[1].observations.ravel(), POOL[4].observations.ravel()]))
    shuffled = [POOL[number] for number in (5, 1, 4)]  # by ids, not by places
    np.testing.assert_array_equal(candidates([(2, 1)], pool=shuffled).features[0], one[0])


def test_kcentre_chooses_among_the_candidates_far_from_what_was_asked():
    given_ = candidates([(0, 1), (2, 3), (4, 5)])
    asked = given_.features[1:2]
    far = np.square(given_.features - asked).sum(axis=1)
    chosen = kcentre(dataclasses.replace(given_, asked=lambda: asked), 1)
    assert chosen.tolist() == [int(np.argmax(far))]
    assert chosen[0] != 1


def test_kcentre_variance_keeps_the_half_of_highest_variance():
    queries = [(0, 1), (2, 3), (4, 5), (0, 2)]
    spread = [0.1, 0.4, 0.3, 0.2]
    chosen = kcentre_variance(candidates(queries, spread), 2)
    assert set(chosen.tolist()) == {1, 2}
    # From the half, by k-centre: far from the second of the candidates, which is asked, is the third.
    given_ = candidates(queries, spread)
    asked = given_.features[1:2]
    assert kcentre_variance(dataclasses.replace(given_, asked=lambda: asked), 1).tolist() == [2]
    assert len(kcentre_variance(given_, 3)) == 3  # more than half


def test_same_stage_keeps_pairs_that_begin_at_about_the_same_step_of_their_episodes():
    pool = [dataclasses.replace(each, start=start) for each, start in zip(POOL, (0, 30, 60, 62, 5, 90), strict=True)]
    queries = [(0, 1), (2, 3), (4, 0), (1, 5), (3, 5)]  # 30, 2, 5, 60 and 28 steps apart
    chosen = same_stage(candidates(queries, [0.4, 0.1, 0.2, 0.5, 0.3], pool=pool), 1)
    assert chosen.tolist() == [2]  # of the two nearest pairs, the one of the higher variance
    chosen = same_stage(candidates(queries, [0.4, 0.1, 0.2, 0.5, 0.3], pool=pool), 2)
    assert chosen.tolist() == [0, 4]


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_chooses_different_new_pairs(rule):
    pool, asked = segments(20), {(0, 1), (3, 7)}
    rng = np.random.default_rng(0)

    def predict(_, pairs):
        return rng.random((3, len(pairs)))

    found = choose(pool, 9, rng, asked=asked, predict=predict, rule=RULES[rule])
    pairs = {tuple(sorted(each.id for each in query)) for query in found}
    assert len(pairs) == 9
    assert not pairs & asked
    assert resolve("hopper", settings={"queries.selection": rule}).queries.selection == rule


def test_the_first_queries_of_every_rule_are_uniform():
    pool = segments(20)
    plain = choose(pool, 9, np.random.default_rng(0))
    for rule in RULES.values():
        found = choose(pool, 9, np.random.default_rng(0), rule=rule)
        assert [[each.id for each in query] for query in found] == [[each.id for each in query] for query in plain]


def test_asked_features_come_from_the_pool_or_from_the_clips(tmp_path):
    clips = ClipFolder(tmp_path)
    for each in POOL[:4]:
        clips.save(each)
    found = AskedFeatures(clips)({(2, 3), (0, 1), (1, 4)}, POOL[4:])
    np.testing.assert_array_equal(found, candidates([(0, 1), (1, 4), (2, 3)]).features)


def test_queries_with_damaged_clips_are_left_out(tmp_path):
    clips = ClipFolder(tmp_path)
    for each in POOL[:4]:
        clips.save(each)
    clips.file(2).write_bytes(b"nonsense")
    features = AskedFeatures(clips)
    np.testing.assert_array_equal(features({(2, 3), (0, 1)}, []), candidates([(0, 1)]).features)
    assert features({(2, 3)}, []).shape == (0, 0)


def test_clips_are_read_once(tmp_path, monkeypatch):
    clips, read = ClipFolder(tmp_path), []
    for each in POOL[:4]:
        clips.save(each)
    features = AskedFeatures(clips)
    real = clips.load
    monkeypatch.setattr(clips, "load", lambda number: read.append(number) or real(number))
    features({(0, 1)}, [])
    features({(0, 1), (0, 2)}, [])
    assert read == [0, 1, 2]


def test_the_newest_episodes_are_those_that_began_last():
    pool = [dataclasses.replace(each, episode=episode) for each, episode in zip(POOL, (1, 8, 1, 5, 9, 8), strict=True)]
    assert [each.id for each in of_newest_episodes(pool, 2)] == [1, 4, 5]
    assert [each.id for each in of_newest_episodes(pool, 3)] == [1, 3, 4, 5]
    assert [each.id for each in of_newest_episodes(pool, 9)] == [0, 1, 2, 3, 4, 5]
    assert of_newest_episodes(pool, None) is pool
    assert of_newest_episodes([], 3) == []
