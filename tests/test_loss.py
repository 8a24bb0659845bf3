import math

import numpy as np
import pytest
import torch
from helpers import quick
from hypothesis import given
from hypothesis import strategies as st

from prefrl.reward.loss import (
    adapted_l2,
    comparison_loss,
    multiplicity,
    preference_logit,
    regression_loss,
    running_mean,
)

logits = st.floats(-30, 30)
errors = st.sampled_from([0.0, 0.05, 0.1, 0.5])


def loss(logit, mu, error=0.1):
    return comparison_loss(torch.tensor([logit], dtype=torch.float64), torch.tensor([mu], dtype=torch.float64), error)


def test_logit_is_the_difference_of_undiscounted_sums():
    rewards = torch.tensor([[[1.0, 2.0, 3.0], [0.5, 0.5, -1.0]], [[0.0, 0.0, 0.0], [4.0, -1.0, 0.0]]])
    assert preference_logit(rewards).tolist() == [6.0, -3.0]


def test_logit_of_one_segment_is_its_sum_and_of_three_is_against_the_mean_of_the_others():
    assert preference_logit(torch.tensor([[2.0, 3.0]])).item() == 5.0
    assert preference_logit(torch.tensor([[4.0, 2.0], [1.0, 0.0], [1.0, 2.0]])).item() == 6.0 - (1.0 + 3.0) / 2


def test_logit_does_not_depend_on_where_in_the_segment_a_reward_lies():
    rewards = torch.tensor([[5.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 5.0]])
    assert preference_logit(rewards).item() == 0.0


def test_logit_keeps_the_axis_of_members():
    assert preference_logit(torch.zeros(3, 7, 2, 5)).shape == (3, 7)


@pytest.mark.parametrize(
    ("logit", "mu", "probability"),
    [
        (0.0, 1.0, 0.5),
        (2.0, 1.0, 0.8427173702),  # 0.9 · 0.8807970780 + 0.05
        (2.0, 0.0, 0.1572826298),  # the same pair, judged the other way
        (-1.0, 1.0, 0.2920472793),  # 0.9 · 0.2689414214 + 0.05
        (-1.0, 0.0, 0.7079527207),
    ],
)
def test_loss_with_ten_per_cent_error_against_values_worked_by_hand(logit, mu, probability):
    assert loss(logit, mu).item() == pytest.approx(-math.log(probability), abs=1e-9)


def test_loss_of_a_tie_is_half_of_either_judgement():
    assert loss(2.0, 0.5).item() == pytest.approx(-(math.log(0.8427173702) + math.log(0.1572826298)) / 2, abs=1e-9)


@quick
@given(logits, st.sampled_from([0.0, 0.5, 1.0]), errors)
def test_loss_is_the_formula_of_the_paper(logit, mu, error):
    right = (1 - error) / (1 + math.exp(logit)) + error / 2
    left = (1 - error) / (1 + math.exp(-logit)) + error / 2
    expected = -mu * math.log(left) - (1 - mu) * math.log(right)
    assert loss(logit, mu, error).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@quick
@given(st.floats(-20, 20))
def test_gradient_is_that_of_the_error_model(logit):
    z = torch.tensor([logit], dtype=torch.float64, requires_grad=True)
    comparison_loss(z, torch.ones(1, dtype=torch.float64), 0.1).sum().backward()
    s = 1 / (1 + math.exp(-logit))
    assert z.grad.item() == pytest.approx(-0.9 * s * (1 - s) / (0.9 * s + 0.05), rel=1e-9)


def test_gradient_vanishes_for_a_confidently_contradicted_judgement_only_with_the_error():
    def gradient(error):
        z = torch.tensor([-15.0], requires_grad=True)
        comparison_loss(z, torch.ones(1), error).sum().backward()
        return abs(z.grad.item())

    assert gradient(0.1) < 1e-5
    assert gradient(0.0) > 0.99


@quick
@given(logits, st.floats(0, 1))
def test_without_error_it_is_plain_cross_entropy(logit, mu):
    z, target = torch.tensor([logit], dtype=torch.float64), torch.tensor([mu], dtype=torch.float64)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(z, target)
    assert comparison_loss(z, target, 0.0).item() == pytest.approx(plain.item(), rel=1e-9, abs=1e-12)


@quick
@given(logits, st.floats(0, 1), errors)
def test_loss_is_the_same_with_the_sides_swapped(logit, mu, error):
    assert loss(logit, mu, error).item() == pytest.approx(loss(-logit, 1 - mu, error).item(), rel=1e-9, abs=1e-12)


def test_a_tie_is_best_explained_by_equal_sums():
    values = torch.linspace(-3, 3, 61)
    losses = comparison_loss(values, torch.full_like(values, 0.5), 0.1)
    assert values[losses.argmin()].item() == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("error", [0.0, 0.1])
@pytest.mark.parametrize("logit", [-1e30, -1e4, 0.0, 1e4, 1e30])
@pytest.mark.parametrize("mu", [0.0, 0.5, 1.0])
def test_extreme_logits_have_finite_loss_and_gradient(logit, mu, error):
    z = torch.tensor([logit], requires_grad=True)
    value = comparison_loss(z, torch.tensor([mu]), error)
    value.sum().backward()
    assert torch.isfinite(value).all()
    assert torch.isfinite(z.grad).all()


def test_the_error_bounds_the_loss():
    assert loss(-1e6, 1.0).item() == pytest.approx(-math.log(0.05))
    assert loss(1e6, 1.0).item() == pytest.approx(-math.log(0.95))


def test_regression_is_the_mean_squared_error_over_both_segments():
    predicted = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    true = torch.tensor([[0.0, 2.0], [3.0, 1.0]])
    left, right = predicted[0] - true[0], predicted[1] - true[1]
    assert left.sum().item() ** 2 + right.sum().item() ** 2 == 1 + 9
    assert regression_loss(predicted, true).item() == pytest.approx((1 + 9) / 2 / 2)  # over two sides and two steps
    assert regression_loss(torch.zeros(3, 5, 2, 4), torch.zeros(5, 2, 4)).shape == (3, 5)


def test_running_mean_starts_with_the_first_value_and_skips_what_is_missing():
    nan = math.nan
    mean = running_mean(torch.tensor([nan, 2.0, 2.0, nan]), torch.tensor([3.0, 4.0, nan, nan]), 0.75)
    assert mean[:3].tolist() == [3.0, 2.5, 2.0]
    assert math.isnan(mean[3])


def test_multiplicity_depends_on_seed_and_comparison_alone():
    forwards = [multiplicity(7, n, 3).tolist() for n in range(200)]
    backwards = [multiplicity(7, n, 3).tolist() for n in reversed(range(200))]
    assert forwards == backwards[::-1]
    assert forwards != [multiplicity(8, n, 3).tolist() for n in range(200)]
    assert len({tuple(draw) for draw in forwards}) > 10


def test_multiplicity_is_poisson_of_mean_one():
    draws = np.stack([multiplicity(0, n, 3) for n in range(4000)])
    observed = [(draws == k).mean() for k in range(4)]
    expected = [math.exp(-1) / math.factorial(k) for k in range(4)]
    np.testing.assert_allclose(observed, expected, atol=0.015)  # more than three standard errors
    assert np.abs(np.corrcoef(draws.T) - np.eye(3)).max() < 0.05


@pytest.mark.parametrize(
    ("ratio", "factor"), [(1.51, 1.01), (9.0, 1.01), (1.09, 0.99), (0.0, 0.99), (1.1, 1), (1.3, 1), (1.5, 1)]
)
def test_l2_goes_up_above_the_band_and_down_below_it(ratio, factor):
    adapted = adapted_l2(
        torch.tensor([2e-4], dtype=torch.float64), torch.tensor([ratio], dtype=torch.float64), 1.1, 1.5, 0.01
    )
    assert adapted.item() == pytest.approx(2e-4 * factor, rel=1e-12)


def test_l2_stays_where_there_is_no_validation_loss_and_moves_per_member():
    adapted = adapted_l2(torch.full((3,), 1.0), torch.tensor([torch.nan, 2.0, 1.0]), 1.1, 1.5, 0.5)
    assert adapted.tolist() == [1.0, 1.5, 0.5]


def test_regression_is_of_a_segment_s_total_and_divided_by_its_steps():
    """Errors of 4 and of 1 in all, in segments of four steps: (16 + 1) / 2 / 4."""
    true = torch.tensor([[[1.0, 2.0, 3.0, 4.0], [0.0, 0.0, 5.0, 1.0]]])
    errors = torch.tensor([[[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 0.0, -1.0]]])
    assert regression_loss(true + errors, true).tolist() == [2.125]
