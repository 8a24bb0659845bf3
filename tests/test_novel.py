"""Novel behaviours: scripted rewards pay for the behaviour they are named after."""

import gymnasium
import mujoco
import numpy as np
import pytest
from prefrl_envs import TASKS


@pytest.fixture
def hopper():
    env = gymnasium.make("prefrl/HopperBackflip-v0")
    env.reset(seed=0)
    yield env
    env.close()


def spin(env, rate, height=1.5, frames=1):
    """Throw the hopper up, turning, and add up what it is paid."""
    base = env.unwrapped
    total, info = 0.0, {}
    for _ in range(frames):
        base.data.qpos[1], base.data.qvel[:] = height, 0
        base.data.qvel[2] = rate
        mujoco.mj_forward(base.model, base.data)
        _, reward, _, _, info = env.step(np.zeros(3))
        total += reward
    return total, info


def test_backward_rotation_pays_more_the_higher_it_is(hopper):
    backward, forward = spin(hopper, -5)[0], spin(hopper, 5)[0]
    assert backward > 5
    assert forward < -5
    assert spin(hopper, -5, height=2.0)[0] > backward


def test_rocking_does_not_pay(hopper):
    there_and_back = spin(hopper, -6)[0] + spin(hopper, 6)[0]
    assert abs(there_and_back) < 0.5


def test_its_angle_is_seen_as_a_direction_that_does_not_grow_with_turns(hopper):
    base = hopper.unwrapped
    seen = []
    for turns in (0, 3):
        base.data.qpos[:], base.data.qvel[:] = 0, 0
        base.data.qpos[1:3] = 5.0, 0.7 + 2 * np.pi * turns
        mujoco.mj_forward(base.model, base.data)
        seen.append(hopper.step(np.zeros(3))[0])
    np.testing.assert_allclose(*seen, atol=1e-6)
    assert seen[0][1:3] == pytest.approx([np.sin(0.7), np.cos(0.7)], abs=0.05)
    assert seen[0].shape == hopper.observation_space.shape


def test_its_observation_after_a_reset_is_of_the_same_kind(hopper):
    observation, _ = hopper.reset(seed=1)
    assert hopper.observation_space.contains(observation)
    assert observation[2] == pytest.approx(1, abs=1e-3)


def test_whole_turns_are_counted(hopper):
    _, info = spin(hopper, -9, frames=200)  # 0.008 s each: some 14 rad
    assert info["flips"] == 2


def test_one_leg_pays_for_speed_and_a_front_foot_in_the_air():
    env = gymnasium.make("prefrl/CheetahOneLeg-v0")
    env.reset(seed=0)
    base = env.unwrapped
    paid = {}
    for pitch in (0.0, -0.6):
        base.data.qpos[:], base.data.qvel[:] = 0, 0
        base.data.qpos[1], base.data.qpos[2] = 0.1, pitch
        mujoco.mj_forward(base.model, base.data)
        height = base.data.body("ffoot").xpos[2]
        paid[height] = env.step(np.zeros(6))[1]
    low, high = sorted(paid)
    assert high > low + 0.2
    assert paid[high] > paid[low] + 0.5
    env.close()


@pytest.mark.parametrize("name", ["hopper-backflip", "cheetah-one-leg", "enduro-even"])
def test_each_has_an_instruction_for_a_person(name):
    assert len(TASKS[name].instruction) > 60
    assert TASKS[name].horizon in {300, 1000, None}


def test_driving_level_pays_and_passing_costs():
    env = gymnasium.make("prefrl/EnduroEven-v0", noops=0)
    env.reset(seed=0)
    fire, brake = 1, 4
    standing = [env.step(0)[1] for _ in range(15)][-1]
    driving = [env.step(fire)[1] for _ in range(35)]
    assert 0 < standing < 0.05
    assert max(driving) == pytest.approx(0.1)
    assert min(driving) < -0.85  # it has passed a car
    braking = [env.step(brake)[1] for _ in range(40)]
    assert min(braking) < -0.85  # a car has passed it
    env.close()
