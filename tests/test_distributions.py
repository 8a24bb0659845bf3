"""Distributions of actions: values worked by hand, and against torch and sampling."""

import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import quick
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from torch import distributions

from prefrl.agents.distributions import (
    BINS,
    Factored,
    Gaussian,
    SquashedGaussian,
    divergence,
    executed_entropy,
    gaussian_kl,
    log_ratio,
    of_actor,
    of_actor_critic,
    of_quantiles,
    of_values,
    squashed_draw,
)
from prefrl.agents.off_policy_algorithms import make_policy
from prefrl.recipes import resolve

LOW, HIGH = torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 2.0])
means, log_stds = st.floats(-2, 2), st.floats(-3, 1)


def gaussian(mean, log_std, low=LOW, high=HIGH):
    return Gaussian(torch.tensor([mean]), torch.tensor([log_std]), low, high)


def squashed(mean, log_std):
    return SquashedGaussian(torch.tensor([mean]), torch.tensor([log_std]))


def test_the_divergence_of_gaussians_worked_by_hand():
    # One unit apart: 1/2. Twice the deviation: (4 - 1 - ln 4) / 2; the other way round: (1/4 - 1 + ln 4) / 2.
    one = torch.zeros(1, 1)
    assert gaussian_kl(one, one, one + 1, one) == pytest.approx(0.5)
    assert gaussian_kl(one, one + math.log(2), one, one) == pytest.approx((3 - math.log(4)) / 2)
    assert gaussian_kl(one, one, one, one + math.log(2)) == pytest.approx((math.log(4) - 0.75) / 2)


@quick
@given(means, log_stds, means, log_stds)
def test_gaussians_agree_with_torch(mean, log_std, other_mean, other_log_std):
    own, other = gaussian([mean, 0.5], [log_std, 0.1]), gaussian([other_mean, -0.5], [other_log_std, 0.0])
    theirs = [
        distributions.Independent(distributions.Normal(each.mean, each.log_std.exp()), 1) for each in (own, other)
    ]
    action = torch.tensor([[0.3, -1.7]])
    torch.testing.assert_close(own.log_prob(action), theirs[0].log_prob(action), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(own.entropy(), theirs[0].entropy(), rtol=1e-4, atol=1e-4)
    expected = distributions.kl_divergence(*theirs)
    torch.testing.assert_close(divergence(own, other), expected, rtol=1e-3, atol=1e-3)
    assert divergence(own, other) >= -1e-5


def test_a_squashed_gaussian_has_the_densities_of_stable_baselines():
    own = squashed([0.3, -0.8], [-0.5, 0.2])
    theirs = SquashedDiagGaussianDistribution(2).proba_distribution(own.mean, own.log_std)
    actions = torch.tensor([[0.2, -0.9]])
    torch.testing.assert_close(own.log_prob(actions), theirs.log_prob(actions), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (1.5, -1.0), (-0.5, 0.7), (0.2, -2.5)])
def test_entropy_and_divergence_of_squashed_gaussians_are_those_of_samples(mean, log_std):
    own, other = squashed([mean], [log_std]), squashed([0.4], [-0.3])
    before = own.mean + own.log_std.exp() * torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0))
    actions = torch.tanh(before)
    assert float(own.entropy()) == pytest.approx(-float(own.log_prob(actions).mean()), abs=0.02)
    sampled = float((own.log_prob(actions) - other.log_prob(actions)).mean())
    assert float(divergence(own, other)) == pytest.approx(sampled, rel=0.02, abs=0.01)


def test_a_narrow_gaussian_and_its_squashed_twin_are_the_same_policy():
    """Near zero tanh is the identity, so that both families give the same executed actions."""
    low, high = torch.tensor([-1.0]), torch.tensor([1.0])
    own, twin = gaussian([0.02], [-3.0], low, high), squashed([0.02], [-3.0])
    for one, other in ((own, twin), (twin, own)):
        assert abs(float(divergence(one, other))) < 1e-3
    moved = squashed([0.12], [-3.0])
    assert float(divergence(own, moved)) == pytest.approx(float(divergence(twin, moved)), rel=0.1)


@quick
@given(means, log_stds, means, log_stds)
def test_the_divergence_of_two_families_is_that_of_the_bins_of_executed_actions(
    mean, log_std, other_mean, other_log_std
):
    own, other = gaussian([mean, 0.0], [log_std, 0.0]), squashed([other_mean, 0.1], [other_log_std, 0.0])
    edges = torch.linspace(-1, 1, BINS + 1)
    for one in (own, other):
        masses = one.log_masses(edges[1:-1])
        assert masses.shape == (1, 2, BINS)
        torch.testing.assert_close(masses.exp().sum(dim=-1), torch.ones(1, 2), rtol=1e-4, atol=1e-4)
    found = divergence(own, other)
    assert torch.isfinite(found).all()
    assert found >= -1e-4


def test_masses_against_values_worked_by_hand():
    """A Gaussian of deviation 1 in [-1, 1] is clipped at each bound with a chance of 0.1587."""
    own = gaussian([0.0], [0.0], torch.tensor([-1.0]), torch.tensor([1.0]))
    masses = own.log_masses(torch.tensor([-0.999999, 0.0, 0.999999])).exp()[0, 0]
    np.testing.assert_allclose(masses, [0.158655, 0.341345, 0.341345, 0.158655], atol=1e-5)
    wide = gaussian([0.0], [0.0], torch.tensor([-2.0]), torch.tensor([2.0]))  # the same edges are at 0 and 2 x 0.5
    np.testing.assert_allclose(
        wide.log_masses(torch.tensor([0.0, 0.5])).exp()[0, 0], [0.5, 0.341345, 0.158655], atol=1e-5
    )
    bent = squashed([0.0], [0.0]).log_masses(torch.tensor([math.tanh(1.0)])).exp()[0, 0]
    np.testing.assert_allclose(bent, [0.841345, 0.158655], atol=1e-5)


def test_masses_are_as_precise_in_the_upper_tail_as_in_the_lower():
    edges = torch.linspace(-1, 1, BINS + 1)[1:-1]
    for mean in (0.3, 3.0, 30.0):
        low, high = (squashed([sign * mean], [-2.0]).log_masses(edges) for sign in (-1, 1))
        torch.testing.assert_close(low, high.flip(-1), rtol=1e-3, atol=1e-3)


def test_the_mean_of_the_log_ratio_of_actions_taken_is_the_divergence():
    generator = torch.Generator().manual_seed(0)
    count = 100_000
    own = gaussian([0.3, -1.0], [-0.2, 0.5])
    drawn = own.mean + own.log_std.exp() * torch.randn(count, 2, generator=generator)
    for other in (gaussian([0.0, 0.0], [0.0, 0.0]), squashed([0.1, -0.4], [-0.2, 0.3])):
        many = [
            type(each)(*(part.expand(count, 2) if part.ndim == 2 else part for part in vars(each).values()))
            for each in (own, other)
        ]
        ratios = log_ratio(*many, drawn, many[0].log_prob(drawn))
        assert float(ratios.mean()) == pytest.approx(float(divergence(own, other)), rel=0.03)


def test_gradients_of_the_divergence_of_two_families_are_finite_and_point_to_the_reference():
    mean = torch.tensor([[6.0, -30.0]], requires_grad=True)
    log_std = torch.tensor([[-3.0, -5.0]], requires_grad=True)
    reference = gaussian([0.0, 0.0], [-1.0, -1.0], torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0]))
    divergence(SquashedGaussian(mean, log_std), reference).sum().backward()
    assert torch.isfinite(mean.grad).all()
    assert torch.isfinite(log_std.grad).all()
    mean = torch.tensor([[1.0, -1.0]], requires_grad=True)
    divergence(SquashedGaussian(mean, torch.full((1, 2), -1.0)), reference).sum().backward()
    assert mean.grad[0, 0] > 0 > mean.grad[0, 1]


def test_the_entropy_of_executed_actions_is_near_the_differential_one():
    own = squashed([0.2, -0.3], [-1.0, -0.5])
    assert float(executed_entropy(own)) == pytest.approx(float(own.entropy()), abs=0.01)


def test_discrete_actions_worked_by_hand():
    half, sure = (distributions.Categorical(probs=torch.tensor([probs])) for probs in ([0.5, 0.5], [0.9, 0.1]))
    own, other = Factored([half, half]), Factored([sure, half])
    assert float(own.entropy()) == pytest.approx(2 * math.log(2))
    assert float(divergence(own, other)) == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1))
    assert float(other.log_prob(torch.tensor([[1.0, 0.0]]))) == pytest.approx(math.log(0.1) + math.log(0.5))
    ratio = log_ratio(own, other, torch.tensor([[0.0, 1.0]]), own.log_prob(torch.tensor([[0.0, 1.0]])))
    assert float(ratio) == pytest.approx(math.log(0.5 / 0.9))


BOX = spaces.Box(-1, 1, (3,), np.float32)


@pytest.mark.parametrize(
    ("algo", "actions", "of"),
    [
        ("ppo", spaces.Box(-2, 2, (2,), np.float32), of_actor_critic),
        ("ppo", spaces.Discrete(3), of_actor_critic),
        ("a2c", spaces.MultiDiscrete([2, 3]), of_actor_critic),
        ("trpo", spaces.MultiBinary(4), of_actor_critic),
        ("sac", BOX, of_actor),
        ("tqc", BOX, of_actor),
        ("crossq", BOX, of_actor),
    ],
)
def test_policies_of_every_family_give_the_probabilities_of_their_own_actions(algo, actions, of):
    torch.manual_seed(0)
    policy = make_policy(resolve("cheetah", algo=algo), BOX, actions)
    policy.set_training_mode(False)
    seen = torch.randn(5, 3)
    with torch.no_grad():
        found = of(policy, seen)
        if algo in ("ppo", "a2c", "trpo"):
            taken, _, logs = policy(seen)
            taken = taken.float()
        else:
            taken, logs = policy.actor.action_log_prob(seen)
        torch.testing.assert_close(found.log_prob(taken), logs, rtol=1e-3, atol=1e-3)
        assert found.entropy().shape == (5,)
        torch.testing.assert_close(divergence(found, found), torch.zeros(5), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("algo", "of"), [("dqn", of_values), ("qrdqn", of_quantiles)])
def test_a_policy_of_values_takes_the_best_action_or_explores(algo, of):
    policy = make_policy(resolve("CartPole-v1", algo=algo), BOX, spaces.Discrete(4))
    seen = torch.randn(6, 3)
    with torch.no_grad():
        best, _ = policy.predict(seen.numpy(), deterministic=True)
        for exploration, sure in ((0.0, 1.0), (0.4, 0.7)):  # 0.6 + 0.4 / 4
            found = of(policy, seen, exploration)
            taken = torch.as_tensor(best, dtype=torch.float32)
            torch.testing.assert_close(found.log_prob(taken).exp(), torch.full((6,), sure), rtol=1e-4, atol=1e-4)
    expected = -(0.7 * math.log(0.7) + 3 * 0.1 * math.log(0.1))
    np.testing.assert_allclose(found.entropy(), np.full(6, expected), rtol=1e-4)


@quick
@given(st.lists(st.tuples(means, log_stds), min_size=3, max_size=3), st.integers(0, 100))
def test_a_draw_is_the_library_s_with_its_gradients(parameters, seed):
    drawn = []
    for draw in (squashed_draw, SquashedDiagGaussianDistribution(3).log_prob_from_params):
        mean, log_std = (torch.tensor([each, each], requires_grad=True) for each in zip(*parameters, strict=True))
        torch.manual_seed(seed)
        actions, log_prob = draw(mean, log_std)
        (actions.square().sum() + log_prob @ torch.tensor([1.0, -2.0])).backward()
        drawn.append((actions, log_prob, mean.grad, log_std.grad))
    for ours, theirs in zip(*drawn, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
