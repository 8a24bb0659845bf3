"""Speed measurements of `prefrl bench`: their arithmetic, and one real run of each command."""

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from prefrl_benchmarks.cells import Cell
from prefrl_benchmarks.measure import defaults, engines, growth, plain, speed
from prefrl_benchmarks.measure.profile import LOOP, PARTS, REST, Clock
from runs import SETTINGS, prefrl, refused
from stable_baselines3 import SAC
from stable_baselines3.common.atari_wrappers import AtariWrapper
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer, RolloutBuffer
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    VecEnvWrapper,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)
from stable_baselines3.sac.policies import SACPolicy

from prefrl.agents.algorithms import make_algorithm
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.environments import make_stack
from prefrl.runs.metrics import read_metrics
from prefrl.storage.files import read_json


class Hours:
    """A clock that advances only on request."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def spend(self, seconds):
        self.now += seconds


def test_a_part_s_time_is_its_own():
    hours = Hours()
    clock = Clock(hours)
    inner = clock.timed("inner", lambda: hours.spend(2))

    def outer():
        hours.spend(1)
        inner()
        inner()

    hours.spend(50)
    clock.start()
    clock.timed("outer", outer)()
    hours.spend(3)
    assert clock.finish() == {"inner": 4, REST: 3, "outer": 1}


def test_a_part_that_fails_is_counted_all_the_same():
    hours = Hours()
    clock = Clock(hours)

    def fail():
        hours.spend(1)
        raise KeyError

    with pytest.raises(KeyError):
        clock.timed("failing", fail)()
    hours.spend(2)
    assert clock.finish() == {"failing": 1, REST: 2}


def rows(*points):
    return [{"step": step, "true_return_mean": value, "time_seconds": seconds} for step, value, seconds in points]


def test_time_to_the_return_that_the_defaults_end_with():
    theirs = rows((1, None, 1.0), (2, 10.0, 20.0), (3, 30.0, 40.0), (4, 25.0, 60.0))
    ours = rows((1, 5.0, 4.0), (2, 26.0, 8.0), (3, 90.0, 12.0))
    # They end at 25, which they first had at 30 after 40 s; the recipe had 26 after 8 s.
    assert defaults.compare(theirs, ours) == {
        "return": 25.0,
        "defaults_seconds": 40.0,
        "recipe_seconds": 8.0,
        "ratio": 5.0,
    }
    assert defaults.compare(theirs, ours[:1])["ratio"] is None


def test_the_defaults_may_end_at_a_return_of_zero():
    theirs, ours = rows((1, -5.0, 1.0), (2, 0.0, 20.0)), rows((1, 0.0, 4.0))
    assert defaults.compare(theirs, ours)["ratio"] == 5.0


def test_training_too_short_for_an_episode_is_reported():
    with pytest.raises(PrefrlError, match="no episode ended within 1 steps"):
        defaults.compare(rows((1, None, 1.0)), rows((1, None, 1.0)))


TRUE = Cell("reacher", teacher="none", mode="sync", steps=6000, labels=0)


def test_plain_training_has_the_recipe_s_settings_and_nothing_of_prefrl_s_loop():
    config = TRUE.config
    stack = make_stack(config)
    theirs, ours = plain.same_settings(config), make_algorithm(config, stack.top)
    for name in ("n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "ent_coef", "vf_coef", "max_grad_norm"):
        assert getattr(theirs, name) == getattr(ours, name)
    assert theirs.n_envs == ours.n_envs
    assert theirs.lr_schedule(0.5) == ours.lr_schedule(0.5)
    assert str(theirs.policy) == str(ours.policy)
    env, wrappers = theirs.env, []
    while isinstance(env, VecEnvWrapper):
        wrappers.append(type(env))
        env = env.venv
    assert wrappers == [VecNormalize, VecMonitor]
    assert type(theirs.rollout_buffer) is RolloutBuffer
    stack.top.close()


SAC_SETTINGS = {
    "agent.n_envs": 2,
    "agent.n_steps": 6,
    "agent.net_arch": [8, 9],
    "agent.batch_size": 48,
    "agent.gamma": 0.9,
    "off_policy.updates_per_step": 0.25,
    "off_policy.random_steps": 11,
    "off_policy.tau": 0.125,
    "off_policy.target_interval": 3,
    "off_policy.memory": 100,
    "off_policy.alpha": 0.125,
}
SAC_CELL = Cell("reacher", teacher="none", algo="sac", mode="sync", steps=1200, labels=0, settings=SAC_SETTINGS)


def test_plain_sac_is_stable_baselines3_s_own_with_the_settings_of_the_run(monkeypatch):
    theirs = plain.same_settings(SAC_CELL.config)
    assert (type(theirs), type(theirs.policy), type(theirs.replay_buffer)) == (SAC, SACPolicy, ReplayBuffer)
    assert (theirs.n_envs, theirs.gamma, theirs.batch_size, theirs.tau) == (2, 0.9, 48, 0.125)
    assert (theirs.learning_starts, theirs.target_update_interval, theirs.replay_buffer.buffer_size) == (11, 3, 50)
    assert theirs.lr_schedule(0.5) == SAC_CELL.config.agent.learning_rate
    assert theirs.log_ent_coef.exp().item() == pytest.approx(0.125)
    assert [layer.out_features for layer in theirs.critic.qf0 if hasattr(layer, "out_features")] == [8, 9, 1]
    assert {type(layer).__name__ for layer in theirs.actor.latent_pi} == {"Linear", "ReLU"}
    trained = []
    monkeypatch.setattr(theirs, "train", lambda batch_size, gradient_steps: trained.append(gradient_steps))
    theirs.learn(36)
    assert trained == [3, 3, 3]  # a quarter of 12 steps, from the 12th on
    env, wrappers = theirs.env, []
    while isinstance(env, VecEnvWrapper):
        wrappers.append(type(env))
        env = env.venv
    assert wrappers == [VecMonitor]
    several = dataclasses.replace(SAC_CELL, settings=SAC_SETTINGS | {"off_policy.return_steps": 3})
    assert type(plain.same_settings(several.config).replay_buffer) is NStepReplayBuffer


@pytest.mark.parametrize(("rate", "said"), [(0.2, "not 2.4"), (0.05, "not 0.6")])
def test_plain_sac_takes_whole_numbers_of_gradient_steps(rate, said):
    cell = dataclasses.replace(SAC_CELL, settings=SAC_SETTINGS | {"off_policy.updates_per_step": rate})
    with pytest.raises(UsageError, match=f"whole number of gradient steps, {said}"):
        plain.same_settings(cell.config)


def test_plain_sac_leaves_figures_as_a_run_does(tmp_path):
    summary = read_json(speed.run_module("plain", SAC_CELL, tmp_path, 1) / "summary.json")
    assert summary["steps"] == 1200
    assert -100 < summary["true_return_mean"] < 0


BRIEF = {"round_steps": 256, "reward.pretrain_comparisons": 640, "evaluation.episodes": 0}


def test_the_time_of_sac_is_told_apart(tmp_path):
    cell = dataclasses.replace(SAC_CELL, teacher="oracle", labels=10, settings=SAC_SETTINGS | BRIEF)
    shares = read_json(speed.run_module("profile", cell, tmp_path, 1) / "profile.json")["shares"]
    for part in ("policy update", "policy forward", "environment", "scoring", LOOP):
        assert shares[part] > 0.001


FEW = {"agent.n_envs": 2, "agent.n_epochs": 1}
PONG = Cell("pong", teacher="none", mode="sync", steps=512, labels=0, settings=FEW)


def test_training_with_its_own_wrappers_differs_in_the_environments_alone():
    config = PONG.config
    ours, theirs = plain.same_settings(config), plain.own_wrappers(config)
    for name in ("n_steps", "batch_size", "n_epochs", "gamma", "gae_lambda", "ent_coef", "vf_coef", "max_grad_norm"):
        assert getattr(theirs, name) == getattr(ours, name)
    assert theirs.n_envs == ours.n_envs == 2
    assert str(theirs.policy) == str(ours.policy)
    assert theirs.observation_space.shape == ours.observation_space.shape == (4, 84, 84)
    assert theirs.action_space == ours.action_space
    env, wrappers = theirs.env, []
    while isinstance(env, VecEnvWrapper):
        wrappers.append(type(env))
        env = env.venv
    assert wrappers == [VecNormalize, VecTransposeImage, VecFrameStack]
    assert all(env.env_is_wrapped(AtariWrapper))
    assert all(env.env_is_wrapped(Monitor))
    for agent in (ours, theirs):
        agent.env.close()


@pytest.mark.parametrize("kind", ["plain", "wrappers"])
def test_a_game_is_trained_without_prefrl(kind, tmp_path):
    summary = read_json(speed.run_module(kind, PONG, tmp_path, 1) / "summary.json")
    assert summary["steps"] == 512
    assert summary["steps_per_second"] > 10


@pytest.mark.spawned
def test_plain_training_leaves_figures_as_a_run_does(tmp_path):
    root = speed.run_module("plain", TRUE, tmp_path)
    summary = read_json(root / "summary.json")
    assert 6000 <= summary["steps"] <= 6000 + 2048
    assert [row["step"] for row in read_metrics(root / "metrics.csv")] == [4096, summary["steps"]]
    assert -100 < summary["true_return_mean"] < 0


def test_a_measured_process_has_the_threads_that_it_may_use(tmp_path, monkeypatch):
    seen = {}
    made = SimpleNamespace(Popen=lambda command, **options: seen.update(options, command=command), PIPE=-1)
    monkeypatch.setattr(speed, "subprocess", made)
    speed.prepare_module("defaults", TRUE, tmp_path, threads=2, seconds=5.0).start()
    assert seen["env"]["OMP_NUM_THREADS"] == "2"
    settings, root = seen["command"][-2:]
    assert seen["command"][-3] == plain.__name__
    assert read_json(Path(settings)) | {"config": None} == {"config": None, "kind": "defaults", "seconds": 5.0}
    assert root == str(tmp_path / f"defaults-{TRUE.name}")


def test_a_run_that_fails_after_its_summary_has_failed_all_the_same(tmp_path):
    root = tmp_path / "run"
    root.mkdir()
    words = "import pathlib, sys; pathlib.Path(sys.argv[1], 'summary.json').write_text('{}'); sys.exit('no more disk')"
    timed = speed._timed([sys.executable, "-c", words, str(root)], root, 1)
    with pytest.raises(PrefrlError, match="a run failed: no more disk"):
        speed._run([timed], None)


@pytest.mark.parametrize("mode", [pytest.param("sync", marks=pytest.mark.spawned), "async"])
def test_the_profile_of_a_run_adds_up_and_names_its_parts(mode, tmp_path):
    root = speed.run_module("profile", Cell("reacher", mode=mode, steps=4096, labels=20, settings=BRIEF), tmp_path)
    result = read_json(root / "profile.json")
    assert sum(result["shares"].values()) == pytest.approx(1.0)
    assert set(result["shares"]) == {*PARTS, REST}
    assert result["agent_rss_mb"] > 100
    if mode == "sync":
        assert result["fitted_per_second"] > 100
        assert result["learner_rss_mb"] == 0
        assert result["learner_share"] is None
    else:
        assert result["learner_rss_mb"] > 100
        assert 0 < result["learner_share"] < 2
        assert result["fitted_per_second"] is None


@pytest.mark.slow
def test_the_command_compares_with_plain_stable_baselines(tmp_path):
    out = tmp_path / "speed.json"
    words = ("--task", "reacher", "--steps", "3000", "--labels", "20", "--alternations", "1", "--out", out)
    done = prefrl("bench", "speed", *words, "--set", *(each for each in SETTINGS if not each.startswith("evaluation")))
    assert done.code == 0, done.err
    result = json.loads(out.read_text())
    assert set(result["runs"]) == {"plain", "sync", "async"}
    assert result["settings"]["set"]["agent.n_steps"] == 64
    assert all(run["steps"] < 3000 + 512 for kind in result["runs"].values() for run in kind)
    assert 0.05 < result["ratios"]["async"][0] < 3
    assert set(result["split"]) == {"true", "sync", "async"}
    assert "ratio median" in done.out
    assert "; the learner " in done.out


@pytest.mark.slow
def test_every_point_of_growth_is_over_as_many_labels():
    result = growth.measure("reacher", labels=(20, 220), members=(1, 3))
    points = result["by_labels"]
    assert [(point["labels"], point["members"]) for point in points] == [(20, 3), (220, 3)]
    assert [(point["labels"], point["members"]) for point in result["by_members"]] == [(20, 1), (20, 3)]
    for point in points:
        # Two clips of 15 steps of 10 features and a reward; about two new ones a label.
        assert 0.5 < point["clips_kb"] < 4
        assert 0.1 < point["store_kb"] < 3
        assert 0 < point["selection_ms"] / 20 < point["asking_ms"]
        assert point["learning_ms"] > 0
    ratio = (points[1]["asking_ms"] + points[1]["learning_ms"]) / (points[0]["asking_ms"] + points[0]["learning_ms"])
    assert (
        growth.report_lines(result)[-1]
        == f"relative cost of a label (asking and learning) at 220 labels: {ratio:.2f} over one at 20"
    )


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("speed", "--alternations", "0"), "--alternations"),
        (("speed", "--turns", "0"), "--turns must be more than 0 seconds"),
        (("speed", "--task", "chetah"), "cheetah"),
        (("speed", "--modes", "sync", "sync"), "twice"),
        (("speed", "--algo", "dqn"), "add --against true"),
        (("speed", "--algo", "sac", "--task", "pong", "--against", "wrappers"), "add --against true"),
        (("speed", "--also", "plain"), "plain twice"),
        (("speed", "--set", "agent.n_env=2"), "agent.n_envs"),
        (("speed", "--set", "agent.n_envs=0"), "agent.n_envs"),
        (("speed", "--set", "reward.member=3"), "reward.members"),
        (("speed", "--steps", "1000"), "700 labels are more than"),
        (("speed", "--set", "mode=sync"), "--set mode: bench speed sets it"),
        (("speed", "--set", "queries.labels=5"), "--set queries.labels: bench speed sets it"),
        (("speed", "--set", "evaluation.episodes=5"), "--set evaluation.episodes: bench speed sets it"),
        (("speed", "--set", "kl.reference=x"), "--set kl.reference: bench speed sets it"),
        (("speed", "--task", "pong", "--against", "true", "--also", "wrappers", "wrappers"), "wrappers twice"),
        (("speed", "--against", "wrappers"), "not for cheetah: beamrider, breakout"),
        (("speed", "--imitation", "/no/such/python"), "no such Python"),
        (("speed", "--imitation", sys.executable), "pip install imitation"),
        (("speed", "--imitation", sys.executable, "--task", "hopper"), "cheetah"),
        (("speed", "--out", "/no/such/folder/speed.json"), "cannot be written"),
        (("defaults", "--alternations", "0"), "--alternations"),
        (("defaults", "--task", "pong"), "image observations"),
        (("growth", "--task", "pong"), "image observations"),
        (("growth", "--labels", "500", "100"), "ascend"),
        (("growth", "--labels", "100", "200"), "ascend"),
        (("growth", "--members", "0"), "at least 1"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is(words, named):
    assert named in refused(prefrl("bench", *words), 2)


def test_engines_are_compared_within_an_alternation():
    rates = {
        "engine": [engines.Rate(100.0, 50.0), engines.Rate(300.0, 60.0), engines.Rate(200.0, 70.0)],
        "python": [engines.Rate(50.0, 50.0), engines.Rate(100.0, 40.0), engines.Rate(200.0, 35.0)],
    }
    # By the clock 2, 3 and 1; by processor time 1, 1.5 and 2.
    assert engines.report_lines(rates) == [
        "engine    median    200 steps/s, 60 per processor second",
        "python    median    100 steps/s, 40 per processor second",
        "engine over python    median 2.00 (1.00 to 3.00), 1.50 by processor time",
    ]


def test_all_three_engines_of_a_game_are_timed():
    done = prefrl("bench", "engines", "--game", "enduro", "--envs", "2", "--steps", "40", "--alternations", "1")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert [line.split(" median")[0].strip() for line in lines] == [
        *("engine", "snapshots", "python"),
        *("engine over snapshots", "engine over python"),
    ]
