import math

import numpy as np
import pytest
import torch
from helpers import for_algo, same_tree, through_file
from sb3_contrib import QRDQN
from stable_baselines3 import DQN, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import Logger

from prefrl import load_policy, resume, train
from prefrl.agents.off_policy import OffPolicyAgent
from prefrl.agents.off_policy_algorithms import make_algorithm
from prefrl.agents.predicted_reward import PredictedReward
from prefrl.agents.reward_terms import AgentReward
from prefrl.errors import UsageError
from prefrl.experience.environments import make_stack
from prefrl.experience.inputs import Inputs
from prefrl.memory_check import memory_use
from prefrl.recipes import resolve
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.normalisation import MemoryNormalisation
from prefrl.runs.metrics import read_metrics
from prefrl.trained.exporting import export

SMALL = {
    "agent.n_envs": 2,
    "agent.n_steps": 4,
    "agent.batch_size": 16,
    "agent.net_arch": [8],
    "off_policy.random_steps": 20,
    "off_policy.updates_per_step": 0.4,
}
ALGOS = [
    ("reacher", "sac"),
    ("reacher", "tqc"),
    ("reacher", "crossq"),
    ("CartPole-v1", "dqn"),
    ("CartPole-v1", "qrdqn"),
]
RUN = SMALL | {
    "round_steps": 64,
    "reward.pretrain_comparisons": 32,
    "reward.comparisons_per_step": 0.5,
    "queries.segment_length": 10,
    "evaluation.episodes": 0,
}


def config_of(task="reacher", algo="sac", *, steps=320, teacher="oracle", **settings):
    return resolve(task, algo=algo, steps=steps, labels=6, teacher=teacher, mode="sync", settings=SMALL | settings)


def agent_of(config):
    stack = make_stack(config)
    return stack, OffPolicyAgent(config, stack, Logger(None, []))


class Worker:
    """A reward learner whose weights change when `fit` is called."""

    def __init__(self, config, features):
        torch.manual_seed(0)
        self.ensemble = RewardEnsemble(config.reward, Inputs((features,)))
        self.version, self.refreshed = 1, 0

    def refresh(self):
        self.refreshed += 1

    def fit(self):
        self.version += 1
        with torch.no_grad():
            for parameter in self.ensemble.parameters():
                parameter.add_(torch.randn_like(parameter))


def reward_of(config, stack, features=12):
    worker = Worker(config, features)
    predicted = PredictedReward(stack.recorder, worker, normalisation=MemoryNormalisation(0.5), replayed=True)
    return worker, AgentReward(predicted, {}, None)


def go(agent, reward, times=1):
    for _ in range(times):
        agent.collect(lambda: None)
        agent.improve(reward)


def test_all_rewards_of_the_memory_are_of_the_newest_weights_and_normalised_over_it():
    config = config_of(round_steps=16)
    stack, agent = agent_of(config)
    worker, reward = reward_of(config, stack)
    relabelled, relabel = [], reward.source.relabel
    reward.source.relabel = lambda steps: relabelled.append(agent._memory.added) or relabel(steps)
    go(agent, reward, 6)
    for _ in range(2):
        worker.fit()
        go(agent, reward, 4)  # at least once more than a round
        memory = agent._memory
        held = memory.features(np.arange(memory.added))
        outputs = worker.ensemble.predict(torch.from_numpy(held.reshape(-1, 12)))
        known = MemoryNormalisation(0.5)
        known.fit(outputs)
        expected = known(outputs, None).numpy().reshape(memory.added, 2)
        # The statistics are those of the last relabelling, since which few steps were added.
        assert np.corrcoef(memory.rewards[: memory.added].ravel(), expected.ravel())[0, 1] > 0.99
        assert memory.rewards[: relabelled[-1]].std() == pytest.approx(0.5, rel=1e-4)
        assert not memory.rewards[memory.added :].any()
    stack.top.close()


def test_the_metrics_get_each_step_s_predicted_and_true_reward_once():
    config = config_of(round_steps=16)
    stack, agent = agent_of(config)
    worker, reward = reward_of(config, stack)
    worker.fit()
    go(agent, reward, 5)
    predicted, true = reward.take_predictions()
    assert predicted.shape == true.shape == (40,)
    assert (true < 0).all()  # of reacher
    stack.top.close()


def test_without_a_reward_model_the_environment_s_rewards_are_replayed():
    stack, agent = agent_of(config_of(teacher="none"))
    go(agent, None, 8)
    assert (agent._memory.rewards[: agent._memory.added] < 0).all()
    stack.top.close()


def test_the_number_of_gradient_steps_follows_the_steps_taken():
    stack, agent = agent_of(config_of(teacher="none"))
    trained = []
    agent._model.train = lambda gradient_steps, batch_size: trained.append((agent.steps, gradient_steps, batch_size))
    go(agent, None, 6)
    # None at 8 and 16 steps. 0.4 a step are 3.2 each time: 3, 3, 3 and then 4, one less in total than they add up to.
    assert trained == [(24, 3, 16), (32, 3, 16), (40, 3, 16), (48, 3, 16)]
    assert agent._updates_due == pytest.approx(0.8)
    go(agent, None)
    assert trained[-1] == (56, 4, 16)
    stack.top.close()


@pytest.mark.parametrize(("task", "algo"), ALGOS)
@pytest.mark.parametrize("normalised", [False, True])
def test_training_resumes_exactly_from_a_saved_state(tmp_path, task, algo, normalised):
    settings = for_algo(
        algo,
        {
            "agent.normalise_observations": normalised,
            "off_policy.target_interval": 7,
            "off_policy.actor_interval": 2,
            "off_policy.return_steps": 3,
        },
    )
    config = config_of(task, algo, teacher="none", **settings)
    stack, agent = agent_of(config)
    go(agent, None, 20)
    pieces = {name: through_file(tmp_path, make()) for name, make in agent.pieces().items()}
    saved = through_file(tmp_path, {"agent": agent.state_dict(), "env": stack.state_dict()})
    go(agent, None, 20)
    expected = through_file(tmp_path, {"agent": agent.state_dict(), "env": stack.state_dict()})
    stack.top.close()

    stack, agent = agent_of(config_of(task, algo, teacher="none", **settings, seed=5))
    go(agent, None, 3)  # everything random is replaced by what was saved
    assert stack.load_state_dict(saved["env"])
    agent.load_state_dict(saved["agent"] | {"pieces": pieces}, exact=True)
    go(agent, None, 20)
    resumed = through_file(tmp_path, {"agent": agent.state_dict(), "env": stack.state_dict()})
    stack.top.close()
    for part in ("agent", "env"):
        for name in expected[part]:
            assert same_tree(expected[part][name], resumed[part][name]), name


def test_the_agent_starts_new_episodes_where_simulators_could_not_be_saved(tmp_path):
    stack, agent = agent_of(config_of(teacher="none"))
    go(agent, None, 4)
    saved = through_file(tmp_path, agent.state_dict())
    agent.load_state_dict(saved | {"pieces": {}}, exact=False)
    assert not np.array_equal(agent._model._last_obs, saved["last_observation"])
    assert agent.steps == 32
    stack.top.close()


def test_the_first_step_after_that_begins_where_the_new_episode_does(tmp_path):
    """With normalised observations, Stable-Baselines3 keeps the raw ones apart, and the memory stores those."""
    stack, agent = agent_of(config_of(teacher="none", **{"agent.normalise_observations": True}))
    go(agent, None, 4)
    saved = through_file(tmp_path, agent.state_dict())
    agent.load_state_dict(saved | {"pieces": {}}, exact=False)
    begun = stack.top.get_original_obs().copy()
    go(agent, None)
    memory = agent._memory
    first = memory.newest(agent._collected // memory.n_envs)[0]
    np.testing.assert_allclose(memory.observations[first], begun, rtol=1e-6)
    stack.top.close()


def test_algorithms_are_built_from_the_configuration():
    settings = {
        "agent.gamma": 0.9,
        "agent.batch_size": 48,
        "agent.net_arch": [8, 9],
        "off_policy.tau": 0.25,
        "off_policy.memory": 100,
        "off_policy.alpha": 0.125,
        "off_policy.alpha_learning_rate": 0.5,
        "off_policy.target_interval": 3,
        "off_policy.random_steps": 11,
    }
    config = config_of(**settings)
    stack = make_stack(config)
    sac = make_algorithm(config, stack.top)
    assert isinstance(sac, SAC)
    assert (sac.gamma, sac.batch_size, sac.tau, sac.learning_starts) == (0.9, 48, 0.25, 11)
    assert (sac.target_update_interval, sac.replay_buffer.buffer_size) == (3, 50)
    assert math.exp(sac.log_ent_coef.item()) == pytest.approx(0.125)
    sac.set_logger(Logger(None, []))
    sac._update_learning_rate([sac.actor.optimizer, sac.ent_coef_optimizer])
    assert sac.ent_coef_optimizer.param_groups[0]["lr"] == 0.5
    assert sac.actor.optimizer.param_groups[0]["lr"] == config.agent.learning_rate
    assert [layer.out_features for layer in sac.critic.q_networks[0] if hasattr(layer, "out_features")] == [8, 9, 1]
    stack.top.close()
    for algo, kind in (("dqn", DQN), ("qrdqn", QRDQN)):
        chosen = {
            "off_policy.exploration_fraction": 0.5,
            "off_policy.exploration_final": 0.25,
            "agent.max_grad_norm": 3,
        }
        config = config_of("CartPole-v1", algo, **chosen)
        stack = make_stack(config)
        model = make_algorithm(config, stack.top)
        assert isinstance(model, kind)
        assert (model.exploration_fraction, model.exploration_final_eps, model.max_grad_norm) == (0.5, 0.25, 3)
        stack.top.close()


@pytest.mark.parametrize(
    ("task", "algo", "hint"),
    [
        (
            "CartPole-v1",
            "sac",
            "sac needs actions of a Box space, and those of CartPole-v1 are Discrete: use --algo ppo",
        ),
        ("hopper", "dqn", "dqn needs actions of a Discrete space, and those of hopper are Box: use --algo ppo or"),
    ],
)
def test_an_algorithm_that_cannot_act_in_the_environment_is_refused(tmp_path, task, algo, hint):
    with pytest.raises(UsageError, match=hint):
        train(task, algo=algo, labels=6, out=tmp_path / "run", steps=10_000)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("algo", "over"), [("sac", "rollouts"), ("dqn", "aligned-rollouts"), ("ppo", "memory")])
def test_a_normalisation_of_the_other_family_is_refused(algo, over):
    with pytest.raises(UsageError, match=f"{algo} needs reward.normalise_over=.*, not {over}"):
        resolve("reacher", algo=algo, settings={"reward.normalise_over": over})


@pytest.mark.parametrize(
    ("name", "value"),
    [("memory", 0), ("updates_per_step", 0), ("tau", 1.5), ("alpha", 0), ("alpha_learning_rate", 0),
     ("random_steps", -1), ("log_std_min", 2), ("exploration_final", 1.5), ("exploration_fraction", -1),
     ("target_interval", 0)],
)  # fmt: skip
def test_settings_that_cannot_be_are_refused(name, value):
    with pytest.raises(UsageError, match=f"off_policy.{name}"):
        config_of(**{f"off_policy.{name}": value})


def test_the_memory_is_part_of_the_estimate_and_never_larger_than_the_run():
    def estimate(steps, memory):
        needs = memory_use(config_of(steps=steps, **{"off_policy.memory": memory}))
        return next(size for name, size in needs.items() if "off_policy.memory" in name)

    assert estimate(10**6, 10**5) == estimate(10**5, 10**6)
    step = 4 * (2 * 10 + 2 + 3)
    assert estimate(10**6, 10**5) == 10**5 * step
    rollout = config_of().agent.n_envs * config_of().agent.n_steps
    assert config_of(steps=10 * rollout + 1).memory_steps == 11 * rollout  # a run ends with a whole rollout
    assert config_of(steps=10**6, **{"off_policy.memory": 101}).memory_steps == 102  # steps of two environments


def test_a_run_that_ended_in_the_middle_of_a_rollout_is_resumed_with_more_steps(tmp_path):
    out = tmp_path / "run"
    made = train("reacher", algo="sac", mode="sync", labels=6, steps=250, out=out, settings=RUN)
    assert made.summary["steps"] > 250
    assert resume(out, labels=8, steps=400).summary["labels_answered"] == 8


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(("task", "algo"), [("reacher", "sac"), ("CartPole-v1", "qrdqn")])
def test_a_run_from_labels_is_resumed_played_and_exported(tmp_path, task, algo, mode):
    out = tmp_path / "run"
    made = train(task, algo=algo, mode=mode, labels=6, steps=256, out=out, settings=RUN)
    assert (made.summary["steps"], made.summary["labels_answered"], made.summary["algo"]) == (256, 6, algo)
    assert made.summary["reward_updates"] > 0
    longer = resume(out, labels=8, steps=400)  # with a larger memory
    assert (longer.summary["steps"], longer.summary["labels_answered"]) == (400, 8)
    policy = load_policy(out)
    exported = export(out, tmp_path / "agent.zip")
    model = {"SAC": SAC, "QRDQN": QRDQN}[exported.algorithm].load(exported.model)
    stack = make_stack(config_of(task, algo, teacher="none"))
    observation = stack.top.reset()
    np.testing.assert_allclose(
        policy.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0], rtol=1e-5
    )
    evaluate_policy(policy, stack.top, n_eval_episodes=1)
    stack.top.close()


def test_a_synchronous_run_is_the_same_again(tmp_path):
    rows = []
    for name in "ab":
        made = train("reacher", algo="sac", mode="sync", labels=6, steps=256, out=tmp_path / name, settings=RUN)
        rows.append({key: value for key, value in made.summary.items() if key.startswith(("true", "reward"))})
    assert rows[0] == rows[1]


@pytest.mark.parametrize(("task", "algo"), ALGOS)
def test_value_networks_start_anew_when_the_reward_changes(task, algo):
    settings = {"off_policy.fresh_critic": True, "off_policy.fresh_updates": 7}
    stack, agent = agent_of(config_of(task, algo, teacher="none", **settings))
    go(agent, None, 6)
    policy = agent._model.policy
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    trained = []
    agent._model.train = lambda gradient_steps, batch_size: trained.append(gradient_steps)
    agent.change_reward()
    go(agent, None)
    after = policy.state_dict()
    assert trained == [7 + 4]
    values = [name for name in after if name.endswith("weight") and not name.startswith("actor")]
    assert values
    assert not any(torch.equal(before[name], after[name]) for name in values)
    assert all(torch.equal(before[name], after[name]) for name in after if name.startswith("actor"))
    for name in values:
        if "_target" not in name and algo != "crossq":  # which has no target
            first = name.split(".")[0]
            assert torch.equal(after[name], after[name.replace(first, f"{first}_target", 1)])
    assert not getattr(policy, "critic", policy).optimizer.state
    go(agent, None)
    assert trained[1:] == [3]  # once
    stack.top.close()


def test_without_that_setting_they_are_kept():
    stack, agent = agent_of(config_of(teacher="none"))
    go(agent, None, 6)
    before = agent._model.critic.qf0[0].weight.clone()
    agent._model.train = lambda gradient_steps, batch_size: None
    agent.change_reward()
    go(agent, None)
    assert torch.equal(before, agent._model.critic.qf0[0].weight)
    stack.top.close()


def test_batches_have_a_share_of_the_newest_steps_only_while_labels_are_asked_for():
    stack, agent = agent_of(config_of(teacher="none", **{"off_policy.recent_steps": 8}))
    drawn = []
    agent._model.train = lambda **_: drawn.append((agent._memory.recent, agent._memory.recent_fraction))
    go(agent, None, 4)
    agent.asking = True
    go(agent, None, 2)
    agent.asking = False
    go(agent, None)
    assert drawn == [(0, 0.5), (0, 0.5), (8, 0.5), (8, 0.5), (0, 0.5)]
    stack.top.close()


SESSIONS = {"queries.session_steps": 64, "queries.session_labels": 2, "off_policy.recent_steps": 40}


def test_an_agent_knows_until_when_labels_are_asked_for(tmp_path, monkeypatch):
    asking, improve = {}, OffPolicyAgent.improve

    def watched(agent, reward):
        asking[agent.steps] = agent.asking
        improve(agent, reward)

    monkeypatch.setattr(OffPolicyAgent, "improve", watched)
    out = tmp_path / "run"
    train("reacher", algo="sac", mode="sync", labels=6, steps=256, out=out, settings=RUN | SESSIONS)
    (last,) = {step for step, asked in asking.items() if asked and not asking.get(step + 8, False)}
    rows = [row for row in read_metrics(out / "metrics.csv") if row["labels"] == 6]
    assert last == rows[0]["step"]  # that of the round in which the last label came
    assert not asking[256]
    resume(out, labels=8, steps=400)
    assert asking[264]  # at once, as there are more to come
    assert not asking[400]


def test_no_labels_are_asked_for_on_the_true_reward(tmp_path, monkeypatch):
    asking, improve = set(), OffPolicyAgent.improve
    monkeypatch.setattr(
        OffPolicyAgent, "improve", lambda agent, reward: asking.add(agent.asking) or improve(agent, reward)
    )
    train("reacher", algo="sac", teacher="none", steps=64, out=tmp_path / "run", settings=RUN | SESSIONS)
    assert asking == {False}
