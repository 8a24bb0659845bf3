import dataclasses

import numpy as np
import pytest
import torch
from helpers import for_algo, same_tree, take_rollout, through_file
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticCnnPolicy

from prefrl import train
from prefrl.agents.algorithms import make_algorithm
from prefrl.agents.on_policy import OnPolicyAgent
from prefrl.agents.state import load_on_policy_state, on_policy_state
from prefrl.errors import UsageError
from prefrl.experience.environments import make_stack
from prefrl.machine.devices import choose_device
from prefrl.recipes import resolve
from prefrl.registry import ALGORITHMS, ON_POLICY, AlgorithmKind

SMALL = {"agent.n_envs": 2, "agent.n_steps": 32, "agent.batch_size": 16, "agent.n_epochs": 2, "agent.net_arch": [8]}
TASKS = [
    ("reacher", "ppo"),
    ("reacher", "a2c"),
    ("reacher", "trpo"),
    ("CartPole-v1", "ppo"),
    ("Pendulum-v1", "a2c"),
    ("moving-dot", "ppo"),
]


def build(task, algo, **settings):
    chosen = for_algo(algo, SMALL | {"steps": 320} | settings)
    config = resolve(task, algo=algo, teacher="none", settings=chosen)
    stack = make_stack(config)
    return stack, make_algorithm(config, stack.top)


class AtRollout(BaseCallback):
    """Calls a function at the start of a training, and another at the start of the n-th rollout."""

    def __init__(self, number, then, start=lambda model: None):
        super().__init__()
        self.number, self.then, self.start = number, then, start

    def _on_training_start(self):
        self.start(self.model)

    def _on_rollout_start(self):
        self.number -= 1
        if self.number == 0:
            self.then(self.model)

    def _on_step(self):
        return True


def finished(stack, model):
    return {"agent": on_policy_state(model), "env": stack.state_dict()}


@pytest.mark.parametrize(("task", "algo"), TASKS)
def test_training_resumes_exactly_from_a_saved_state(tmp_path, task, algo):
    stack, model = build(task, algo)
    saved = {}
    model.learn(320, AtRollout(3, lambda m: saved.update(through_file(tmp_path, finished(stack, m)))))
    expected = through_file(tmp_path, finished(stack, model))
    stack.top.close()

    stack, model = build(task, algo, seed=5)  # everything random is replaced by what was saved

    def restore(model):
        assert stack.load_state_dict(saved["env"])
        load_on_policy_state(model, saved["agent"], simulators_restored=True)

    model.learn(320, AtRollout(0, None, restore), reset_num_timesteps=False)
    resumed = through_file(tmp_path, finished(stack, model))
    stack.top.close()
    assert resumed["agent"]["steps"] == 320
    for part in ("agent", "env"):
        for name in expected[part]:
            assert same_tree(expected[part][name], resumed[part][name]), name


def test_the_state_changes_as_training_does(tmp_path):
    stack, model = build("Pendulum-v1", "ppo")
    states = []
    model.learn(192, AtRollout(2, lambda m: states.append(through_file(tmp_path, on_policy_state(m)))))
    assert not same_tree(states[0], through_file(tmp_path, on_policy_state(model)))
    stack.top.close()


def test_returns_and_lengths_of_finished_episodes_come_back_as_they_were(tmp_path):
    stack, model = build("Pendulum-v1", "ppo")
    model.learn(64)
    model.ep_info_buffer.extend({"r": -100.5 * n, "l": 200 + n} for n in range(1, 4))
    saved = through_file(tmp_path, on_policy_state(model))
    model.ep_info_buffer.clear()
    load_on_policy_state(model, saved, simulators_restored=True)
    assert [(info["r"], info["l"]) for info in model.ep_info_buffer][-3:] == [
        (-100.5, 201),
        (-201.0, 202),
        (-301.5, 203),
    ]
    stack.top.close()


def test_the_agent_starts_new_episodes_where_simulators_could_not_be_saved(tmp_path):
    stack, model = build("Pendulum-v1", "ppo")
    model.learn(64)
    saved = through_file(tmp_path, on_policy_state(model))
    model._last_obs = stack.top.reset()
    model._last_episode_starts = np.ones(2, dtype=bool)
    fresh = model._last_obs.copy()
    load_on_policy_state(model, saved, simulators_restored=False)
    np.testing.assert_array_equal(model._last_obs, fresh)
    assert model._last_episode_starts.all()
    assert model.num_timesteps == 64
    stack.top.close()


def test_random_states_come_back(tmp_path):
    stack, model = build("Pendulum-v1", "ppo")
    model.learn(64)
    saved = through_file(tmp_path, on_policy_state(model))
    first = torch.rand(3), np.random.random(3)  # noqa: NPY002
    load_on_policy_state(model, saved, simulators_restored=True)
    again = torch.rand(3), np.random.random(3)  # noqa: NPY002
    assert torch.equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    stack.top.close()


def test_the_algorithm_is_built_from_the_configuration():
    stack, ppo = build("reacher", "ppo", **{"agent.gamma": 0.9, "agent.gae_lambda": 0.8, "agent.log_std_init": -1.0})
    assert isinstance(ppo, PPO)
    assert (ppo.gamma, ppo.gae_lambda, ppo.n_steps, ppo.batch_size, ppo.n_epochs) == (0.9, 0.8, 32, 16, 2)
    assert ppo.policy.log_std.tolist() == [-1.0, -1.0]
    assert ppo.target_kl is None
    assert ppo.policy.mlp_extractor.policy_net[0].out_features == 8
    stack.top.close()
    stack, ppo = build("reacher", "ppo", **{"agent.target_kl": 0.03})
    assert ppo.target_kl == 0.03
    stack.top.close()
    for clip, limit, normalise in ((0.1, 0.3, False), (0.3, 0.7, True)):
        settings = {"agent.clip_range": clip, "agent.max_grad_norm": limit, "agent.normalise_advantage": normalise}
        stack, ppo = build("reacher", "ppo", **settings)
        assert (ppo.clip_range(1.0), ppo.max_grad_norm, ppo.normalize_advantage) == (clip, limit, normalise)
        stack.top.close()
        stack, a2c = build("reacher", "a2c", **settings)
        assert (a2c.max_grad_norm, a2c.normalize_advantage) == (limit, normalise)
        stack.top.close()
    stack, a2c = build("CartPole-v1", "a2c", **{"agent.ent_coef": 0.01})
    assert isinstance(a2c, A2C)
    assert a2c.ent_coef == 0.01
    stack.top.close()
    stack, trpo = build("reacher", "trpo", **{"agent.target_kl": 0.02})
    assert isinstance(trpo, TRPO)
    assert (trpo.target_kl, trpo.gae_lambda, trpo.n_critic_updates) == (0.02, 0.97, 2)
    stack.top.close()
    stack, trpo = build("reacher", "trpo")
    assert trpo.target_kl == 0.01
    stack.top.close()


@pytest.mark.parametrize("algo", ["ppo", "a2c"])
def test_images_get_a_convolutional_policy(algo):
    stack, model = build("moving-dot", algo)
    assert isinstance(model.policy, ActorCriticCnnPolicy)
    assert model.observation_space.shape == (4, 48, 48)
    model.learn(64)
    stack.top.close()


@pytest.mark.parametrize("decay", [False, True])
def test_the_learning_rate_may_fall_to_zero(decay):
    stack, model = build("reacher", "ppo", **{"agent.learning_rate_decay": decay, "agent.learning_rate": 1e-3})
    rates = [model.lr_schedule(remaining) for remaining in (1.0, 0.5, 0.0)]
    assert rates == pytest.approx([1e-3, 5e-4, 0.0] if decay else [1e-3] * 3)
    stack.top.close()


def test_the_learning_rate_may_fall_part_of_the_way():
    settings = {"agent.learning_rate_decay": True, "agent.learning_rate": 1e-3, "agent.learning_rate_end": 0.5}
    stack, model = build("reacher", "ppo", **settings)
    assert [model.lr_schedule(left) for left in (1.0, 0.5, 0.0)] == pytest.approx([1e-3, 7.5e-4, 5e-4])
    stack.top.close()


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="no GPU"):
        choose_device("cuda")
    assert choose_device("auto") == choose_device("cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == choose_device("cuda") == "cuda"
    assert choose_device("cpu") == "cpu"


def test_the_true_reward_is_hidden_when_a_reward_is_learned_and_counted_below():
    config = resolve("reacher", settings=SMALL | {"steps": 2000, "queries.labels": 10})
    stack = make_stack(config)
    assert stack.recorder is not None
    stack.top.reset()
    paid = [stack.top.step(np.ones((2, 2), np.float32)) for _ in range(50)]
    assert all((rewards == 0).all() for _, rewards, _, _ in paid)
    returns = [info["episode"]["r"] for info in paid[-1][3]]
    _, true, _ = take_rollout(stack.recorder)
    np.testing.assert_allclose(returns, true.sum(axis=0), rtol=1e-4)
    assert stack.normaliser.norm_reward is False
    stack.top.close()


class Unteachable(OnPolicyAgent):
    """An agent of a user's own: it collects experience and has it scored, and learns nothing."""

    scored = 0

    def improve(self, reward):
        buffer = self._model.rollout_buffer
        assert np.isfinite(reward(self._experience, buffer.log_probs)).all()
        type(self).scored += 1


def test_an_agent_of_one_s_own_is_one_registration(tmp_path, monkeypatch):
    kind = AlgorithmKind("prefrl.agents.algorithms:ppo", dataclasses.replace(ON_POLICY, agent=Unteachable))
    monkeypatch.setitem(ALGORITHMS, "unteachable", kind)
    steps = {"agent.n_envs": 2, "agent.n_steps": 32, "round_steps": 64, "reward.pretrain_comparisons": 32}
    run = train("cheetah", algo="unteachable", steps=256, labels=3, mode="sync", out=tmp_path / "run", settings=steps)
    summary = run.summary
    assert (summary["algo"], summary["steps"], summary["labels_answered"]) == ("unteachable", 256, 3)
    assert Unteachable.scored > 0
