"""The KL penalty: the coefficient, the term of the reward, the loss of SAC, the copy of the reference, bad input."""

import math

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

from prefrl import load_policy, train
from prefrl.agents.distributions import Gaussian, SquashedGaussian, divergence
from prefrl.agents.kl_penalty import KLPenalty, KLTerm, adapted, damped
from prefrl.config import KLConfig
from prefrl.experience.recorder import Experience
from prefrl.runs.metrics import read_metrics

LOW, HIGH = -torch.ones(1), torch.ones(1)


class Target(gymnasium.Env):
    """The reward is minus the squared distance of the action from a goal, for episodes of ten steps."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, goal=0.5):
        self._goal = goal

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self._steps = 0
        return self._state(), {}

    def step(self, action):
        self._steps += 1
        return self._state(), -float(np.square(action - self._goal).sum()), False, self._steps == 10, {}

    def _state(self):
        return self.np_random.uniform(-1, 1, 1).astype(np.float32)


PPO = {
    "agent.n_envs": 2,
    "agent.n_steps": 128,
    "agent.batch_size": 64,
    "agent.n_epochs": 5,
    "agent.net_arch": [8],
    "round_steps": 512,
    "agent.learning_rate_decay": False,
    "agent.learning_rate": 0.01,
    "checkpoint_seconds": 0,
}
SAC = {
    "agent.n_envs": 2,
    "agent.n_steps": 8,
    "agent.net_arch": [16],
    "agent.batch_size": 32,
    "round_steps": 512,
    "off_policy.random_steps": 64,
    "agent.learning_rate": 3e-3,
    "off_policy.updates_per_step": 1.0,
    "off_policy.actor_interval": 1,  # so that few steps suffice
    "off_policy.layer_norm": False,
    "checkpoint_seconds": 0,
}
SETTINGS = {"ppo": PPO, "sac": SAC}


def made(root, algo="ppo", *, steps, settings=None, **arguments):
    """A run on the true reward."""
    own = SETTINGS[algo] | {"evaluation.episodes": 0} | (settings or {})
    return train(Target, algo=algo, teacher="none", mode="sync", steps=steps, out=root, settings=own, **arguments)


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Policies that were trained to go to 0.5, with deviations around 0.1."""
    folder = tmp_path_factory.mktemp("references")
    wide = {"agent.ent_coef": 0.05, "agent.normalise_reward": False}
    return {
        "ppo": made(folder / "ppo", "ppo", steps=4096, settings=wide).root,
        "sac": made(folder / "sac", "sac", steps=1024).root,
    }


def test_the_coefficient_follows_the_divergence_as_worked_by_hand():
    assert adapted(0.5, 3.0, 2.0, 1000, 10_000) == pytest.approx(0.5 * 1.02)  # an error of 0.5 counts as 0.2
    assert adapted(0.5, 2.2, 2.0, 1000, 10_000) == pytest.approx(0.5 * 1.01)
    assert adapted(0.5, 0.0, 2.0, 5000, 10_000) == pytest.approx(0.5 * 0.9)
    assert adapted(0.5, 9.0, 2.0, 99_000, 10_000) == pytest.approx(0.6)
    assert damped(0.5, 3.0, 2.0, 1.0) == pytest.approx(0.75)
    assert damped(0.5, 3.0, 2.0, 2.0) == pytest.approx(1.125)
    assert damped(0.5, 3.0, 2.0, 0.0) == 0.5
    assert damped(0.5, 99.0, 2.0, 1.0) == 1.0
    assert damped(0.5, 0.0, 2.0, 1.0) == 0.25


class Fixed:
    """A reference whose action is a Gaussian around the observation."""

    network = torch.nn.Linear(1, 1)
    network.device = "cpu"
    entropy = -1.0

    def distribution(self, observations):
        mean = torch.as_tensor(observations).reshape(-1, 1)
        return Gaussian(mean, torch.zeros_like(mean), LOW, HIGH)


def test_the_term_is_minus_beta_times_the_log_ratio_of_the_actions_taken():
    observations = np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2, 1)
    drawn = np.array([0.3, -2.0, 0.1, 1.5, 0.0, -0.7], np.float32)[:, None]
    policy = Gaussian(torch.full((6, 1), 0.2), torch.full((6, 1), math.log(0.5)), LOW, HIGH)
    logs = policy.log_prob(torch.as_tensor(drawn)).numpy().reshape(3, 2)
    over = np.zeros((3, 2), bool)
    experience = Experience(observations, observations, logs, over, over, observations)
    penalty = KLPenalty(KLConfig(reference="r", beta=0.3), Fixed())
    found = KLTerm(penalty, lambda: (drawn, policy))(experience, logs)
    own = -0.5 * ((drawn - 0.2) / 0.5) ** 2 - math.log(0.5)
    other = -0.5 * (drawn - observations.reshape(-1, 1)) ** 2
    np.testing.assert_allclose(found, -0.3 * (own - other).reshape(3, 2), rtol=1e-4, atol=1e-5)
    assert penalty.beta == 0.3
    adaptive = KLPenalty(KLConfig(reference="r", target=1e-3, horizon=60), Fixed())
    first = KLTerm(adaptive, lambda: (drawn, policy))(experience, logs)
    np.testing.assert_allclose(first, 0.2 / 0.3 * found, rtol=1e-4)  # by the coefficient before this rollout
    assert adaptive.beta == pytest.approx(2 * 0.2 * 1.02)  # the divergence is more than twice its target
    again = KLPenalty(KLConfig(reference="r", target=1e-3), Fixed())
    again.load_state_dict(adaptive.state_dict())
    assert again.state_dict() == adaptive.state_dict() == {"beta": adaptive.beta, "integral": pytest.approx(0.204)}


def test_the_charge_of_an_off_policy_agent_is_beta_times_the_divergence_with_gradients():
    mean = torch.zeros(2, 1, requires_grad=True)
    policy = SquashedGaussian(mean, torch.zeros(2, 1))
    observations = np.array([[0.5], [-0.5]], np.float32)
    penalty = KLPenalty(KLConfig(reference="r", beta=2.0), Fixed())
    charged = penalty.charge(policy, observations)
    torch.testing.assert_close(charged, 2 * divergence(policy, Fixed().distribution(observations)))
    charged.sum().backward()
    assert mean.grad[0] < 0 < mean.grad[1]  # towards the reference


AGAINST = [("ppo", "ppo"), ("sac", "sac"), ("ppo", "sac"), ("sac", "ppo")]
"""Agents, and of what kind their reference is."""


def opposed(root, algo, reference, penalty):
    """A run whose task rewards going to -0.5, while the reference goes to 0.5."""
    steps = {"ppo": 4096, "sac": 1000}[algo]
    return made(root, algo, steps=steps, env_kwargs={"goal": -0.5}, kl=penalty, reference=reference)


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "of"), AGAINST)
def test_a_huge_penalty_gives_the_behaviour_of_the_reference(algo, of, references, tmp_path):
    done = opposed(tmp_path / "held", algo, references[of], 1000.0)
    free = opposed(tmp_path / "free", algo, references[of], 0.0)
    states = np.linspace(-1, 1, 9, dtype=np.float32)[:, None]
    acts = [load_policy(root, Target)(states).mean() for root in (done.root, free.root, references[of])]
    assert acts[2] == pytest.approx(0.5, abs=0.15)
    assert acts[0] == pytest.approx(acts[2], abs=0.1)
    assert acts[1] < 0
    assert done.summary["kl_to_reference"] < 0.3
    assert free.summary["kl_to_reference"] > 1
    assert abs(done.summary["occupancy_divergence"]) < 0.3  # the states do not depend on the policy


@pytest.mark.slow
@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_an_adaptive_coefficient_holds_its_target(algo, references, tmp_path):
    steps, last = {"ppo": (14336, 12), "sac": (4000, 4)}[algo]
    settings = {"kl.horizon": 1000}
    goal = {"goal": -0.5}
    done = made(
        tmp_path / "run",
        algo,
        steps=steps,
        env_kwargs=goal,
        kl_target=0.5,
        reference=references[algo],
        settings=settings,
    )
    rows = read_metrics(done.root / "metrics.csv")
    held = [row["kl_to_reference"] for row in rows[-last:]]
    assert np.mean(held) == pytest.approx(0.5, rel=0.2)
    assert rows[0]["kl_beta"] != rows[-1]["kl_beta"]
