import math

import numpy as np
import pytest
import torch
from helpers import through_file
from hypothesis import given
from hypothesis import strategies as st

from prefrl.config import RunConfig
from prefrl.recipes import resolve
from prefrl.reward.normalisation import (
    NORMALISATIONS,
    AlignedRolloutNormalisation,
    OutputNormaliser,
    RolloutNormalisation,
    moments,
    normalised,
    pooled,
)


def outputs(rng, steps, members=3):
    """(K, N): members of different means and deviations that agree in part."""
    shared = rng.normal(size=steps)
    return torch.tensor(np.stack([k + (k + 1) * (shared + rng.normal(size=steps)) for k in range(members)]))


PUBLISHED = OutputNormaliser(3, 1.0)
"""Which normalises nothing."""


def test_two_members_that_agree_against_values_worked_by_hand():
    # Means 1 and 12, deviations 1 and 2: both give -1 and 1, and so does their average, of deviation 1.
    given_by = torch.tensor([[0.0, 2.0], [10.0, 14.0]])
    np.testing.assert_allclose(normalised(given_by, *pooled([moments(given_by)]), 0.05), [-0.05, 0.05], rtol=1e-6)


def test_the_average_of_members_that_do_not_agree_has_the_target_deviation_too():
    # Averages -1, 0, 0 and 1, of deviation sqrt(1 / 2).
    given_by = torch.tensor([[-1.0, -1.0, 1.0, 1.0], [-1.0, 1.0, -1.0, 1.0]])
    expected = np.array([-1, 0, 0, 1]) * math.sqrt(2)
    np.testing.assert_allclose(normalised(given_by, *pooled([moments(given_by)]), 1.0), expected, rtol=1e-6)


def test_members_count_alike_whatever_their_scale():
    given_by = outputs(np.random.default_rng(0), 50)
    louder = given_by * torch.tensor([[1.0], [1000.0], [1.0]]) + 7
    one, other = (normalised(each, *pooled([moments(each)]), 1.0) for each in (given_by, louder))
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=5), st.integers(0, 2**32 - 1))
def test_statistics_of_parts_are_those_of_the_whole(sizes, seed):
    parts = [outputs(np.random.default_rng([seed, place]), size) for place, size in enumerate(sizes)]
    mean, covariance = pooled(map(moments, parts))
    whole = torch.cat(parts, dim=1).numpy()
    np.testing.assert_allclose(mean, whole.mean(axis=1), atol=1e-9)
    np.testing.assert_allclose(covariance, np.cov(whole, bias=True), atol=1e-8)


def test_a_rollout_is_normalised_by_the_newest_4096_steps_itself_included():
    rng = np.random.default_rng(1)
    rollouts = [outputs(rng, 2048) + 10 * place for place in range(4)]
    normalise = RolloutNormalisation(1.0)
    for place, rollout in enumerate(rollouts):
        newest = torch.cat(rollouts[max(0, place - 1) : place + 1], dim=1)
        expected = normalised(rollout, newest.mean(dim=1), torch.tensor(np.cov(newest, bias=True)), 1.0)
        np.testing.assert_allclose(normalise(rollout, PUBLISHED), expected, rtol=1e-5, atol=1e-5)


def test_short_rollouts_are_not_each_of_mean_zero():
    normalise = RolloutNormalisation(1.0)
    rng = np.random.default_rng(2)
    for _ in range(40):
        normalise(outputs(rng, 80), PUBLISHED)
    better = normalise(outputs(rng, 80) + 2, PUBLISHED)
    assert better.mean() > 0.5


def test_a_model_that_gives_one_value_gives_no_reward_and_no_nan():
    assert RolloutNormalisation(1.0)(torch.full((3, 10), 0.25), PUBLISHED).tolist() == [0.0] * 10


def test_it_continues_from_a_saved_state(tmp_path):
    rng = np.random.default_rng(3)
    rollouts = [outputs(rng, 700) for _ in range(14)]
    through, resumed = RolloutNormalisation(1.0), RolloutNormalisation(1.0)
    for rollout in rollouts[:11]:
        through(rollout, PUBLISHED)
    resumed.load_state_dict(through_file(tmp_path, through.state_dict()))
    for rollout in rollouts[11:]:
        np.testing.assert_array_equal(through(rollout, PUBLISHED), resumed(rollout, PUBLISHED))


def test_a_saved_state_of_many_rollouts_takes_the_place_of_what_there_was_in_their_order(tmp_path):
    rng = np.random.default_rng(4)
    rollouts = [outputs(rng, 300) + place for place in range(26)]
    through, resumed = RolloutNormalisation(1.0), RolloutNormalisation(1.0)
    for rollout in rollouts[:12]:
        through(rollout, PUBLISHED)
    resumed(outputs(rng, 300) + 1000, PUBLISHED)
    state = through_file(tmp_path, through.state_dict())
    resumed.load_state_dict(dict(reversed(state.items())))  # a tree has no order
    for rollout in rollouts[12:]:  # until the oldest have gone, which go in their order
        np.testing.assert_array_equal(through(rollout, PUBLISHED), resumed(rollout, PUBLISHED))


def published_over(clips):
    """The normalisation that weights with these outputs on the newest clips are published with."""
    published = OutputNormaliser(3, 1.0)
    published.fit(clips)
    return published


def test_a_fit_that_moves_and_scales_each_member_s_outputs_changes_no_reward_if_aligned():
    rng = np.random.default_rng(5)
    clips, rollouts = outputs(rng, 200), [outputs(rng, 1024) for _ in range(6)]
    still, moved, unaligned = (
        AlignedRolloutNormalisation(1.0),
        AlignedRolloutNormalisation(1.0),
        RolloutNormalisation(1.0),
    )
    for fit, rollout in enumerate(rollouts):
        scale, offset = torch.tensor([[1.0], [3.0], [0.5]]) ** fit, torch.tensor([[20.0], [5.0], [60.0]]) * fit
        expected = still(rollout, published_over(clips))
        after = rollout * scale + offset
        np.testing.assert_allclose(moved(after, published_over(clips * scale + offset)), expected, rtol=1e-4, atol=1e-4)
        jumped = unaligned(after, published_over(clips))
    assert abs(expected.mean()) < 0.2
    assert jumped.mean() > 0.5  # of what this is there for


def test_an_aligned_rollout_that_is_better_than_those_before_it_has_a_higher_mean():
    rng = np.random.default_rng(6)
    normalise, published = AlignedRolloutNormalisation(1.0), published_over(outputs(rng, 200))
    for _ in range(8):
        normalise(outputs(rng, 512), published)
    assert normalise(outputs(rng, 512) + 3, published).mean() > 0.5


def test_a_memory_is_normalised_as_a_whole_and_steps_that_follow_by_its_statistics(tmp_path):
    normalise = NORMALISATIONS["memory"](0.05)
    memory = torch.tensor([[0.0, 2.0], [10.0, 14.0]])  # as in the first test
    normalise.fit(memory)
    np.testing.assert_allclose(normalise(memory, PUBLISHED), [-0.05, 0.05], rtol=1e-6)
    later = torch.tensor([[3.0], [16.0]])  # two deviations above the mean, for both members
    for each in (normalise, NORMALISATIONS["memory"](0.05)):
        each.load_state_dict(through_file(tmp_path, normalise.state_dict()))
        np.testing.assert_allclose(each(later, PUBLISHED), [0.1], rtol=1e-6)


def test_statistics_over_comparisons_are_the_model_s_own(tmp_path):
    published, rollout = published_over(outputs(np.random.default_rng(7), 100)), torch.rand(3, 10)
    for _ in range(2):
        normalise = NORMALISATIONS["comparisons"](1.0)
        np.testing.assert_array_equal(normalise(rollout, published), published(rollout))
        normalise.load_state_dict(through_file(tmp_path, {"state": normalise.state_dict()})["state"])
    assert type(NORMALISATIONS["rollouts"](1.0)) is RolloutNormalisation
    assert type(NORMALISATIONS["aligned-rollouts"](1.0)) is AlignedRolloutNormalisation


def test_recipes_normalise_over_rollouts_and_runs_of_older_versions_continue_as_they_were():
    config = resolve("cheetah")
    assert config.reward.normalise_over == "rollouts"
    older = config.to_json()
    del older["reward"]["normalise_over"]
    assert RunConfig.from_json(older).reward.normalise_over == "comparisons"


@pytest.mark.parametrize(
    ("name", "over"),
    [
        ("pong", "aligned-rollouts"),
        ("moving-dot", "aligned-rollouts"),
        ("hopper", "rollouts"),
        ("CartPole-v1", "rollouts"),
    ],
)
def test_every_recipe_normalises_over_rollouts(name, over):
    assert resolve(name).reward.normalise_over == over
