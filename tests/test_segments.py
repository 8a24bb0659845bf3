import itertools

import numpy as np
import pytest
from gymnasium import spaces
from helpers import CountingEnv, no_ends, quick, same_tree, take_rollout, through_file
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from prefrl.assembly import recorder_inputs
from prefrl.experience.recorder import SegmentRecorder
from prefrl.experience.segment import Segment
from prefrl.recipes import resolve


def recorder(envs=2, length=3, pool=1000, *, hide_endings=False, **options):
    lengths = options.pop("lengths", (7, 4))
    made = [CountingEnv(lengths, tag=tag, **options) for tag in range(envs)]
    return SegmentRecorder(DummyVecEnv([lambda env=env: env for env in made]), length, pool, hide_endings=hide_endings)


def actions(env, rng):
    if isinstance(env.action_space, spaces.Discrete):
        return rng.integers(env.action_space.n, size=env.num_envs)
    return rng.uniform(-1, 1, size=(env.num_envs, 2)).astype(np.float32)


def roll(env, steps, seed=0, *, reset=True, take=True):
    """Step at random; the recorder's rollout is taken every 5 steps, and at the end, unless told not to."""
    rng = np.random.default_rng(seed)
    if reset:
        env.reset()
    returned = []
    for step in range(1, steps + 1):
        returned.append(env.step(actions(env, rng)))
        if take and isinstance(env, SegmentRecorder) and (step % 5 == 0 or step == steps):
            take_rollout(env)
    return returned


def logged(venv, tag):
    """What an environment's own log says, cut back to back within episodes by the slowest means."""
    return venv.envs[tag].log


def expected_segments(log, length, lengths, truncate):
    """Back to back within episodes; of one that terminated, the last steps too, unless they are a segment already."""
    cuts = []
    for number, episode in itertools.groupby(log, key=lambda step: step[3]):
        steps = list(episode)
        starts = list(range(0, len(steps) - length + 1, length))
        terminated = not truncate and len(steps) == lengths[number % len(lengths)]
        if terminated and len(steps) > length and len(steps) % length:
            starts.append(len(steps) - length)
        cuts += [steps[start : start + length] for start in starts]
    return cuts


@quick
@given(
    st.integers(1, 3),
    st.integers(1, 6),
    st.lists(st.integers(1, 9), min_size=1, max_size=4),
    st.sampled_from([0, 4]),
    st.booleans(),
    st.booleans(),
)
def test_segments_are_what_the_environments_saw(envs, length, lengths, discrete, hide, truncate):
    env = recorder(envs, length, lengths=lengths, discrete=discrete, hide_endings=hide, truncate=truncate)
    roll(env, 40)
    for tag in range(envs):
        expected = expected_segments(logged(env.venv, tag), length, lengths, truncate)
        found = [segment for segment in env.pool if segment.observations[0, 0] == tag]
        assert len(found) == len(expected)
        for segment, steps in zip(found, expected, strict=True):
            np.testing.assert_array_equal(segment.observations, [step[0] for step in steps])
            np.testing.assert_array_equal(segment.true_rewards, [step[2] for step in steps])
            taken = np.array([step[1] for step in steps])
            np.testing.assert_array_equal(segment.actions, np.eye(4)[taken] if discrete else taken)


@pytest.mark.parametrize("truncate", [False, True])
def test_a_segment_lies_within_one_episode_and_has_no_gap(truncate):
    env = recorder(length=3, lengths=(7, 4), truncate=truncate)
    roll(env, 60)
    for segment in env.pool:
        episodes, times = segment.observations[:, 1], segment.observations[:, 2]
        assert (episodes == episodes[0]).all()
        np.testing.assert_array_equal(np.diff(times), 1)
        np.testing.assert_array_equal(segment.true_rewards, 100 * episodes + times + 1)
    starts = {segment.observations[0, 2] for segment in env.pool}
    # Back to back from an episode's start; where it terminated after 7 or 4 steps, its last three too.
    assert starts == ({0, 3} if truncate else {0, 3, 4, 1})


@pytest.mark.parametrize("rollouts", [[40], [1] * 40, [5] * 8, [6, 1, 7, 3, 23]])
def test_an_episode_s_last_steps_are_found_wherever_a_rollout_ends(rollouts):
    """Episodes of 8, 3, 2, 6 and 7 steps: the second and fourth end with a segment, the third is too short for one."""
    env = recorder(envs=1, length=3, lengths=(8, 3, 2, 6, 7))
    env.reset()
    for steps in rollouts:
        for _ in range(steps):
            env.step(np.zeros((1, 2), np.float32))
        take_rollout(env)
    found = [(int(s.observations[0, 1]), s.observations[:, 2].astype(int).tolist()) for s in env.pool]
    first, second = [0, 1, 2], [3, 4, 5]
    whole = [(0, first), (0, second), (0, [5, 6, 7]), (1, first), (3, first), (3, second)]
    whole += [(4, first), (4, second), (4, [4, 5, 6])]
    again = [(5, first), (5, second), (5, [5, 6, 7]), (6, first)]
    assert found == whole + again
    assert [segment.id for segment in env.pool] == list(range(len(found)))


@pytest.mark.parametrize("hide", [False, True])
@pytest.mark.parametrize("truncate", [False, True])
def test_the_step_that_ends_an_episode_says_how_it_ended(truncate, hide):
    """Episodes of 8 and 6 steps. As in Hopper, a fall terminates them, or else a time limit; hidden from the agent."""
    env = recorder(envs=1, length=3, lengths=(8, 6), truncate=truncate, hide_endings=hide)
    roll(env, 28)
    for segment in env.pool:
        lasts = (8, 6)[int(segment.observations[0, 1]) % 2]
        ends = segment.observations[:, 2] == lasts - 1
        np.testing.assert_array_equal(segment.terminated, ends & (not truncate))
        np.testing.assert_array_equal(segment.truncated, ends & truncate)
        assert segment.terminated.dtype == segment.truncated.dtype == bool
    assert sum(segment.terminated.any() for segment in env.pool) == (0 if truncate else 4)
    assert sum(segment.truncated.any() for segment in env.pool) == (2 if truncate else 0)


def test_segments_of_several_environments_are_in_the_order_of_their_first_steps():
    env = recorder(envs=2, length=3, lengths=(7, 4))
    roll(env, 9, take=False)
    take_rollout(env)
    assert [tuple(s.observations[0].astype(int).tolist()) for s in env.pool] == [
        (0, 0, 0),
        (1, 0, 0),
        (0, 0, 3),
        (1, 0, 3),
        (0, 0, 4),
        (1, 0, 4),
    ]


def test_a_state_of_an_older_version_continues_without_the_steps_it_did_not_keep(tmp_path):
    through, other = recorder(envs=1, length=5, lengths=(7,)), recorder(envs=1, length=5, lengths=(7,))
    roll(through, 6)
    roll(other.venv, 6)
    state = through_file(tmp_path, through.state_dict())
    del state["kept"]
    state["open"]["0"] = {name: array[5:] for name, array in state["open"]["0"].items()}
    other.load_state_dict(state)
    roll(other, 8, reset=False)
    assert [s.observations[0, 1:].tolist() for s in other.pool] == [[0, 0], [1, 0], [1, 2]]


def test_a_state_of_an_older_version_has_no_ends(tmp_path):
    through, other = recorder(envs=1, length=4, lengths=(4,)), recorder(envs=1, length=4, lengths=(4,))
    roll(through, 10)
    roll(other.venv, 10)
    state = through_file(tmp_path, through.state_dict())
    assert [segment.terminated.tolist() for segment in through.pool] == [[False, False, False, True]] * 2
    for arrays in (*state["pool"].values(), *state["open"].values()):
        del arrays["e"]
    other.load_state_dict(state)
    roll(other, 2, reset=False)
    assert [bool(segment.terminated.any()) for segment in other.pool] == [False, False, True]


def test_a_segment_may_end_with_the_episode():
    env = recorder(envs=1, length=4, lengths=(4,))
    roll(env, 12)
    assert [segment.observations[:, 2].tolist() for segment in env.pool] == [[0, 1, 2, 3]] * 3


def test_no_segment_is_cut_where_episodes_are_too_short():
    env = recorder(length=5, lengths=(4,))
    roll(env, 40)
    assert len(env.pool) == 0


def test_ids_are_serial_numbers_and_the_pool_keeps_the_newest():
    env = recorder(envs=2, length=2, pool=5, lengths=(10,))
    roll(env, 20)
    assert env.recorded == 20
    assert [segment.id for segment in env.pool] == [15, 16, 17, 18, 19]


def test_ids_count_up_with_time_whatever_the_environment():
    env = recorder(envs=3, length=2, lengths=(10,))
    roll(env, 10)
    assert [segment.id for segment in env.pool] == list(range(15))
    firsts = [(segment.observations[0, 2], segment.observations[0, 0]) for segment in env.pool]
    assert firsts == [(start, tag) for start in range(0, 10, 2) for tag in range(3)]


def test_segments_of_a_rollout_come_in_the_order_in_which_they_began():
    """Environments that are out of step with each other and with the rollouts: some steps wait for the next one."""
    made = [CountingEnv(lengths, tag=tag, truncate=True) for tag, lengths in enumerate([(7, 4), (5, 8, 6), (11,)])]
    env = SegmentRecorder(DummyVecEnv([lambda env=env: env for env in made]), 3, 1000)
    env.reset()
    found, rng = [], np.random.default_rng(0)
    for _ in range(12):
        before = env.recorded
        for _ in range(5):
            env.step(actions(env, rng))
        take_rollout(env)
        new = [segment for segment in env.pool if segment.id >= before]
        starts = []
        for segment in new:
            tag, *began = segment.observations[0].astype(int).tolist()
            seen = [step[0].astype(int).tolist()[1:] for step in made[tag].log]
            starts.append((seen.index(began), tag))
        assert starts == sorted(starts)
        found += starts
    assert len(found) > 40


def test_segments_do_not_change_once_cut():
    env = recorder(length=3, lengths=(9,))
    roll(env, 3)
    kept = [segment.features.copy() for segment in env.pool]
    roll(env, 30, seed=1, reset=False)
    for before, segment in zip(kept, env.pool, strict=False):
        np.testing.assert_array_equal(before, segment.features)


def test_the_agent_gets_fresh_zeros():
    env = recorder(length=2)
    env.reset()
    rng = np.random.default_rng(0)
    for _ in range(10):
        _, rewards, _, _ = env.step(actions(env, rng))
        assert (rewards == 0).all()
        rewards += 9.0  # as Stable-Baselines3 does at a time limit
    take_rollout(env)
    assert env.pool
    assert all((segment.true_rewards < 900).all() for segment in env.pool)
    for segment in env.pool:
        expected = 100 * segment.observations[:, 1] + segment.observations[:, 2] + 1
        np.testing.assert_array_equal(segment.true_rewards, expected)


def test_reset_drops_partial_segments():
    env = recorder(envs=1, length=3, lengths=(9,))
    roll(env, 2)
    roll(env, 4, seed=1)
    (segment,) = env.pool
    assert segment.observations[:, 1:].tolist() == [[1, 0], [1, 1], [1, 2]]


def test_a_rollout_is_every_step_since_the_last_call():
    env = recorder(envs=2, length=3)
    roll(env, 9, take=False)
    features, true, dones = take_rollout(env)
    assert features.shape == (9, 2, 5)
    assert true.shape == dones.shape == (9, 2)
    assert features.dtype == true.dtype == np.float32
    for tag in range(2):
        log = logged(env.venv, tag)
        np.testing.assert_array_equal(features[:, tag, :3], [step[0] for step in log])
        np.testing.assert_array_equal(features[:, tag, 3:], [step[1] for step in log])
        np.testing.assert_array_equal(true[:, tag], [step[2] for step in log])
    assert np.flatnonzero(dones[:, 0]).tolist() == [6]
    roll(env, 4, seed=1, reset=False, take=False)
    assert take_rollout(env)[0].shape == (4, 2, 5)


def test_a_rollout_s_features_are_those_of_the_segments():
    env = recorder(envs=1, length=7, lengths=(7,))
    roll(env, 7, take=False)
    features, true, _ = take_rollout(env)
    np.testing.assert_array_equal(features[:, 0], env.pool[0].features)
    np.testing.assert_array_equal(true[:, 0], env.pool[0].true_rewards)
    assert features.shape[2] == recorder_inputs(resolve("hopper"), env).step[0] == 5


def test_discrete_actions_are_one_hot_and_counted_as_features():
    env = recorder(envs=2, length=2, discrete=4)
    roll(env, 10)
    assert recorder_inputs(resolve("hopper"), env).step == (7,)
    for segment in env.pool:
        assert segment.actions.shape == (2, 4)
        assert (segment.actions.sum(axis=1) == 1).all()
        assert set(segment.actions.ravel()) == {0.0, 1.0}


def test_actions_are_recorded_as_clipped_and_observations_as_not_normalised():
    env = recorder(envs=2, length=3, pool=100)
    top = VecNormalize(env, norm_reward=False)
    model = PPO("MlpPolicy", top, n_steps=32, batch_size=32, n_epochs=1, device="cpu", seed=0)
    model.policy.log_std.data += 2
    model.learn(32)
    assert np.abs(model.rollout_buffer.actions).max() > 1
    features, _, _ = take_rollout(env)
    assert np.abs(features[..., 3:]).max() == 1
    for tag in range(2):
        log = logged(env.venv, tag)
        np.testing.assert_array_equal(features[:, tag, :3], [step[0] for step in log])
        np.testing.assert_array_equal(features[:, tag, 3:], [step[1] for step in log])
    assert not np.array_equal(model.rollout_buffer.observations, features[..., :3])
    for segment in env.pool:
        np.testing.assert_array_equal(segment.observations[:, 2], np.round(segment.observations[:, 2]))


@pytest.mark.parametrize("hide", [False, True])
def test_hidden_endings_look_like_time_limits(hide):
    env = recorder(envs=1, hide_endings=hide, lengths=(4,))
    ends = [infos[0] for _, _, dones, infos in roll(env, 12) if dones[0]]
    assert len(ends) == 3
    assert [info["TimeLimit.truncated"] for info in ends] == [hide] * 3
    assert all(info["terminal_observation"].tolist()[2] == 4 for info in ends)


@pytest.mark.parametrize("steps", [0, 1, 8, 23])
def test_recording_continues_from_a_saved_state_with_partial_segments(tmp_path, steps):
    through, other = recorder(length=3, pool=4), recorder(length=3, pool=4)
    roll(through, steps)
    roll(other.venv, steps)  # the same environments, stepped alike, not recorded
    other.load_state_dict(through_file(tmp_path, through.state_dict()))
    for env in (through, other):
        roll(env, 11, seed=5, reset=False)
        roll(env, 2, seed=6, reset=False, take=False)
    rollouts = [take_rollout(env) for env in (through, other)]
    assert same_tree(through.state_dict(), other.state_dict())
    assert [segment.id for segment in through.pool] == [segment.id for segment in other.pool]
    for one, same in zip(*rollouts, strict=True):
        np.testing.assert_array_equal(one, same)


def test_a_loaded_state_is_free_of_what_was_recorded_before(tmp_path):
    env = recorder(envs=1, length=3, lengths=(50,))
    roll(env, 4)
    state = through_file(tmp_path, env.state_dict())
    roll(env, 7, seed=1, reset=False)
    roll(env, 2, seed=1, reset=False, take=False)
    env.load_state_dict(state)
    assert env.recorded == 1
    assert [segment.id for segment in env.pool] == [0]
    roll(env, 2, seed=2, reset=False, take=False)
    assert len(take_rollout(env)[0]) == 2
    assert [segment.id for segment in env.pool] == [0, 1]


def test_a_segment_needs_arrays_of_one_length():
    with pytest.raises(ValueError, match="same length"):
        Segment(0, np.zeros((3, 2)), np.zeros((2, 1)), np.zeros(3), *no_ends(3))


def test_features_are_flattened_observations_and_actions():
    segment = Segment(0, np.arange(12.0).reshape(2, 3, 2), np.array([[20.0], [30.0]]), np.zeros(2), *no_ends(2))
    assert segment.features.tolist() == [[0, 1, 2, 3, 4, 5, 20], [6, 7, 8, 9, 10, 11, 30]]
    assert segment.features.dtype == np.float32
    assert len(segment) == 2


def test_a_saved_pool_is_in_the_order_of_its_ids_however_the_state_lists_it():
    saved, loaded = recorder(), recorder()
    roll(saved, 40)
    state = saved.state_dict()
    loaded.load_state_dict(state | {"pool": dict(reversed(state["pool"].items()))})
    assert (
        [segment.id for segment in loaded.pool] == [segment.id for segment in saved.pool] == list(range(saved.recorded))
    )


@quick
@given(st.integers(1, 3), st.integers(1, 6), st.lists(st.integers(1, 9), min_size=1, max_size=4), st.booleans())
def test_a_segment_knows_its_episode_and_how_many_steps_of_it_came_before(envs, length, lengths, truncate):
    env = recorder(envs, length, lengths=lengths, truncate=truncate)
    roll(env, 40)
    begun = {}
    for tag in range(envs):
        for number, episode in itertools.groupby(enumerate(logged(env.venv, tag)), key=lambda step: step[1][3]):
            first, steps = next(episode)
            begun[tag, number] = first
            del steps
    for segment in env.pool:
        tag = int(segment.observations[0, 0])
        log = logged(env.venv, tag)
        number = next(n for n, step in enumerate(log) if np.array_equal(step[0], segment.observations[0]))
        assert segment.start == number - begun[tag, log[number][3]]
        assert (
            segment.episode == begun[tag, log[number][3]] * envs + tag
        )  # by the step it began at, then by environment


def test_the_places_of_segments_survive_a_checkpoint(tmp_path):
    through, resumed = (recorder(2, 3) for _ in range(2))
    roll(through, 11)
    resumed.reset()
    state = through_file(tmp_path, through.state_dict())
    resumed.load_state_dict(state)
    assert same_tree(through.state_dict(), resumed.state_dict())
    assert [(each.episode, each.start) for each in resumed.pool] == [
        (each.episode, each.start) for each in through.pool
    ]
    older = {name: value for name, value in state.items() if name not in ("steps", "begun")}
    older["pool"] = {
        name: {key: part for key, part in each.items() if key != "place"} for name, each in state["pool"].items()
    }
    resumed.load_state_dict(older)
    assert {(each.episode, each.start) for each in resumed.pool} == {(0, 0)}
