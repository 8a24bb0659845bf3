"""The likelihood of ratings: proportional odds whose thresholds are learned."""

import math

import numpy as np
import pytest
import torch
from helpers import Library, quick, same_tree, through_file, tiny_reward
from hypothesis import given
from hypothesis import strategies as st

from prefrl.experience.inputs import Inputs
from prefrl.feedback.terms import Label
from prefrl.reward.dataset import LabelType
from prefrl.reward.learner import RewardLearner
from prefrl.reward.ordinal import ProportionalOdds, rating_log_probabilities, rating_loss, thresholds_of

STEPS = 7
RATINGS = LabelType("rating", 1, "proportional-odds")


def test_thresholds_are_ordered_around_zero():
    assert thresholds_of(torch.tensor([[2.0], [1.0]])).tolist() == [[-1, 1], [-0.5, 0.5]]
    assert thresholds_of(torch.tensor([[1.0, 4.0]])).tolist() == [[-2, -1, 3]]
    assert thresholds_of(torch.zeros(2, 0)).tolist() == [[0], [0]]


def test_probabilities_by_hand():
    """Thresholds -1 and 1: P(1) = sigmoid(-1 - s), P(3) = sigmoid(s - 1), and P(2) is the rest."""
    found = rating_log_probabilities(torch.tensor([[0.0, 1.0]]), torch.tensor([[2.0]])).exp()[0]
    low = 1 / (1 + math.e)
    np.testing.assert_allclose(found[0], [low, 1 - 2 * low, low], rtol=1e-6)
    lowest = 1 / (1 + math.exp(2))
    np.testing.assert_allclose(found[1], [lowest, 0.5 - lowest, 0.5], rtol=1e-6)


def test_the_loss_by_hand():
    sums, gaps = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0]])
    low = 1 / (1 + math.e)
    expected = [-math.log(0.9 * low + 0.1 / 3), -math.log(0.9 * (1 - 2 * low) + 0.1 / 3)]
    np.testing.assert_allclose(rating_loss(sums, gaps, torch.tensor([[3, 2]]), 0.1)[0], expected, rtol=1e-6)
    np.testing.assert_allclose(rating_loss(sums, gaps, torch.tensor([[1, 1]]), 0.0)[0], -math.log(low), rtol=1e-6)


numbers = st.floats(-30, 30)


@quick
@given(numbers, st.lists(st.floats(0.01, 5), max_size=7))
def test_probabilities_are_those_of_the_definition(total, gaps):
    each = torch.tensor([gaps], dtype=torch.float64).reshape(1, -1)
    found = rating_log_probabilities(torch.tensor([[total]], dtype=torch.float64), each)[0, 0].exp()
    below = torch.sigmoid(thresholds_of(each)[0] - total)
    expected = np.diff([0, *below.tolist(), 1])
    assert found.sum().item() == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@quick
@given(numbers, st.floats(0.01, 5), st.floats(0.01, 5))
def test_a_larger_sum_is_expected_to_be_rated_higher(total, more, gap):
    likelihood = ProportionalOdds(1, 4)
    likelihood.raw_gaps.data[:] = gap
    low, high = likelihood.expectation(torch.tensor([[[total], [total + more]]], dtype=torch.float64))[0].tolist()
    assert 0 <= low < high <= 1 or low == pytest.approx(high, abs=1e-9)


@pytest.mark.parametrize("total", [-1000.0, 1000.0])
def test_extreme_sums_have_finite_losses_and_gradients(total):
    sums, gaps = torch.tensor([[total]], requires_grad=True), torch.full((1, 5), 1.0, requires_grad=True)
    for rating in range(1, STEPS + 1):
        rating_loss(sums, gaps, torch.tensor([[rating]]), 0.1).sum().backward()
    assert torch.isfinite(sums.grad).all()
    assert torch.isfinite(gaps.grad).all()


@pytest.mark.parametrize("steps", range(2, 10))
def test_at_first_a_guess_costs_the_logarithm_of_the_number_of_steps(steps):
    likelihood, zero = ProportionalOdds(3, steps), torch.zeros(3, 1)
    found = rating_log_probabilities(zero, likelihood.gaps)
    np.testing.assert_allclose(found.detach(), -math.log(steps), rtol=1e-5)
    assert likelihood.expectation(torch.zeros(3, 2, 4)).detach().numpy() == pytest.approx(0.5)


def test_the_loss_is_of_the_sum_over_the_segment():
    likelihood = ProportionalOdds(2, STEPS)
    rewards = torch.randn(2, 3, 1, 5, generator=torch.Generator().manual_seed(0))
    batch = type("Batch", (), {"target": torch.tensor([[1.0, 4, 7], [2, 3, 5]])})
    found = likelihood(rewards, batch, tiny_reward(error=0.2))
    expected = rating_loss(rewards.sum(dim=(2, 3)), likelihood.gaps, batch.target, 0.2)
    np.testing.assert_array_equal(found.detach(), expected.detach())


# -- in the learner ----------------------------------------------------------------------------------------------------


def ratings(library: Library, last: int) -> list[Label]:
    """Rating n is of segment n; unequal parts of the segments get each step."""
    sums = library.true.sum(axis=1)
    bounds = np.quantile(sums, [0.1, 0.3, 0.4, 0.6, 0.7, 0.9])
    return [Label(n, (n,), 1.0 + int((sums[n] > bounds).sum()), "rating") for n in range(1, last + 1)]


def learner(**changes):
    config = tiny_reward(loss="proportional-odds", **changes)
    likelihoods = {"proportional-odds": ProportionalOdds(config.members, STEPS)}
    return RewardLearner(config, Inputs((4,)), 5, 0, label_types=[RATINGS], likelihoods=likelihoods)


def test_a_reward_its_offset_and_the_thresholds_are_learned():
    library, made = Library(400), learner(buffer=400, hidden=(32,), error=0.0, l2=0.0)
    made.add(ratings(library, 300), library.read)
    made.train(600 * made.config.batch_size)
    outputs = made.ensemble.predict(torch.from_numpy(library.features[301:].reshape(-1, 4))).mean(dim=0)
    predicted = outputs.reshape(-1, 5).sum(dim=1).numpy()
    true = library.true[301:].sum(axis=1)
    assert np.corrcoef(predicted, true)[0, 1] > 0.9
    middle = np.median(library.true.sum(axis=1))
    assert np.mean((predicted > 0) == (true > middle)) > 0.85  # comparisons leave this offset open
    gaps = made.ensemble.likelihoods["proportional-odds"].gaps.detach()
    assert (gaps > 0).all()
    assert (gaps[:, 0] > gaps[:, 1]).all()  # twice as many segments lie between the first two thresholds


def test_the_thresholds_are_saved_resumed_and_published(tmp_path):
    library, through = Library(60), learner()
    said = ratings(library, 40)
    through.add(said, library.read)
    through.train(200)
    resumed = learner()
    resumed.load_state_dict(through_file(tmp_path, through.state_dict()), said, library.read)
    for each in (through, resumed):
        each.train(80)
    assert same_tree(dict(through.ensemble.state_dict()), dict(resumed.ensemble.state_dict()))
    first = ProportionalOdds(3, STEPS).raw_gaps
    assert not torch.equal(through.ensemble.likelihoods["proportional-odds"].raw_gaps, first)
    through.publish(tmp_path / "weights")
    other = learner()
    other.ensemble.load_arrays(through_file(tmp_path, dict(through.ensemble.state_dict())))
    assert same_tree(dict(other.ensemble.state_dict()), dict(through.ensemble.state_dict()))
