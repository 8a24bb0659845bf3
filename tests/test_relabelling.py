"""When the rewards of a replay memory are computed again: for the whole memory, for each batch, or never."""

import itertools
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from runs import summary
from test_off_policy import RUN, SMALL, agent_of, config_of, go, reward_of
from test_replay import fill, memory

from prefrl import resume, train
from prefrl.agents import relabelling
from prefrl.agents.exploration import StateEntropy
from prefrl.agents.off_policy import OffPolicyAgent
from prefrl.agents.relabelling import RELABELLINGS
from prefrl.agents.replay import MemorySteps
from prefrl.config.off_policy_config import OffPolicyConfig
from prefrl.errors import UsageError
from prefrl.runs.metrics import read_metrics


class Numbers:
    """A reward of (step, environment, ...) features: ten times the step plus the environment, plus what `add` is."""

    def __init__(self):
        self.add, self.relabelled = 0.0, []

    def relabel(self, steps):
        self.relabelled.append(np.concatenate(list(steps)))
        return self.score(self.relabelled[-1])

    def score(self, steps):
        return 10 * steps[:, 0] + steps[:, 1] + self.add


def drawn(made, seed=3, count=64):
    np.random.seed(seed)  # noqa: NPY002
    return made.sample(count)


@pytest.mark.parametrize("n_steps", [1, 3])
@pytest.mark.parametrize("count", [1, 2, 64])
def test_a_batch_has_the_rewards_of_its_steps_and_draws_the_steps_that_it_would_draw_anyway(n_steps, count):
    """In a small batch, the rewards that a return sums are of no other step of the batch."""
    batches = []
    for rewritten in (True, False):
        made, reward = memory(10), Numbers()
        made.n_steps, made.gamma = n_steps, 0.5
        fill(made, 13)  # with the reward minus the step
        if rewritten:
            MemorySteps(made).write(reward.relabel(MemorySteps(made)))
        else:
            made.score = reward.score
        batches.append(drawn(made, count=count))
    for name in ("observations", "actions", "rewards", "next_observations", "dones"):
        torch.testing.assert_close(getattr(batches[0], name), getattr(batches[1], name), rtol=0, atol=0)
    if n_steps == 1:
        seen = batches[1].observations
        assert batches[1].rewards[:, 0].tolist() == (10 * seen[:, 0] + seen[:, 1]).tolist()


def test_a_batch_follows_the_reward_while_other_steps_keep_theirs():
    made, reward = memory(10), Numbers()
    made.n_steps = 1
    fill(made, 6)
    made.score = reward.score
    first = drawn(made, count=4)
    reward.add = 1000.0
    again = drawn(made, count=4)
    torch.testing.assert_close(again.rewards, first.rewards + 1000, rtol=0, atol=0)
    assert (made.rewards[:6] > 900).sum() <= 4  # the stored ones of other steps are still of the recording
    assert (made.rewards[:6] <= 0).any()


def test_the_memory_s_steps_come_oldest_first_and_can_be_a_sample_that_is_evenly_spaced():
    made = memory(10)
    fill(made, 13)  # steps 3 to 12 in the order 10 11 12 3 ... 9
    assert np.concatenate(list(made.parts(8))).tolist() == [3, 5, 8, 0]  # 4 of each of 2 environments
    assert np.concatenate(list(made.parts(1))).tolist() == [3]
    everything = [*range(3, 10), 0, 1, 2]
    assert np.concatenate(list(made.parts(20))).tolist() == np.concatenate(list(made.parts())).tolist() == everything
    assert list(memory(10).parts()) == []
    MemorySteps(made).write(np.arange(20.0))  # two environments
    assert made.rewards.tolist() == [[14, 15], [16, 17], [18, 19], *([n, n + 1] for n in range(0, 14, 2))]


def test_what_each_way_does_with_the_stored_rewards(monkeypatch):
    monkeypatch.setattr(relabelling, "SAMPLE", 8)
    found = {}
    for name, way in RELABELLINGS.items():
        made, reward = memory(10), Numbers()
        fill(made, 8)
        before = made.rewards.copy()
        way.renew(reward, made, True)
        first = made.rewards.copy()
        reward.add = 1000.0
        way.renew(reward, made, False)
        changed = [not np.array_equal(one, other) for one, other in ((before, first), (first, made.rewards))]
        found[name] = (changed, [len(steps) for steps in reward.relabelled], way.of_batches)
    assert found == {
        "memory": ([True, True], [16, 16], False),
        "batch": ([False, False], [8, 8], True),
        "never": ([True, False], [16, 8], False),
    }


def rewards_of_batches(way, normalise_over):
    """The rewards of batches drawn after each of some changes of the reward model, and the agent."""
    settings = {"round_steps": 8, "off_policy.relabel": way, "reward.normalise_over": normalise_over}
    config = config_of(**settings)
    stack, agent = agent_of(config)
    worker, reward = reward_of(config, stack)
    agent._model.train = lambda **_: None  # so that the policy, and what is collected, stays the same
    found = []
    for _ in range(4):
        worker.fit()
        go(agent, reward, 2)
        found.append(drawn(agent._memory).rewards.numpy().copy())
    stack.top.close()
    return np.array(found), agent


@pytest.mark.parametrize("over", ["memory", "comparisons"])
def test_relabelled_batches_equal_those_of_a_relabelled_memory(over):
    whole, _ = rewards_of_batches("memory", over)
    batches, _ = rewards_of_batches("batch", over)
    np.testing.assert_allclose(batches, whole, rtol=1e-4, atol=1e-5)
    assert np.abs(whole[1:] - whole[:-1]).max() > 0.1


def test_without_relabelling_steps_keep_the_reward_of_the_weights_of_their_time():
    settings = {"round_steps": 8, "off_policy.relabel": "never"}
    stack, agent = agent_of(config_of(**settings))
    worker, reward = reward_of(config_of(**settings), stack)
    kept = []
    for _ in range(4):
        worker.fit()
        go(agent, reward)
        kept.append(agent._memory.rewards[: agent._memory.added].copy())
    for earlier, later in itertools.pairwise(kept):
        np.testing.assert_array_equal(later[: len(earlier)], earlier)
    assert all(part.std() > 0 for part in kept)
    stack.top.close()


def test_a_changed_reward_is_given_to_all_steps_once_even_without_relabelling():
    stack, agent = agent_of(config_of(**{"round_steps": 8, "off_policy.relabel": "never"}))
    worker, reward = reward_of(config_of(), stack)
    exploration = StateEntropy(1.0, 2, 10, references=100)
    go(agent, exploration, 3)
    explored = agent._memory.rewards[:12].copy()
    assert (explored >= 0).all()
    assert explored.any()
    agent.change_reward()
    worker.fit()
    go(agent, reward)
    assert not np.isclose(agent._memory.rewards[:12], explored).any(axis=None)
    stack.top.close()


def test_training_on_the_true_reward_draws_the_stored_rewards():
    stack, agent = agent_of(config_of(teacher="none", **{"off_policy.relabel": "batch"}))
    go(agent, None, 4)
    assert agent._memory.score is None
    stack.top.close()


@pytest.mark.parametrize("way", ["batch", "never"])
@pytest.mark.parametrize(("task", "algo"), [("reacher", "sac"), ("CartPole-v1", "dqn")])
def test_runs_end_and_are_resumed(tmp_path, way, task, algo):
    out, chosen = tmp_path / "run", {"off_policy.relabel": way, "off_policy.return_steps": 2}
    made = train(task, algo=algo, mode="sync", labels=6, steps=192, out=out, settings=RUN | chosen)
    assert made.summary["labels_answered"] == 6
    resume(out, steps=320)
    assert summary(out)["steps"] == 320


def test_an_unknown_way_is_refused():
    with pytest.raises(UsageError, match=r"off_policy\.relabel must be one of memory, batch, never"):
        config_of(**{"off_policy.relabel": "always"})


def test_every_way_has_an_entry():
    assert set(get_args(get_type_hints(OffPolicyConfig)["relabel"])) == set(RELABELLINGS)


def times_of(agent, reward):
    """A list to which each relabelling adds the agent's steps."""
    steps, relabel = [], reward.source.relabel
    reward.source.relabel = lambda memory: steps.append(agent.steps) or relabel(memory)
    return steps


def test_rewards_are_computed_again_only_for_newer_weights_and_once_a_round():
    config = config_of(round_steps=32)
    stack, agent = agent_of(config)
    worker, reward = reward_of(config, stack)
    relabelled = times_of(agent, reward)
    for _ in range(16):
        go(agent, reward)  # 8 steps
        if agent.steps in {40, 48, 88}:
            worker.fit()
    # After a round, the memory is five times as large as that over which rewards were normalised. The newer weights
    # of 40, 48 and 88 wait for a round to have passed.
    assert relabelled == [8, 40, 72, 104]
    assert worker.refreshed < 16
    stack.top.close()


def test_weights_of_a_round_off_the_schedule_are_not_used_before_the_memory_has_them():
    """The last round of a run is, and the rounds of a run that is resumed with more steps are counted from it."""
    config = config_of(round_steps=32)
    stack, agent = agent_of(config)
    worker, reward = reward_of(config, stack)
    relabelled = times_of(agent, reward)
    agent.fitted()  # of no effect before the first training
    for _ in range(12):
        go(agent, reward)  # 8 steps
        if agent.steps in {48, 80}:
            worker.fit()
        if agent.steps in {48, 64, 80}:
            agent.fitted()
    assert relabelled == [8, 40, 56, 88]  # with the first training after the weights, and not without newer ones
    stack.top.close()


def test_the_agent_is_told_of_each_round(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(OffPolicyAgent, "fitted", lambda agent: told.append(agent.steps))
    settings = SMALL | {"round_steps": 96, "evaluation.episodes": 0}
    train("reacher", algo="sac", mode="sync", labels=6, steps=320, out=tmp_path / "run", settings=settings)
    rows = read_metrics(tmp_path / "run" / "metrics.csv")
    assert told == [int(row["step"]) for row in rows]
    assert len(told) >= 3


def test_the_rewards_of_a_model_that_never_changes_are_normalised_anew_as_the_memory_doubles():
    """Else those of all steps would be normalised over the first 16, at the start of the first episodes."""
    config = config_of(round_steps=16)
    stack, agent = agent_of(config)
    _, reward = reward_of(config, stack)
    relabelled = times_of(agent, reward)
    go(agent, reward, 20)
    assert relabelled == [8, 24, 48, 96]
    stack.top.close()
