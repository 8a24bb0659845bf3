"""Behaviour cloning: losses worked by hand, and policies that learn to act like a demonstrator."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from helpers import segment
from stable_baselines3.common.logger import Logger

from prefrl.agents.algorithms import make_policy
from prefrl.agents.cloning import clone, margin_loss
from prefrl.agents.off_policy_algorithms import copy_to_targets
from prefrl.agents.on_policy import OnPolicyAgent
from prefrl.config import replace
from prefrl.config.demonstration_config import DemonstrationConfig
from prefrl.experience.action_spaces import as_numbers
from prefrl.experience.demonstrations import Demonstrations
from prefrl.experience.environments import make_stack
from prefrl.recipes import resolve
from prefrl.registry import ALGORITHMS, located
from prefrl.seeding import stream

BOX = spaces.Box(-2.0, 2.0, (1,), np.float32)
SEEN = spaces.Box(-1.0, 1.0, (3,), np.float32)
QUICK = DemonstrationConfig(batches=300, batch_size=32, learning_rate=1e-2)


def test_the_margin_loss_by_hand():
    values = torch.tensor([[1.0, 0.5, 0.0], [3.0, 0.0, 0.0]])
    # First step, action 1: max(1 + 1, 0.5, 0 + 1) - 0.5 = 1.5. Second, action 0: max(3, 1, 1) - 3 = 0.
    assert margin_loss(values, torch.tensor([1, 0])).item() == pytest.approx(0.75)
    assert margin_loss(values, torch.tensor([[1], [0]]), margin=0.0).item() == pytest.approx(0.25)


def cloned(algo, space, config=QUICK):
    """A policy that has cloned a demonstrator, its losses, and the demonstrated steps."""
    torch.manual_seed(0)
    discrete = isinstance(space, spaces.Discrete)
    task = "CartPole-v1" if discrete else "reacher"
    run = replace(resolve(task, algo=algo), {"agent.net_arch": (16,)})
    policy = make_policy(run, SEEN, space)
    rng = np.random.default_rng(1)
    seen = rng.uniform(-1, 1, (500, 3)).astype(np.float32)
    actions = (seen[:, 0] > seen[:, 1]).astype(np.int64) if discrete else 1.5 * seen[:, :1] - 0.4 * seen[:, 1:2]
    numbers = as_numbers(space, actions)
    loss = located(ALGORITHMS[algo].cloning)
    losses = clone(policy, loss, lambda places: (seen[places], numbers[places]), 500, config, np.random.default_rng(2))
    return policy, losses, seen, actions


@pytest.mark.parametrize("algo", ["ppo", "sac", "tqc", "crossq"])
def test_a_policy_with_continuous_actions_learns_to_act_alike(algo):
    policy, losses, seen, actions = cloned(algo, BOX)
    error = np.abs(policy.predict(seen, deterministic=True)[0] - actions).mean()
    assert error < 0.25  # the actions' own deviation is 0.9
    assert np.mean(losses[-20:]) < np.mean(losses[:20])


@pytest.mark.parametrize("algo", ["ppo", "dqn", "qrdqn"])
def test_a_policy_with_discrete_actions_learns_to_act_alike(algo):
    policy, _, seen, actions = cloned(algo, spaces.Discrete(2))
    assert (policy.predict(seen, deterministic=True)[0] == actions).mean() > 0.95


def test_an_on_policy_agent_keeps_exploring():
    bound = math.log(0.5)
    policy, *_ = cloned("ppo", BOX, DemonstrationConfig(batches=300, learning_rate=5e-2, log_std_min=bound))
    assert policy.log_std.item() == pytest.approx(bound)
    policy, *_ = cloned("ppo", BOX, DemonstrationConfig(batches=300, learning_rate=5e-2, log_std_min=-20))
    assert policy.log_std.item() < bound - 0.5


def test_cloning_can_be_stopped_between_gradient_steps():
    told = []

    def tell():
        told.append(1)
        if len(told) == 3:
            raise KeyboardInterrupt

    policy = make_policy(resolve("reacher"), SEEN, BOX)
    seen, loss = np.zeros((4, 3), np.float32), located(ALGORITHMS["ppo"].cloning)
    with pytest.raises(KeyboardInterrupt):
        clone(policy, loss, lambda n: (seen[n], seen[n, :1]), 4, QUICK, np.random.default_rng(0), tell)
    assert len(told) == 3


def test_targets_of_value_networks_become_copies():
    policy = make_policy(resolve("CartPole-v1", algo="dqn"), SEEN, spaces.Discrete(2))
    with torch.no_grad():
        for weights in policy.q_net.parameters():
            weights.add_(1)
    copy_to_targets(SimpleNamespace(policy=policy))
    pairs = zip(policy.q_net.parameters(), policy.q_net_target.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_the_normalisation_gets_each_demonstrated_observation_once():
    config = replace(resolve("Pendulum-v1", teacher="none"), {"agent.n_envs": 2, "demonstrations.batches": 1})
    env = make_stack(config)
    agent = OnPolicyAgent(config, env, Logger(None, []))
    before, statistics = env.normaliser.obs_rms.count, env.normaliser.obs_rms
    episodes = tuple(segment(n, np.zeros(50), features=4) for n in range(3))
    how = config.demonstrations, stream(0, "demonstrations")
    agent.clone(Demonstrations("Pendulum-v1", {}, episodes[:2]), *how, lambda: None)
    assert statistics.count == pytest.approx(before + 100)
    agent.clone(Demonstrations("Pendulum-v1", {}, episodes), *how, lambda: None, known=2)
    assert statistics.count == pytest.approx(before + 150)
    seen = np.concatenate([each.observations for each in episodes])
    kept = statistics.mean * statistics.count - seen.sum(axis=0)  # what the reset had added
    assert np.abs(kept).max() < 2 * 8 + 1
    env.top.close()
