"""How simulated teachers estimate typical returns: sums of the rewards of the newest episodes."""

import numpy as np
import pytest
from helpers import CountingEnv, quick, same_tree, take_rollout, through_file
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import DummyVecEnv

from prefrl.experience.environments import make_stack
from prefrl.experience.episodes import Episodes, EpisodeSums
from prefrl.experience.recorder import SegmentRecorder
from prefrl.feedback.kinds.comparison import pair_query
from prefrl.recipes import resolve
from prefrl.teachers import make_teacher


def test_no_episode_has_ended_at_first():
    sums = EpisodeSums(2)
    sums.step(np.array([-1.0, 2.0], np.float32), [False, False])
    assert sums.newest is None


def test_means_are_over_the_newest_ten_whatever_environment_they_are_of():
    sums = EpisodeSums(2)
    for number in range(1, 13):  # environment 0 ends every step, 1 every second
        sums.step(np.array([-number, 100.0], np.float32), [True, number % 2 == 0])
    # The newest, from the last step backwards: 200 and -12, -11, 200 and -10, -9, 200 and -8, -7, 200 of step 6.
    assert sums.newest == Episodes((4 * 200 - 12 - 11 - 10 - 9 - 8 - 7) / 10, (4 * 2 + 6 * 1) / 10)


def test_unfinished_episodes_are_dropped_on_reset():
    sums = EpisodeSums(1)
    sums.step(np.array([5.0], np.float32), [True])
    sums.step(np.array([70.0], np.float32), [False])
    sums.reset()
    sums.step(np.array([1.0], np.float32), [True])
    assert sums.newest == Episodes(3.0, 1.0)


def test_a_saved_state_takes_the_place_of_what_was_counted_and_stays_as_it_is():
    saved, resumed = EpisodeSums(1), EpisodeSums(1)
    saved.step(np.array([5.0], np.float32), [True])
    saved.step(np.array([7.0], np.float32), [False])
    state = saved.state_dict()
    for _ in range(2):
        resumed.step(np.array([100.0], np.float32), [True])
        resumed.load_state_dict(state)
        assert resumed.newest == Episodes(5.0, 1.0)
        resumed.step(np.array([2.0], np.float32), [False])
        resumed.step(np.array([0.0], np.float32), [True])
        assert resumed.newest == Episodes((5 + 9) / 2, (1 + 3) / 2)


@quick
@given(st.lists(st.tuples(st.floats(-9, 9, width=32), st.booleans()), min_size=1, max_size=60), st.integers(0, 20))
def test_sums_continue_from_a_saved_state(tmp_path_factory, steps, at):
    through, resumed = EpisodeSums(1), EpisodeSums(1)
    for number, (reward, over) in enumerate(steps):
        if number == at:
            resumed.step(np.ones(1, np.float32), [True])  # what it counted before is forgotten
            resumed.load_state_dict(through_file(tmp_path_factory.mktemp("sums"), through.state_dict()))
        for sums in (through, resumed)[: 1 + (number >= at)]:
            sums.step(np.array([reward], np.float32), [over])
    if at < len(steps):
        assert same_tree(through.state_dict(), resumed.state_dict())
        assert through.newest == resumed.newest


@pytest.mark.parametrize("hide", [False, True])
def test_a_recorder_counts_the_real_episodes_underneath(hide):
    env = CountingEnv((3,))
    recorder = SegmentRecorder(DummyVecEnv([lambda: env]), 2, 10, hide_endings=hide)
    recorder.reset()
    for _ in range(5):
        recorder.step(np.zeros((1, 2), np.float32))
    assert recorder.episodes.newest == Episodes(1 + 2 + 3, 3)
    recorder.step(np.zeros((1, 2), np.float32))
    assert recorder.episodes.newest == Episodes((6 + 3 * 100 + 6) / 2, 3)


def played(game, steps, envs):
    """A game's stack after random actions; the unclipped scores, and the sums and lengths, of the games that ended."""
    config = resolve(game, settings={"agent.n_envs": envs})
    stack = make_stack(config)
    stack.top.seed(0)
    stack.top.reset()
    rng, ends = np.random.default_rng(0), []
    for step in range(1, steps + 1):
        _, _, _, infos = stack.top.step(rng.integers(stack.top.action_space.n, size=envs))
        ends += [(env, step, info["episode"]["r"]) for env, info in enumerate(infos) if "episode" in info]
    _, rewards, _ = take_rollout(stack.recorder)
    stack.top.close()
    games, begun = [], dict.fromkeys(range(envs), 0)
    for env, step, _ in ends:
        games.append((rewards[begun[env] : step, env].sum(dtype=np.float64), step - begun[env]))
        begun[env] = step
    return stack.recorder, [score for *_, score in ends], games


def skipped(recorder):
    """Which of the pool's pairs of neighbours a teacher who skips leaves out, and the higher sum of each pair."""
    pool = list(recorder.pool)
    pairs = [(pool[n], pool[n + 1]) for n in range(0, len(pool) - 1, 2)]
    teacher = make_teacher("skip", 0, lambda: recorder.episodes.newest)
    teacher.submit({n: pair_query(1, n, *pair, 0) for n, pair in enumerate(pairs)})
    said = [answer.value.value == "incomparable" for answer in teacher.collect()]
    return said, [max(side.true_rewards.sum() for side in pair) for pair in pairs]


def test_a_game_s_usual_sum_is_of_the_clipped_rewards_that_its_clips_have():
    """Qbert pays 25 points a tile, which are 1 in a clip, and a game's end costs 1."""
    recorder, scores, games = played("qbert", 400, 8)
    assert len(games) >= 8
    assert np.mean(scores) > 100
    found = recorder.episodes.newest
    assert found == Episodes(*np.mean(games[-10:], axis=0))
    usual = 25 * found.mean_return / found.mean_length
    assert 0 < usual < 1
    said, best = skipped(recorder)
    assert said == [sums < 0.1 * usual for sums in best]
    assert {True, False} == set(said)


def test_no_clip_of_pong_is_skipped_in_random_play():
    """It loses 21 points in some 850 steps: a clip loses one or none, neither less than a tenth of what is usual."""
    recorder, scores, games = played("pong", 900, 2)
    assert recorder.episodes.newest == Episodes(*np.mean(games, axis=0))
    assert min(scores) == -21 == min(games)[0]
    assert not any(skipped(recorder)[0])
