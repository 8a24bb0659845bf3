"""SAC, and what TQC and CrossQ share with it."""

import itertools
import math

import pytest
import torch
from helpers import for_algo
from sb3_contrib import TQC, CrossQ
from stable_baselines3 import SAC
from test_off_policy import agent_of, config_of, go

from prefrl.agents import soft_actor_critic
from prefrl.agents.off_policy_algorithms import make_algorithm
from prefrl.agents.soft_actor_critic import with_layer_norm
from prefrl.experience.environments import make_stack


@pytest.mark.parametrize(("algo", "kind"), [("sac", SAC), ("tqc", TQC), ("crossq", CrossQ)])
@pytest.mark.parametrize("learned", [True, False])
def test_algorithms_of_maximum_entropy_share_their_settings(algo, kind, learned):
    settings = {
        "off_policy.actor_interval": 2,
        "off_policy.return_steps": 3,
        "off_policy.alpha": 0.125,
        "off_policy.learn_alpha": learned,
        "agent.gamma": 0.9,
        "agent.learning_rate": 0.25,
    }
    config = config_of("reacher", algo, **for_algo(algo, settings))
    stack = make_stack(config)
    model = make_algorithm(config, stack.top)
    assert isinstance(model, kind)
    assert (model.replay_buffer.n_steps, model.replay_buffer.gamma) == (3, 0.9)
    alpha = model.log_ent_coef.detach().exp() if learned else model.ent_coef_tensor
    assert float(alpha) == pytest.approx(0.125)
    assert model.critic.optimizer.param_groups[0]["lr"] == 0.25
    assert getattr(model, "policy_delay", 2) == getattr(model, "actor_interval", 2) == 2
    stack.top.close()


def test_the_actor_and_alpha_learn_at_each_interval_alone():
    stack, agent = agent_of(config_of(teacher="none", **{"off_policy.actor_interval": 3}))
    go(agent, None, 2)
    model = agent._model
    assert model._n_updates == 0
    states = []
    for _ in range(5):
        model.train(gradient_steps=1, batch_size=16)
        states.append((model.actor.mu.weight.clone(), model.log_ent_coef.item(), model.critic.qf0[0].weight.clone()))
    changed = [
        (not torch.equal(before[0], after[0]), before[1] != after[1], not torch.equal(before[2], after[2]))
        for before, after in itertools.pairwise(states)
    ]
    assert changed == [(False, False, True), (False, False, True), (True, True, True), (False, False, True)]
    stack.top.close()


@pytest.mark.parametrize(("batches", "drawn"), [(2, [32, 32, 16]), (9, [80]), (0.5, [16] * 5)])
def test_as_many_batches_are_drawn_at_once_as_fit(monkeypatch, batches, drawn):
    """Five batches of 16; those of images would else take gigabytes."""
    stack, agent = agent_of(config_of(teacher="none"))
    go(agent, None, 2)
    model, sizes = agent._model, []
    memory = model.replay_buffer
    numbers = 2 * memory.observations[0, 0].size + memory.actions[0, 0].size + 3  # of four bytes
    assert memory.step_bytes == 4 * numbers
    monkeypatch.setattr(soft_actor_critic, "_DRAWN_BYTES", int(batches * 16 * memory.step_bytes))
    sample = memory.sample
    monkeypatch.setattr(memory, "sample", lambda size, env: sizes.append(size) or sample(size, env))
    found = list(model._batches(5, 16))
    assert sizes == drawn
    assert [len(batch.rewards) for batch, _, _ in found] == [16] * 5
    for batch, observations, following in found:
        torch.testing.assert_close(batch.observations, torch.from_numpy(observations))
        torch.testing.assert_close(batch.next_observations, torch.from_numpy(following))
    stack.top.close()


def test_sac_s_targets_are_of_several_steps():
    stack, agent = agent_of(config_of(teacher="none", **{"off_policy.learn_alpha": False, "agent.gamma": 0.5}))
    go(agent, None, 2)
    model = agent._model
    batch = model.replay_buffer.sample(4)
    with torch.no_grad():
        for network in (model.critic, model.critic_target):
            for parameter in network.parameters():
                parameter.zero_()
    # With values of zero and no entropy term, the loss is half the squared return, for each of the two critics.
    for discount, done, value in ((0.25, 0.0, 1.0), (0.125, 0.0, 1.0), (0.25, 1.0, 1.0)):
        with torch.no_grad():
            for network in model.critic_target.q_networks:
                network[-1].bias.fill_(value)
        made = batch._replace(
            rewards=torch.full((4, 1), 2.0), discounts=torch.full((4, 1), discount), dones=torch.full((4, 1), done)
        )
        loss = model._critic_loss(made, made.next_observations.numpy(), torch.tensor(0.0))
        assert float(loss.detach()) == pytest.approx((2 + (1 - done) * discount * value) ** 2)
    stack.top.close()


def test_sac_s_entropy_coefficient_may_be_fixed():
    config = config_of(**{"off_policy.learn_alpha": False, "off_policy.alpha": 0.2})
    stack = make_stack(config)
    sac = make_algorithm(config, stack.top)
    assert sac.ent_coef_optimizer is None
    assert float(sac.ent_coef_tensor) == pytest.approx(0.2)
    stack.top.close()


@pytest.mark.parametrize(
    ("bound", "found"),
    [
        ("clamp", ((-9.0, -1.5), (-1.0, -1.0), (9.0, 2.0))),
        ("tanh", ((-99.0, -1.5), (0.0, 0.25), (0.5 * math.log(3), 1.125), (99.0, 2.0))),  # tanh 0 and 1/2
    ],
)
def test_the_bound_of_the_deviation_of_sac_s_actions(bound, found):
    config = config_of(**{"off_policy.log_std_min": -1.5, "off_policy.log_std_bound": bound})
    stack = make_stack(config)
    actor = make_algorithm(config, stack.top).actor
    with torch.no_grad():
        actor.log_std.weight.zero_()
        for bias, expected in found:
            actor.log_std.bias.fill_(bias)
            deviation = actor.get_action_dist_params(torch.zeros(1, 10))[1].unique()
            assert deviation.tolist() == pytest.approx([expected], rel=1e-6)
    stack.top.close()


def test_layer_normalisation_is_after_each_hidden_layer_of_both_critics_and_their_targets():
    config = config_of(**{"off_policy.layer_norm": True, "agent.net_arch": [8, 9]})
    stack = make_stack(config)
    sac = make_algorithm(config, stack.top)
    for network in (*sac.critic.q_networks, *sac.critic_target.q_networks):
        assert [type(layer).__name__ for layer in network] == ["Linear", "LayerNorm", "ReLU"] * 2 + ["Linear"]
    assert sac.critic.q_networks[0] is sac.critic.qf0
    optimised = {id(parameter) for group in sac.critic.optimizer.param_groups for parameter in group["params"]}
    assert optimised == {id(parameter) for parameter in sac.critic.parameters()}
    assert len(with_layer_norm(sac.critic.qf1)) == 9  # again, after each linear layer but the last
    stack.top.close()


class Drawn:
    """Gives these batches in turn, instead of drawing from the memory."""

    def __init__(self, batches):
        self.left = list(batches)

    def __call__(self, *args, **kwargs):
        return self.left.pop(0)


@pytest.mark.parametrize("learned", [True, False])
def test_a_gradient_step_of_sac_is_that_of_stable_baselines3(learned):
    settings = {"off_policy.learn_alpha": learned, "off_policy.target_interval": 2, "off_policy.tau": 0.1}
    states = []
    for theirs in (False, True):
        sizes = {"agent.net_arch": [16, 16], "off_policy.actor_interval": 1}
        stack, agent = agent_of(config_of(teacher="none", **settings, **sizes))
        go(agent, None, 4)
        model = agent._model
        draws = [model.replay_buffer.sample(16) for _ in range(5)]
        together = type(draws[0])(*(None if p[0] is None else torch.cat(p) for p in zip(*draws, strict=True)))
        model.replay_buffer.sample = Drawn(draws if theirs else [together])
        torch.manual_seed(7)
        (SAC if theirs else type(model)).train(model, gradient_steps=5, batch_size=16)
        alpha = model.log_ent_coef.item() if learned else 0.0
        states.append((model.policy.state_dict(), alpha, model._n_updates))
        stack.top.close()
    (ours, alpha, updates), (expected, their_alpha, their_updates) = states
    assert (alpha, updates) == (pytest.approx(their_alpha, rel=1e-5), their_updates)
    for name, tensor in expected.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-4, atol=1e-6, msg=name)
