"""The agent's networks for images."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticCnnPolicy
from stable_baselines3.common.torch_layers import NatureCNN

from prefrl.agents.algorithms import make_algorithm
from prefrl.agents.image_policy import IMAGE_NETWORKS, ImagePolicy, PolicyCNN
from prefrl.experience.environments import make_stack
from prefrl.machine import precision
from prefrl.machine.image_input import channels_last
from prefrl.recipes import resolve

SCREENS = spaces.Box(0, 255, (4, 84, 84), np.uint8)


def screens(count=6):
    return torch.from_numpy(np.random.default_rng(0).random((count, *SCREENS.shape), dtype=np.float32))


@pytest.fixture
def in_float32(monkeypatch):
    monkeypatch.setattr(precision, "_is_faster", lambda kind: False)


def test_nature_is_the_library_s_network(in_float32):
    theirs, ours = NatureCNN(SCREENS), PolicyCNN(SCREENS, "nature")
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(screens()), theirs(screens()))


@pytest.mark.parametrize("halves", [False, True])
def test_images_give_what_they_give_with_the_library(monkeypatch, halves):
    monkeypatch.setattr(precision, "_is_faster", lambda kind: halves)
    kwargs = {"features_extractor_class": PolicyCNN, "features_extractor_kwargs": {"network": "small"}, "net_arch": []}
    given = (SCREENS, spaces.Discrete(6), lambda _: 0.0)
    theirs, ours = ActorCriticCnnPolicy(*given, **kwargs), ImagePolicy(*given, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    seen = torch.randint(0, 256, (40, *SCREENS.shape), dtype=torch.uint8)
    seen[0, :, :16, :16] = torch.arange(256, dtype=torch.uint8).reshape(16, 16)  # every value
    near = {"rtol": 0.05, "atol": 0.02} if halves else {"rtol": 1e-5, "atol": 1e-6}  # weights are divided, not pixels
    torch.testing.assert_close(ours.extract_features(seen), theirs.extract_features(seen), **near)
    actions = torch.arange(40) % 6
    for policy in (theirs, ours):
        values, log_probs, entropy = policy.evaluate_actions(seen, actions)
        (values.sum() + log_probs.sum() + entropy.sum()).backward()
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        if halves:
            alike = torch.nn.functional.cosine_similarity(mine.grad.flatten(), other.grad.flatten(), dim=0)
            assert alike > 0.99
        else:
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-5, atol=1e-5 * float(other.grad.abs().max()))


def test_small_takes_a_third_of_the_work():
    def products(network):
        convolutions, features = IMAGE_NETWORKS[network]
        total, side, channels = 0, 84, 4
        for filters, size, stride in convolutions:
            side = (side - size) // stride + 1
            total += side**2 * filters * size**2 * channels
            channels = filters
        return total + side**2 * channels * features

    assert products("small") / products("nature") == pytest.approx(1 / 3, abs=0.03)
    assert PolicyCNN(SCREENS, "small")(screens()).shape == (6, 256)


@pytest.mark.parametrize("network", IMAGE_NETWORKS)
def test_the_faster_precision_is_close_and_float32_outside(network, monkeypatch):
    made = PolicyCNN(SCREENS, network)
    monkeypatch.setattr(precision, "_is_faster", lambda kind: False)
    exact = made(screens())
    monkeypatch.setattr(precision, "_is_faster", lambda kind: True)
    fast = made(screens())
    assert fast.dtype == torch.float32
    torch.testing.assert_close(fast, exact, rtol=0.05, atol=0.02 * float(exact.detach().abs().max()))
    assert not torch.equal(fast, exact)
    fast.sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in made.parameters())


def test_which_recipe_has_which():
    assert resolve("pong").agent.image_network == "small"
    assert resolve("pong", algo="a2c").agent.image_network == "nature"
    assert resolve("pong", recipe="paper").agent.image_network == "nature"


@pytest.mark.parametrize("halves", [False, True])
def test_all_ways_to_the_policy_give_the_same_numbers(halves, monkeypatch):
    monkeypatch.setattr(precision, "_is_faster", lambda kind: halves)
    kwargs = {"features_extractor_class": PolicyCNN, "features_extractor_kwargs": {"network": "small"}, "net_arch": []}
    policy = ImagePolicy(SCREENS, spaces.Discrete(6), lambda _: 0.0, **kwargs)
    seen = torch.randint(0, 256, (9, *SCREENS.shape), dtype=torch.uint8)
    actions, values, log_probs = policy(seen)
    assert torch.equal(policy.get_distribution(seen).log_prob(actions), log_probs)
    assert torch.equal(policy.predict_values(seen), values)
    again, evaluated, _ = policy.evaluate_actions(seen, actions)
    assert torch.equal(again, values)
    assert torch.equal(evaluated, log_probs)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_are_laid_out_as_torch_does(channels):
    images = torch.randint(0, 256, (5, channels, 7, 6), dtype=torch.uint8)
    for given in (images, images.contiguous(memory_format=torch.channels_last), images[::2, :, 1:]):
        ours = channels_last(given)
        assert torch.equal(ours, given)
        assert ours.is_contiguous(memory_format=torch.channels_last)
        assert channels_last(ours).data_ptr() == ours.data_ptr()  # not copied again


def test_ppo_on_images_has_the_library_s_optimiser_in_one_operation():
    made = make_algorithm(config := resolve("moving-dot", algo="ppo"), make_stack(config).top).policy.optimizer
    assert isinstance(made, torch.optim.Adam)
    assert made.defaults["fused"]
    assert (made.defaults["eps"], made.defaults["betas"], made.defaults["weight_decay"]) == (1e-5, (0.9, 0.999), 0)
