"""Networks and losses are chosen by name; a custom one needs one registration."""

import json

import numpy as np
import pytest
import torch
from helpers import Library, tiny_reward
from torch import nn

from prefrl.config import RunConfig, replace
from prefrl.errors import UsageError
from prefrl.experience.inputs import Inputs
from prefrl.recipes import resolve
from prefrl.registry import LOSSES, NETWORKS, LossKind, NetworkKind
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.image_networks import SmallCNN, StackedCNN
from prefrl.reward.learner import RewardLearner
from prefrl.reward.loss import preference_logit
from prefrl.reward.networks import RewardNetwork, StackedMLP


class Linear(RewardNetwork):
    """One weight a feature, and no bias."""

    def __init__(self, config, inputs):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(config.members, inputs.step[0], 1))

    def forward(self, steps):
        return (steps.expand(len(self.weight), *steps.shape[-2:]) @ self.weight)[..., 0]

    def squared_norm(self):
        return self.weight.square().sum(dim=(1, 2))


def hinge(rewards, batch, config):
    return (1 - (2 * batch.target - 1) * preference_logit(rewards)).relu()


def test_a_network_and_a_loss_of_one_s_own_are_one_registration_each(monkeypatch):
    monkeypatch.setitem(NETWORKS, "linear", NetworkKind(Linear))
    monkeypatch.setitem(LOSSES, "hinge", LossKind(hinge))
    settings = {"reward.network": "linear", "reward.loss": "hinge", "reward.pretrain_comparisons": 8}
    config = RunConfig.from_json(json.loads(json.dumps(resolve("reacher", settings=settings).to_json())))
    assert not config.images
    library = Library(400, features=4)
    learner = RewardLearner(config.reward, Inputs((4,)), 5, seed=0)
    assert isinstance(learner.ensemble.network, Linear)
    learner.add(library.comparisons(), library.read)
    learner.train(200 * config.reward.batch_size)
    x = library.features.reshape(-1, 4)
    assert np.corrcoef(learner.ensemble.score(x), x @ library.weights)[0, 1] > 0.95


def test_a_network_of_images_of_one_s_own_has_the_agent_see_images(monkeypatch):
    monkeypatch.setitem(NETWORKS, "mean", NetworkKind(Linear, images=True))
    assert resolve("moving-dot", settings={"reward.network": "mean"}).images


@pytest.mark.parametrize(("name", "kind"), [("mlp", StackedMLP), ("cnn", StackedCNN), ("small-cnn", SmallCNN)])
def test_the_configuration_s_name_chooses(name, kind):
    inputs = Inputs((4,) if name == "mlp" else (4, 48, 48))
    assert type(RewardEnsemble(tiny_reward(network=name), inputs).network) is kind


@pytest.mark.parametrize(
    ("name", "step", "told"),
    [
        ("cnn", (4,), "reward.network=cnn reads images, but the observations are vectors"),
        ("mlp", (4, 48, 48), "reward.network=mlp reads vectors, but the observations are images"),
    ],
)
def test_a_network_refuses_what_it_cannot_read(name, step, told):
    with pytest.raises(UsageError, match=f"^{told}$"):
        RewardEnsemble(tiny_reward(network=name), Inputs(step))


@pytest.mark.parametrize(
    ("setting", "near"),
    [("reward.network=cn", "did you mean cnn?"), ("reward.loss=bradley", "did you mean bradley-terry?")],
)
@pytest.mark.parametrize("teacher", ["oracle", "none"])
def test_a_name_that_does_not_exist_is_refused_with_the_nearest(setting, near, teacher):
    key, _, value = setting.partition("=")
    with pytest.raises(UsageError) as refused:
        resolve("reacher", teacher=teacher, settings={key: value})
    assert str(refused.value) == f"unknown {key} {value!r}; {near}"


def test_an_unknown_algorithm_in_a_configuration_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match=r"trpi.*trpo"):
        replace(resolve("cheetah"), {"algo": "trpi"}).validate()
