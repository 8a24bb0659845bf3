import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import for_algo, through_file
from hypothesis import given
from hypothesis import strategies as st

from prefrl import train
from prefrl.agents.exploration import Disagreement, StateEntropy, neighbour_distances
from prefrl.config.schema import RewardConfig
from prefrl.errors import UsageError
from prefrl.experience.inputs import Inputs
from prefrl.experience.recorder import Experience
from prefrl.recipes import resolve
from prefrl.reward.ensemble import RewardEnsemble


def rollout(states, actions=1):
    """An experience of one environment that visits these (T, D) states."""
    steps = len(states)
    features = np.concatenate([states, np.full((steps, actions), 9.0)], axis=1).astype(np.float32)[:, None]
    nothing, over = np.zeros((steps, 1), np.float32), np.zeros((steps, 1), bool)
    return Experience(features, nothing, nothing, over, over, features)


def test_distances_to_neighbours_against_values_worked_by_hand():
    line = np.array([[0.0], [1.0], [3.0], [10.0]])
    assert neighbour_distances(line, line, 1).tolist() == [0, 0, 0, 0]
    assert neighbour_distances(line, line, 2).tolist() == [1, 1, 2, 7]
    assert neighbour_distances(line, line, 3).tolist() == [3, 2, 3, 9]
    assert neighbour_distances(line, line, 9).tolist() == [10, 9, 7, 10]  # there are four
    assert neighbour_distances(np.array([[3.0, 4.0]]), np.zeros((1, 2)), 1).tolist() == [5]


@given(st.integers(1, 30), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_distances_grow_with_k_and_do_not_depend_on_the_order(count, length, seed):
    rng = np.random.default_rng(seed)
    states, references = rng.normal(size=(7, length)), rng.normal(size=(count, length))
    found = np.array([neighbour_distances(states, references, k) for k in range(1, count + 1)])
    assert (np.diff(found, axis=0) >= 0).all()
    again = neighbour_distances(states, rng.permutation(references), 1)
    np.testing.assert_allclose(again, found[0], rtol=1e-5, atol=1e-6)


def test_far_states_get_more_than_near_ones_and_actions_do_not_count():
    term = StateEntropy(2.0, 1, 2, references=10_000)
    states = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 2.0], [5.0, 2.0]])
    rewards = term(rollout(states), np.zeros((4, 1)))[:, 0]
    # Distances 1, 1, 1 and 5, of deviation sqrt(3), as the running statistics begin with a weight of 1e-4.
    np.testing.assert_allclose(rewards, 2 * np.array([1, 1, 1, 5]) / math.sqrt(3), rtol=1e-3)


def test_states_are_compared_with_those_of_earlier_rollouts_up_to_the_newest_so_many():
    term = StateEntropy(1.0, 1, 1, references=3)
    term(rollout(np.array([[0.0], [10.0]])), np.zeros((2, 1)))
    first = term(rollout(np.array([[11.0]])), np.zeros((1, 1)))
    scale = math.sqrt(term._distances.var)
    assert first * scale == pytest.approx(1, rel=1e-3)
    term(rollout(np.array([[12.0]])), np.zeros((1, 1)))  # 0 is forgotten
    relabelled = term.relabel([np.array([[0.0, 9.0]], np.float32), np.array([[12.0, 9.0]], np.float32)])
    np.testing.assert_allclose(relabelled * math.sqrt(term._distances.var), [11, 1], rtol=1e-3)
    assert term.renew()


def test_states_that_are_all_alike_get_nothing_and_no_nan():
    term = StateEntropy(1.0, 1, 1, references=10_000)
    for _ in range(3):
        assert term(rollout(np.zeros((500, 1))), None).tolist() == [[0.0]] * 500
    assert len(term._visited) == 1500


def test_nothing_visited_gives_nothing():
    assert StateEntropy(1.0, 5, 1, references=10_000).score(np.ones((3, 2), np.float32)).tolist() == [0, 0, 0]


def test_a_term_that_begins_with_a_memory_has_visited_its_last_states():
    """Else the memory's steps would have no reward until they are relabelled again, and new steps a full one."""
    term = StateEntropy(1.0, 1, 1, references=3)
    memory = [np.array([[9.0], [0.0]], np.float32), np.array([[1.0], [5.0]], np.float32)]
    relabelled = term.relabel(memory)
    # Of 0, 1 and 5. The distances that count are 1, 1 and 4; 9 is as far from its second neighbour, 1.
    np.testing.assert_allclose(relabelled * math.sqrt(term._distances.var), [8, 1, 1, 4], rtol=1e-3)
    assert term._distances.var == pytest.approx(2, rel=1e-3)
    again = term.relabel(memory)  # does not visit them again
    np.testing.assert_array_equal(relabelled, again)


def test_the_entropy_of_states_continues_from_a_saved_state(tmp_path):
    rng = np.random.default_rng(0)
    rollouts = [rollout(rng.normal(size=(20, 3))) for _ in range(6)]
    through, resumed = (StateEntropy(1.0, 3, 3, references=50) for _ in range(2))
    for each in rollouts[:4]:
        through(each, None)
    resumed.load_state_dict(through_file(tmp_path, through.state_dict()))
    for each in rollouts[4:]:
        np.testing.assert_array_equal(through(each, None), resumed(each, None))


def worker_of(outputs):
    """A learner whose members give these (K, N) outputs for steps that are numbered in their first feature."""
    ensemble = RewardEnsemble(RewardConfig(members=len(outputs)), Inputs((4,)))
    ensemble.predict = lambda steps: outputs[:, steps[:, 0].long()]
    return SimpleNamespace(ensemble=ensemble)


def test_disagreement_is_the_deviation_of_the_members_and_fades():
    outputs = torch.tensor([[0.0, 1.0, 2.0], [0.0, 3.0, 8.0]])
    term = Disagreement(0.5, 0.25, worker_of(outputs))
    steps = rollout(np.array([[0.0, 0, 0], [1, 0, 0], [2, 0, 0]]))
    # Deviations 0, 1 and 3; the coefficient is 0.5 * 0.75^3 after three steps.
    np.testing.assert_allclose(term(steps, None)[:, 0], 0.5 * 0.75**3 * np.array([0, 1, 3]), rtol=1e-6)
    np.testing.assert_allclose(term.relabel([steps.features[:, 0]]), 0.5 * 0.75**3 * np.array([0, 1, 3]), rtol=1e-6)
    assert not term.renew()
    other = Disagreement(0.5, 0.25, worker_of(outputs))
    other.load_state_dict(term.state_dict())
    np.testing.assert_allclose(other(steps, None)[:, 0], 0.5 * 0.75**6 * np.array([0, 1, 3]), rtol=1e-6)
    explored = Disagreement(0.5, 0.25, worker_of(outputs), steps=3)  # which fade it as in RUNE, whose t counts them
    np.testing.assert_allclose(explored(steps, None)[:, 0], 0.5 * 0.75**6 * np.array([0, 1, 3]), rtol=1e-6)


def test_disagreement_does_not_depend_on_the_members_scales():
    outputs = torch.tensor([[0.0, 1.0, 2.0], [0.0, 30.0, 80.0]])
    worker = worker_of(outputs)
    worker.ensemble.output_normaliser.std.copy_(torch.tensor([[1.0], [10.0]]))
    worker.ensemble.output_normaliser.scale.fill_(0.25)  # that of the predicted reward
    found = Disagreement(1.0, 0.0, worker).relabel([np.arange(3, dtype=np.float32)[:, None]])
    np.testing.assert_allclose(found, [0, 0.25, 0.75], rtol=1e-6)


SETTINGS = {
    "agent.n_envs": 2,
    "agent.n_steps": 16,
    "agent.net_arch": [8],
    "round_steps": 64,
    "reward.pretrain_comparisons": 32,
    "queries.segment_length": 10,
    "evaluation.episodes": 0,
    "exploration.steps": 160,
}


@pytest.mark.parametrize("algo", ["sac", "ppo"])
def test_the_agent_trains_before_the_first_labels(tmp_path, monkeypatch, algo):
    trained, steps = [], {"off_policy.random_steps": 20, "off_policy.fresh_critic": True, "off_policy.fresh_updates": 5}
    call = StateEntropy.__call__
    monkeypatch.setattr(StateEntropy, "__call__", lambda *args: trained.append(1) or call(*args))
    terms = {"exploration.state_entropy": 0.1, "exploration.disagreement": 0.05}
    settings = for_algo(algo, SETTINGS | steps | terms)
    made = train("reacher", algo=algo, mode="sync", labels=6, steps=320, out=tmp_path / "run", settings=settings)
    assert made.summary["steps"] == 320
    # Five rollouts of 32 steps before the labels, and five after them with the term.
    assert len(trained) == 10


def test_images_and_exploring_to_the_end_are_refused():
    with pytest.raises(UsageError, match="vectors, not images"):
        resolve("moving-dot", settings={"exploration.steps": 1000})
    with pytest.raises(UsageError, match="less than --steps"):
        resolve("hopper", steps=100_000, settings={"exploration.steps": 100_000})
    with pytest.raises(UsageError, match=r"exploration\.neighbours"):
        resolve("hopper", settings={"exploration.neighbours": 0})
    with pytest.raises(UsageError, match=r"disagreement_decay must be in \[0, 1\)"):
        resolve("hopper", settings={"exploration.disagreement_decay": 1.0})
