"""B-Pref's tasks against the suites' own facts and formulas. They need the extra `bpref`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import through_file
from prefrl_envs import TASKS
from prefrl_envs.packages import FITTING, misfit
from runs import assert_equal_runs, prefrl, summary, tiny
from test_resume import create, stop_at
from test_snapshots import play

from prefrl.experience.frames import make_render_env, prepare, render
from prefrl.experience.make_env import make_env
from prefrl.experience.monitor import EpisodeMonitor
from prefrl.experience.snapshots import load_env, save_env
from prefrl.rendering.renderer import SegmentRenderer

if lack := misfit(FITTING):
    pytest.skip(f"the extra bpref is not installed ({lack}); .ci/bpref runs these tests", allow_module_level=True)
pytestmark = pytest.mark.filterwarnings("ignore:Constant.s. may be too high")  # Meta-World's policies; it clips actions

SIZES = {  # of observations and actions
    "walker-walk": (24, 6),
    "walker-run": (24, 6),
    "cheetah-run": (17, 6),
    "quadruped-walk": (78, 12),
    "quadruped-run": (78, 12),
    "button-press": (39, 4),
    "sweep-into": (39, 4),
    "drawer-open": (39, 4),
    "window-open": (39, 4),
    "door-open": (39, 4),
    "hammer": (39, 4),
}
CONTROL = [name for name, (seen, _) in SIZES.items() if seen != 39]
MANIPULATION = [name for name in SIZES if name not in CONTROL]
POLICIES = {
    "button-press": "SawyerButtonPressV3Policy",
    "sweep-into": "SawyerSweepIntoV3Policy",
    "drawer-open": "SawyerDrawerOpenV3Policy",
    "window-open": "SawyerWindowOpenV3Policy",
    "door-open": "SawyerDoorOpenV3Policy",
    "hammer": "SawyerHammerV3Policy",
}
"""Meta-World's scripted policies, which see the goal."""


def make(name, **options):
    return make_env(TASKS[name].env_id, **options)


def chosen(env, rng):
    return rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)


def scripted(name):
    """A function of environment and observation: the action of Meta-World's policy."""
    import metaworld.policies

    policy = getattr(metaworld.policies, POLICIES[name])()
    return lambda env, seen: np.clip(policy.get_action(np.append(seen[:36], env.unwrapped._target_pos)), -1, 1)


# -- the suites' facts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
def test_spaces_have_the_suite_s_sizes_and_actions_are_from_minus_one_to_one(name):
    env = make(name)
    seen, acted = SIZES[name]
    assert (env.observation_space.shape, env.action_space.shape) == ((seen,), (acted,))
    assert env.observation_space.dtype == np.float32
    assert set(env.action_space.low) == {-1}
    assert set(env.action_space.high) == {1}
    assert env.reset(seed=0)[0].dtype == np.float32
    env.close()


@pytest.mark.parametrize("name", SIZES)
def test_episodes_end_at_the_time_limit_alone_and_rewards_are_in_the_suite_s_range(name):
    env, rng = make(name), np.random.default_rng(0)
    horizon, most = (1000, 1) if name in CONTROL else (500, 10)
    assert TASKS[name].horizon == horizon
    env.reset(seed=0)
    for step in range(1, horizon + 1):
        observation, reward, terminated, truncated, _ = env.step(chosen(env, rng))
        assert 0 <= reward <= most
        assert not terminated
        assert truncated == (step == horizon)
    assert np.isfinite(observation).all()
    env.close()


@pytest.mark.parametrize("name", SIZES)
def test_the_same_seed_and_actions_give_the_same_episode_and_other_seeds_start_elsewhere(name):
    def steps(seed):
        env = make(name)
        first = env.reset(seed=seed)[0]
        found = play(env, 5, seed=0), env.reset()[0]
        env.close()
        return first, *found

    one, same, other = steps(3), steps(3), steps(4)
    for left, right in zip(one, same, strict=True):
        np.testing.assert_array_equal(left, right)
    assert not np.array_equal(one[1], other[1])
    assert not np.array_equal(one[0], one[2])


# -- DeepMind Control Suite -----------------------------------------------------------------------------------------


def walker(data, desired):
    height = data.body("torso").xpos[2]
    short = max(1.2 - height, 0) / 0.6
    standing = np.exp(-0.5 * (short * np.sqrt(-2 * np.log(0.1))) ** 2)  # 0.1 at the margin
    upright = (1 + data.body("torso").xmat[8]) / 2
    speed = data.sensor("torso_subtreelinvel").data[0]
    move = np.clip(1 - 0.5 * max(desired - speed, 0) / (desired / 2), 0, 1)  # 0.5 at the margin
    return (3 * standing + upright) / 4 * (5 * move + 1) / 6


def cheetah(data):
    return np.clip(data.sensor("torso_subtreelinvel").data[0] / 10, 0, 1)


def quadruped(data, desired):
    upright = (1 + data.body("torso").xmat[8]) / 2
    speed = data.sensor("velocimeter").data[0]
    return upright * np.clip(1 - 0.5 * max(desired - speed, 0) / desired, 0, 1)


BY_HAND = {
    "walker-walk": lambda data: walker(data, 1),
    "walker-run": lambda data: walker(data, 8),
    "cheetah-run": cheetah,
    "quadruped-walk": lambda data: quadruped(data, 0.5),
    "quadruped-run": lambda data: quadruped(data, 5),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_rewards_are_the_suite_s_worked_by_hand(name):
    env, rng = make(name), np.random.default_rng(0)
    env.reset(seed=0)
    found = []
    for _ in range(200):
        found.append(env.step(chosen(env, rng))[1])
        assert found[-1] == pytest.approx(float(BY_HAND[name](env.unwrapped.data)), rel=1e-6, abs=1e-9)
    assert np.ptp(found) > 0.01
    env.close()


def test_the_parts_of_an_observation_are_in_the_order_of_the_specification():
    env = make("walker-walk")
    env.reset(seed=0)
    seen, data = env.step(np.ones(6, np.float32))[0], env.unwrapped.data
    frames = data.xmat[1:].reshape(-1, 9)
    np.testing.assert_array_equal(seen[:14], np.float32(frames[:, [0, 2]].ravel()))
    assert seen[14] == np.float32(data.body("torso").xpos[2])
    np.testing.assert_array_equal(seen[15:], np.float32(data.qvel))
    env.close()


def test_actions_are_scaled_to_what_the_quadruped_s_actuators_take():
    env = make("quadruped-walk")
    env.reset(seed=0)
    for action, taken in ((1, [1, 1.1, 0.8]), (-1, [-1, -1, -0.8]), (0, [0, 0.05, 0])):
        env.step(np.full(12, action, np.float32))
        np.testing.assert_allclose(env.unwrapped.data.ctrl, taken * 4, atol=1e-12)
    env.close()


@pytest.mark.parametrize(("name", "seconds"), [("walker-run", 0.025), ("cheetah-run", 0.01), ("quadruped-run", 0.02)])
def test_an_action_is_applied_for_one_control_step(name, seconds):
    env = make(name)
    env.reset(seed=0)
    before = env.unwrapped.data.time
    env.step(env.action_space.high)
    assert env.unwrapped.data.time - before == pytest.approx(seconds)
    assert env.metadata["render_fps"] == round(1 / seconds)
    env.close()


# -- Meta-World -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MANIPULATION)
def test_each_episode_has_a_goal_of_its_own_which_is_hidden(name):
    env, starts = make(name), set()
    for seed in (0, None, None):
        seen = [env.reset(seed=seed)[0]]
        seen += [env.step(np.zeros(4, np.float32))[0] for _ in range(3)]
        assert not np.any([each[-3:] for each in seen])
        np.testing.assert_array_equal(seen[3][18:36], seen[2][:18])  # the step before
        starts.add(tuple(env.unwrapped.obj_init_pos))
    assert len(starts) == 3
    env.close()


@pytest.mark.parametrize("name", MANIPULATION)
def test_meta_world_s_own_policy_succeeds_and_the_monitor_says_so(name):
    from stable_baselines3.common.vec_env import DummyVecEnv

    envs, act = EpisodeMonitor(DummyVecEnv([lambda: make(name)])), scripted(name)
    envs.seed(0)
    seen, succeeded = envs.reset(), []
    for _ in range(500):
        seen, _, dones, infos = envs.step([act(envs.venv.envs[0], seen[0].astype(np.float64))])
        assert type(infos[0]["success"]) is bool
        succeeded.append(infos[0]["success"])
    assert dones.all()
    assert any(succeeded)
    assert infos[0]["episode"]["success"] is True
    assert envs.success_rate == 1
    envs.close()


# -- snapshots, resuming, rendering ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SIZES)
def test_a_restored_environment_steps_on_bit_for_bit_also_past_its_next_reset(tmp_path, name):
    env, other = make(name), make(name)
    env.reset(seed=0)
    play(env, TASKS[name].horizon - 60, seed=1)
    saved = through_file(tmp_path, save_env(env))
    other.reset(seed=99)
    play(other, 5, seed=2)
    load_env(other, saved)
    one, same = play(env, 120, seed=3), play(other, 120, seed=3)
    assert one[:, -1].sum() == 1  # the time limit
    np.testing.assert_array_equal(one, same)
    np.testing.assert_array_equal(env.reset()[0], other.reset()[0])
    env.close()
    other.close()


def test_an_environment_goes_back_to_an_earlier_step_and_has_its_whole_time_again():
    env = make("drawer-open")
    env.reset(seed=0)
    play(env, 10, seed=1)
    saved = save_env(env)
    play(env, 485, seed=2)
    load_env(env, saved)
    ends = play(env, 490, seed=3)[:, -1]
    assert ends.nonzero()[0].tolist() == [489]
    env.close()


@pytest.mark.parametrize("name", MANIPULATION)
def test_a_restored_environment_steps_on_bit_for_bit_in_the_midst_of_handling_things(tmp_path, name):
    env, other, act = make(name), make(name), scripted(name)
    seen = env.reset(seed=5)[0]
    for _ in range(45):
        seen = env.step(act(env, seen.astype(np.float64)))[0]
    saved = through_file(tmp_path, save_env(env))
    other.reset(seed=6)
    load_env(other, saved)
    found = []
    for _ in range(60):
        action = act(env, seen.astype(np.float64))
        seen, *rest = env.step(action)
        same, *also = other.step(action)
        np.testing.assert_array_equal(seen, same)
        assert rest == also
        found.append(seen)
    assert np.ptp(np.stack(found)[:, 4:7], axis=0).max() > 0.005  # something was moved
    env.close()
    other.close()


@pytest.mark.parametrize(("name", "algo"), [("walker-walk", "ppo"), ("drawer-open", "ppo"), ("drawer-open", "sac")])
def test_a_synchronous_run_that_was_resumed_equals_the_uninterrupted_run(name, algo, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    create(whole, name, algo=algo)
    assert prefrl("resume", whole).code == 0
    create(stopped, name, algo=algo)
    stop_at(stopped, 2500)
    assert summary_missing(stopped)
    assert prefrl("resume", stopped).code == 0
    assert_equal_runs(whole, stopped)
    rate = summary(whole)["success_rate"]
    assert rate is None if name in CONTROL else 0 <= rate <= 1


def summary_missing(root: Path) -> bool:
    return not (root / "summary.json").exists()


@pytest.mark.parametrize("name", ["cheetah-run", "hammer"])
def test_an_asynchronous_run_trains_is_played_and_filmed(name, tmp_path):
    root = tmp_path / "run"
    done = prefrl(*tiny(name, root))
    assert done.code == 0, done.err
    done = prefrl("play", root, "--episodes", "1", "--video", tmp_path / "play.mp4")
    assert done.code == 0, done.err
    assert ("success rate" in done.out) == (name in MANIPULATION)
    assert (tmp_path / "play.mp4").stat().st_size > 1000


@pytest.mark.parametrize("name", SIZES)
def test_a_clip_shows_what_happened(name):
    env = make_render_env(TASKS[name].env_id)
    env.reset(seed=0)
    prepare(env)
    play(env, 20, seed=0)
    saved, rng = save_env(env), np.random.default_rng(1)
    actions, live = [chosen(env, rng) for _ in range(3)], []
    for action in actions:
        env.step(action)
        live.append(render(env))
    env.close()
    del env
    renderer = SegmentRenderer(TASKS[name].env_id)
    shown = renderer.render({"state": saved}, np.stack(actions))
    renderer.close()
    np.testing.assert_array_equal(shown, np.stack(live))
    assert shown.shape == (3, 320, 320, 3)
    assert np.ptp(shown[0]) > 100


def test_importing_the_suite_leaves_the_choice_of_a_renderer_as_it_was():
    script = "import os, prefrl_envs.dmcontrol; print(os.environ.get('MUJOCO_GL'))"
    for value in ("egl", None):
        given = {name: text for name, text in os.environ.items() if name not in ("MUJOCO_GL", "DISPLAY")}
        given |= {"MUJOCO_GL": value} if value else {}
        done = subprocess.run([sys.executable, "-W", "error", "-c", script], env=given, capture_output=True, check=True)
        assert done.stdout.decode().strip() == str(value)
