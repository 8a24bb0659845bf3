"""Entropy and divergence of states: values worked by hand, and distributions whose values are known."""

import math

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from helpers import quick
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import digamma
from stable_baselines3.common.vec_env import DummyVecEnv

from prefrl.agents.state_statistics import knn_divergence, knn_entropy, state_features
from prefrl.experience.visited import VisitedStates


def test_the_entropy_of_three_states_worked_by_hand():
    # Distances to the nearest other state: 1, 1 and 3. The unit ball of one dimension has the volume 2.
    states = np.array([[0.0], [1.0], [4.0]])
    expected = math.log(3) / 3 + math.log(2) + digamma(3) - digamma(1)
    assert knn_entropy(states, k=1) == pytest.approx(expected, rel=1e-6)
    assert knn_entropy(states, k=3) is None


@pytest.mark.parametrize("length", [1, 3])
def test_the_entropy_of_a_gaussian_and_what_its_units_add(length):
    states = np.random.default_rng(0).normal(size=(2000, length)).astype(np.float32)
    expected = 0.5 * length * math.log(2 * math.pi * math.e)
    assert knn_entropy(states) == pytest.approx(expected, abs=0.15)
    assert knn_entropy(4 * states) - knn_entropy(states) == pytest.approx(length * math.log(4), abs=1e-4)


def test_the_divergence_of_few_states_worked_by_hand():
    # Neighbours of the two states: each other, at 2, and references at 1; both over the references' deviation.
    states, references = np.array([[0.0], [2.0]]), np.array([[-2.0], [3.0], [-2.0], [1.0]])
    scale = references.std()
    among, between = np.array([2, 2]) / scale, np.array([1, 1]) / scale
    expected = np.log(between / among).mean() + math.log(4 / 1)
    assert knn_divergence(states, references, k=1) == pytest.approx(expected, rel=1e-5)
    assert knn_divergence(states, references, k=2) is None


@pytest.mark.parametrize("moved", [0.0, 1.0, 2.0])
def test_the_divergence_of_gaussians(moved):
    rng = np.random.default_rng(0)
    references, states = rng.normal(size=(2000, 3)), rng.normal(size=(1000, 3))
    states[:, 0] += moved
    found = knn_divergence(states.astype(np.float32), references.astype(np.float32))
    assert found == pytest.approx(moved**2 / 2, rel=0.2, abs=0.2)  # too low where one has no states
    scaled = [part * np.array([1000.0, 1.0, 0.01]) for part in (states, references)]
    assert knn_divergence(*(part.astype(np.float32) for part in scaled)) == pytest.approx(found, abs=0.01)


@quick
@given(st.integers(0, 2**32 - 1), st.integers(6, 40))
def test_states_that_never_move_and_parts_that_are_constant_give_finite_numbers(seed, count):
    rng = np.random.default_rng(seed)
    still, moving = np.ones((count, 2), np.float32), rng.normal(size=(count, 2)).astype(np.float32)
    half = np.concatenate([still, moving], axis=1)
    for one, other in ((still, still), (still, moving), (moving, still), (half, half)):
        assert math.isfinite(knn_divergence(one, other))
        assert math.isfinite(knn_entropy(one))


def test_images_are_compared_by_the_means_of_their_cells():
    images = np.zeros((2, 4, 14, 14), np.uint8)
    images[1, -1, :2, 2:4] = 255
    images[1, 0] = 99  # an older frame
    found = state_features(images)
    assert found.shape == (2, 49)
    np.testing.assert_array_equal(np.flatnonzero(found[1]), [1])
    assert found[1, 1] == 1
    assert state_features(np.zeros((3, 2, 5))).shape == (3, 10)
    assert state_features(np.zeros((2, 1, 3, 5), np.uint8)).shape == (2, 15)  # smaller than the cells


class Count(gymnasium.Env):
    """It counts its steps."""

    observation_space, action_space = spaces.Box(0, 1e6, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.count = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.count += 1
        return np.array([self.count], np.float32), 0.0, False, False, {}


def counted(every, most, steps):
    env = VisitedStates(DummyVecEnv([Count, Count]), every, most)
    env.reset()
    for _ in range(steps):
        env.step(np.zeros(2, int))
    return env


def test_every_so_many_states_are_kept_up_to_the_newest():
    assert counted(3, 100, 10).take().ravel().tolist() == [3, 3, 6, 6, 9, 9]
    env = counted(1, 4, 10)
    assert env.take().ravel().tolist() == [9, 9, 10, 10]
    assert env.take().shape == (0, 1)


def test_kept_states_continue_from_a_saved_state():
    env, other = counted(2, 100, 5), counted(2, 100, 0)
    other.load_state_dict(env.state_dict())
    for each in (env, other):
        each.step(np.zeros(2, int))
    assert len(env.take()) == len(other.take()) == 6
