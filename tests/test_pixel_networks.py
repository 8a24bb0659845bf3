"""The convolutional reward model of images: the paper's layers, dropout, batch statistics, and resuming."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import film, same_tree, through_file
from prefrl_envs.moving_dot import SIZE

from prefrl.config import RewardConfig
from prefrl.errors import UsageError
from prefrl.experience.inputs import Inputs
from prefrl.feedback.terms import Label
from prefrl.recipes import resolve
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.image_networks import SmallCNN, StackedCNN
from prefrl.reward.learner import RewardLearner

DOT = Inputs((4, SIZE, SIZE), stack=4)
HEAD = ["Flatten", "Linear", "LeakyReLU", "Linear"]


def test_the_network_is_the_paper_s() -> None:
    network = StackedCNN(3, (4, 84, 84), negative_slope=0.01, dropout=0.5)
    assert len(network.members) == 3
    convolutions = [layer for layer in network.members[0] if isinstance(layer, torch.nn.Conv2d)]
    assert [(c.kernel_size[0], c.stride[0], c.out_channels) for c in convolutions] == [
        (7, 3, 16),
        (5, 2, 16),
        (3, 1, 16),
        (3, 1, 16),
    ]
    kinds = [type(layer).__name__ for layer in network.members[0]]
    assert kinds[0] == "ImageConvolution"
    assert kinds[1:] == (["Conv2d", "BatchNorm2d", "LeakyReLU", "Dropout"] * 4)[1:] + HEAD
    linear = [layer for layer in network.members[0] if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(16 * 7 * 7, 64), (64, 1)]
    assert {layer.negative_slope for layer in network.members[0] if isinstance(layer, torch.nn.LeakyReLU)} == {0.01}
    assert {layer.p for layer in network.members[0] if isinstance(layer, torch.nn.Dropout)} == {0.5}


def test_members_differ_and_see_their_own_images() -> None:
    ensemble = RewardEnsemble(resolve("moving-dot").reward, DOT).eval()
    images = torch.randint(0, 255, (3, 5, 4, SIZE, SIZE), dtype=torch.uint8)
    shared = ensemble(images[0])
    assert shared.shape == (3, 5)
    assert not torch.allclose(shared[0], shared[1])
    each = ensemble.forward_each(images)
    for member in range(3):
        torch.testing.assert_close(each[member], ensemble(images[member])[member], rtol=0.05, atol=1e-3)


def test_the_small_network_is_that_of_mnih_et_al() -> None:
    network = SmallCNN(2, (4, 84, 84), negative_slope=0.01, dropout=0.5)
    kinds = [type(layer).__name__ for layer in network.members[1]]
    assert kinds == ["ImageConvolution", "LeakyReLU", "Conv2d", "LeakyReLU", *HEAD]
    convolutions = [layer for layer in network.members[1] if isinstance(layer, torch.nn.Conv2d)]
    assert [(c.kernel_size[0], c.stride[0], c.out_channels) for c in convolutions] == [(8, 4, 16), (4, 2, 32)]
    linear = [layer for layer in network.members[1] if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(32 * 9 * 9, 64), (64, 1)]


@pytest.mark.parametrize("name", ["cnn", "small-cnn"])
def test_prediction_is_what_the_layers_give_one_after_the_other(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("prefrl.machine.precision._is_faster", lambda kind: False)
    network = RewardEnsemble(resolve("moving-dot", settings={"reward.network": name}).reward, DOT).network
    images = torch.randint(0, 255, (150, 4, SIZE, SIZE), dtype=torch.uint8)
    with torch.no_grad():
        network.train()(images)  # batch normalisation has something to do
        given = network.eval()(images)
        for member, predicted in zip(network.members, given, strict=True):
            torch.testing.assert_close(predicted, member(images / 255)[:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["cnn", "small-cnn"])
@pytest.mark.parametrize("shared", [True, False])
def test_a_large_offset_costs_no_precision(monkeypatch: pytest.MonkeyPatch, name: str, shared: bool) -> None:
    """No comparison determines the offset. In bfloat16, numbers near 30 differ by an eighth."""
    monkeypatch.setattr("prefrl.machine.precision._is_faster", lambda kind: True)
    network = RewardEnsemble(resolve("moving-dot", settings={"reward.network": name}).reward, DOT).network.eval()
    images = torch.randint(0, 255, (60, 4, SIZE, SIZE), dtype=torch.uint8)
    images = images if shared else images.expand(3, *images.shape)
    with torch.no_grad():
        before = network(images)
        for member in network.members:
            member[-1].bias += 30
        after = network(images)
    torch.testing.assert_close(after - 30, before, rtol=0, atol=1e-5)
    assert min(len(set(values)) for values in after.tolist()) > 50


def test_images_are_only_divided_by_255() -> None:
    learner = RewardLearner(resolve("moving-dot").reward, DOT, 15, seed=0)
    films = {number: (film(15, size=SIZE, seed=number).features, np.zeros(15, np.float32)) for number in range(4)}
    learner.add([Label(1, (0, 1), 1.0), Label(2, (2, 3), 0.0)], films.__getitem__)
    white = learner.ensemble.predict(torch.full((1, 4, SIZE, SIZE), 255, dtype=torch.uint8))
    learner.ensemble.eval()
    for member, predicted in zip(learner.ensemble.network.members, white, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(predicted, member(torch.ones(1, 4, SIZE, SIZE))[:, 0], rtol=0.05, atol=1e-3)


def test_dropout_is_off_where_rewards_are_predicted() -> None:
    ensemble = RewardEnsemble(resolve("moving-dot", settings={"reward.network": "cnn"}).reward, DOT)
    steps = torch.randint(0, 255, (6, 4, SIZE, SIZE), dtype=torch.uint8)
    ensemble.train()
    torch.testing.assert_close(ensemble.predict(steps), ensemble.predict(steps))
    assert ensemble.training  # as it was
    assert not torch.allclose(ensemble(steps), ensemble(steps))


def test_prediction_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = RewardEnsemble(resolve("moving-dot").reward, DOT)
    steps = torch.randint(0, 255, (7, 4, SIZE, SIZE), dtype=torch.uint8)
    whole = ensemble.predict(steps)
    monkeypatch.setattr("prefrl.reward.ensemble._CHUNK_NUMBERS", 2 * 4 * SIZE * SIZE)
    torch.testing.assert_close(ensemble.predict(steps), whole)


@pytest.mark.parametrize(("name", "size"), [("cnn", (84, 42)), ("cnn", (30, 84)), ("small-cnn", (19, 84))])
def test_images_too_small_for_the_convolutions_are_refused(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="too small"):
        RewardEnsemble(RewardConfig(network=name), Inputs((4, *size)))
    if name == "small-cnn":
        RewardEnsemble(RewardConfig(network=name), Inputs((4, 20, 84)))  # the smallest that fits


def test_output_deviation_is_the_paper_s() -> None:
    assert resolve("pong").reward.target_std == 0.05
    assert resolve("hopper").reward.target_std == 1.0


@pytest.mark.parametrize("name", ["cnn", "small-cnn"])
def test_a_learner_of_images_learns_and_resumes_exactly(tmp_path, name: str) -> None:
    """Brighter films are better; dropout's random state is part of the saved state."""
    settings = {"reward.network": name, "reward.batch_size": 8, "reward.learning_rate": 3e-3}
    config = resolve("moving-dot", settings=settings).reward
    bright = np.linspace(0, 250, 24)
    films = {
        number: (np.full((8, SIZE, SIZE), level, np.uint8), np.full(5, level, np.float32))
        for number, level in enumerate(bright)
    }
    rng = np.random.default_rng(0)
    pairs = [rng.choice(24, 2, replace=False) for _ in range(40)]
    comparisons = [Label(n + 1, (int(a), int(b)), float(a > b)) for n, (a, b) in enumerate(pairs)]
    through, other = (RewardLearner(config, DOT, 5, seed=0) for _ in range(2))
    through.add(comparisons, films.__getitem__)
    through.train(8 * 10)
    other.load_state_dict(through_file(tmp_path, through.state_dict()), comparisons, films.__getitem__)
    for learner in (through, other):
        learner.train(8 * 20)
    assert same_tree(through.state_dict(), other.state_dict())
    through.normalise()
    levels = np.stack([np.full((4, SIZE, SIZE), level, np.uint8) for level in bright])
    assert np.corrcoef(through.ensemble.score(levels), bright)[0, 1] > 0.7


def test_the_penalty_is_on_all_weights_of_an_image_network_and_on_nothing_else() -> None:
    network = StackedCNN(2, (4, SIZE, SIZE), negative_slope=0.01, dropout=0.5)
    for member in network.members:
        for layer in member:
            if isinstance(layer, torch.nn.BatchNorm2d):
                torch.nn.init.constant_(layer.weight, 7.0)
    for member, norm in zip(network.members, network.squared_norm().tolist(), strict=True):
        kernels = [weight for name, weight in member.named_parameters() if weight.ndim > 1]
        assert [weight.ndim for weight in kernels] == [4, 4, 4, 4, 2, 2]
        assert norm == pytest.approx(sum(float(weight.detach().double().pow(2).sum()) for weight in kernels), rel=1e-5)


def image_learner(members: int = 2) -> RewardLearner:
    settings = {"reward.network": "cnn", "reward.batch_size": 4, "reward.members": members}
    learner = RewardLearner(resolve("moving-dot", settings=settings).reward, DOT, 5, seed=0)
    films = np.random.default_rng(0).integers(0, 255, (12, 8, SIZE, SIZE), dtype=np.uint8)
    comparisons = [Label(n + 1, (n, (n + 1) % 12), float(n % 2)) for n in range(12)]
    learner.add(comparisons, lambda number: (films[number], np.zeros(5, np.float32)))
    return learner


def test_validation_neither_drops_out_nor_moves_the_batch_statistics() -> None:
    learner = image_learner()
    modes = []
    forward = learner.ensemble.forward_each
    learner.ensemble.forward_each = lambda steps: (modes.append(learner.ensemble.training), forward(steps))[1]
    learner.train(4 * 8)
    assert modes == [True, True, True, True, False] * 2  # at each fourth step it validates
    layers = [layer for layer in learner.ensemble.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert {int(layer.num_batches_tracked) for layer in layers} == {8}


def test_dropout_continues_where_the_last_call_left_off() -> None:
    whole, parts = image_learner(), image_learner()
    whole.train(4 * 8)
    parts.train(4 * 4)
    torch.rand(5)  # the agent draws too
    parts.train(4 * 4)
    assert same_tree(whole.state_dict(), parts.state_dict())
