import gymnasium
import numpy as np
import pytest
from helpers import through_file
from test_tasks import FACTS

from prefrl.experience.make_env import make_env
from prefrl.experience.snapshots import _derived_names, load_env, save_env

CLASSIC = ["CartPole-v1", "Pendulum-v1", "Acrobot-v1", "MountainCarContinuous-v0"]
IDS = [facts[0] for facts in FACTS.values()] + CLASSIC


def act(env, rng):
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return int(rng.integers(env.action_space.n))
    return rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)


def play(env, steps, seed):
    """Everything that steps and resets give, as one array."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = env.step(act(env, rng))
        found.append(np.concatenate([observation, [reward, terminated, truncated]]).astype(np.float64))
        if terminated or truncated:
            found.append(np.concatenate([env.reset()[0], [0, 0, 0]]).astype(np.float64))
    return np.stack(found)


@pytest.mark.parametrize("env_id", IDS)
def test_a_restored_environment_steps_on_bit_for_bit_also_past_its_next_reset(tmp_path, env_id):
    env, other = make_env(env_id), make_env(env_id)
    env.reset(seed=0)
    play(env, 23, seed=1)
    saved = through_file(tmp_path, save_env(env))
    other.reset(seed=99)
    play(other, 5, seed=2)
    load_env(other, saved)
    steps = 60 if "Reacher" in env_id or "CartPole" in env_id else 30
    np.testing.assert_array_equal(play(env, steps, seed=3), play(other, steps, seed=3))
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])
    env.close()
    other.close()


def test_a_state_whose_arrays_were_saved_one_by_one_is_still_read():
    env, other = make_env("prefrl/Hopper-v0"), make_env("prefrl/Hopper-v0")
    for each, seed in ((env, 0), (other, 1)):
        each.reset(seed=seed)
        play(each, 10, seed=seed)
    saved = save_env(env)
    arrays = saved["simulator"]["mujoco"]
    parts = np.split(arrays["derived"], arrays.pop("sizes").cumsum()[:-1])
    data = env.unwrapped.data
    arrays["derived"] = {
        name: part.reshape(getattr(data, name).shape) for name, part in zip(_derived_names(), parts, strict=True)
    }
    load_env(other, saved)
    np.testing.assert_array_equal(play(env, 20, seed=3), play(other, 20, seed=3))


def test_a_snapshot_does_not_change_with_the_environment():
    env = make_env("prefrl/Hopper-v0")
    env.reset(seed=0)
    play(env, 10, seed=0)
    saved = save_env(env)
    first = play(env, 20, seed=1)
    load_env(env, saved)
    np.testing.assert_array_equal(first, play(env, 20, seed=1))
    load_env(env, saved)
    np.testing.assert_array_equal(first, play(env, 20, seed=1))
    env.close()


@pytest.mark.parametrize("env_id", ["prefrl/Reacher-v0", "Pendulum-v1"])
def test_the_time_limit_continues_where_it_stood(tmp_path, env_id):
    env, other = make_env(env_id), make_env(env_id)
    env.reset(seed=0)
    play(env, 40, seed=0)
    saved = through_file(tmp_path, save_env(env))
    other.reset()
    load_env(other, saved)
    horizon = env.spec.max_episode_steps
    ends = [bool(other.step(other.action_space.low)[3]) for _ in range(horizon - 40)]
    assert ends == [False] * (horizon - 41) + [True]
    env.close()
    other.close()


def test_an_unknown_simulator_cannot_be_saved():
    class Opaque(gymnasium.Env):
        pass

    assert save_env(Opaque()) is None


def test_saving_does_not_disturb_what_follows():
    one, other = make_env("prefrl/Ant-v0"), make_env("prefrl/Ant-v0")
    for env in (one, other):
        env.reset(seed=0)
    for round_ in range(4):
        save_env(one)
        np.testing.assert_array_equal(play(one, 5, seed=round_), play(other, 5, seed=round_))
    one.close()
    other.close()
