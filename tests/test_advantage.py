"""The teacher `advantage`: what it judges by, where that comes from, and what it refuses."""

import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import same_tree
from runs import prefrl as prefrl_cli
from test_kl import PPO, Target, made

import prefrl
from prefrl.agents import advantages
from prefrl.agents.advantages import true_advantages
from prefrl.agents.reference import load_reference
from prefrl.config import RunConfig
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.make_env import run_env
from prefrl.experience.segment import Segment
from prefrl.feedback.kinds.simulation import TeacherConfiguration
from prefrl.feedback.run_store import run_store
from prefrl.feedback.terms import Query
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import load_tree, save_tree
from prefrl.teachers import TEACHERS, SimulatedTeacher, judges_by_advantage, make_teacher
from prefrl.trained.borrowing import _reward_scale

TINY = PPO | {
    "queries.segment_length": 5,
    "reward.pretrain_comparisons": 32,
    "reward.comparisons_per_step": 0.01,
    "evaluation.episodes": 0,
}
ASKED = {"labels": 12, "steps": 1024, "mode": "sync", "feedback": "marks"}


def steps(rewards, observations, terminated=False):
    """A segment of one number per observation."""
    length = len(rewards)
    ends = np.zeros(length, bool)
    last = ends.copy()
    last[-1] = terminated
    frames = np.asarray(observations, np.float32)[:, None]
    return Segment(1, frames, np.zeros((length, 1), np.float32), np.asarray(rewards, np.float32), last, ends)


def reference(scale=1.0, gamma=0.5):
    """Its value of a state is ten times the observation."""
    config = SimpleNamespace(agent=SimpleNamespace(gamma=gamma))
    return SimpleNamespace(config=config, reward_scale=scale, values=lambda seen: 10 * seen[:, 0])


def test_an_advantage_is_what_a_step_brings_beyond_the_value_of_its_state():
    found = true_advantages(reference(), steps([1, 2, 3], [0.1, 0.2, 0.6]))
    np.testing.assert_allclose(found, [1 + 0.5 * 2 - 1, 2 + 0.5 * 6 - 2, 0], rtol=1e-6)


def test_nothing_follows_the_end_of_an_episode():
    found = true_advantages(reference(), steps([1, 2, 3], [0.1, 0.2, 0.6], terminated=True))
    assert found[-1] == pytest.approx(3 - 6)


def test_rewards_are_scaled_and_clipped_as_those_from_which_the_values_were_learned():
    found = true_advantages(reference(scale=4.0, gamma=0.0), steps([2, -100, 0], [0, 0, 0]))
    np.testing.assert_allclose(found, [0.5, -10, 0])


def test_steps_are_marked_and_clips_compared_by_the_advantage():
    clips = (steps([5, 5, 5], [0.5, 0, 0.9]), steps([0, 0, 0], [0, 0.5, 0.1]))
    told = {1: np.array([1.0, -2.0, 0.0]), 2: np.array([-1.0, 2.0, 0.5])}

    def asked(name, kind, shown):
        teacher = SimulatedTeacher(name, TEACHERS[name], 0, lambda: None, judged=lambda clip: told[clip.id])
        teacher.submit({7: Query(kind, shown, 1, 0, 0)})
        return next(answer.value for answer in teacher.collect())

    clips = tuple(Segment(**(vars(clip) | {"id": number})) for number, clip in enumerate(clips, 1))
    assert asked("advantage", "marks", clips[:1]) == [[0, 1], [1, -1]]
    assert asked("advantage", "comparison", clips) == "right"


def test_imperfections_join_it():
    assert TEACHERS["advantage"] + TEACHERS["late"] == TeacherConfiguration(advantage=True, delay=6)
    assert [judges_by_advantage(name) for name in ("advantage", "late+advantage", "judge+advantage+late")] == [True] * 3
    assert not any(judges_by_advantage(name) for name in ("oracle", "human", "judge", "judge+human", "none"))


@pytest.fixture(scope="module")
def valued(tmp_path_factory):
    """A run on the true reward, whose rewards were scaled."""
    return made(tmp_path_factory.mktemp("valued") / "run", steps=1024).root


def train(root, valued, **changes):
    return prefrl.train(Target, teacher="advantage", reference=valued, out=root, settings=TINY, **(ASKED | changes))


@pytest.fixture(scope="module")
def judged(tmp_path_factory, valued):
    """A run whose teacher judged by those values."""
    return train(tmp_path_factory.mktemp("judged") / "run", valued).root


def test_a_run_keeps_the_values_and_can_be_resumed(tmp_path, valued):
    whole = train(tmp_path / "whole", valued)
    assert whole.summary["labels_by_teacher"] == {"advantage": 12}
    train(tmp_path / "stopped", valued, steps=512)
    again = prefrl.resume(tmp_path / "stopped", steps=1024)
    assert again.summary["labels_answered"] == 12
    with run_store(RunDirectory.open(whole.root)) as store:
        assert any(label.target for label in store.labels("marks"))
    kept = load_tree(whole.root / "reference" / "policy.safetensors")
    var = load_tree(sorted((valued / "checkpoints").iterdir())[-1])["env"]["normaliser"]["return"]["var"]
    assert kept["reward_scale"] == pytest.approx(math.sqrt(var + 1e-8))


def test_values_are_those_of_the_run_s_own_policy(judged, valued):
    run = RunDirectory.open(judged)
    loaded = load_reference(run, Target.observation_space, Target.action_space, "cpu")
    weights = load_tree(sorted((valued / "checkpoints").iterdir())[-1])["agent"]["policy"]
    assert same_tree({name: tensor.numpy() for name, tensor in loaded.network.state_dict().items()}, weights)
    assert loaded.values(np.array([[0.5], [-0.5], [0.1]], np.float32)).shape == (3,)


def test_a_run_s_teacher_judges_by_its_reference(judged, monkeypatch):
    run = RunDirectory.open(judged)
    closed = []
    monkeypatch.setattr(advantages, "run_env", lambda config: closing(run_env(config), closed))
    teacher = make_teacher("advantage", 0, lambda: None, run=run)
    assert closed == [True]
    shown = steps([-0.1, -0.2, -0.1, 0.0, -0.3], [0.5, -0.4, 0.1, 0.9, -0.8])
    teacher.submit({1: Query("marks", (shown,), 1, 0, 0)})
    loaded = load_reference(run, Target.observation_space, Target.action_space, "cpu")
    signs = np.sign(true_advantages(loaded, shown)).astype(int)
    assert [answer.value for answer in teacher.collect()] == [[[at, sign] for at, sign in enumerate(signs) if sign]]


def closing(env, closed):
    close = env.close
    env.close = lambda: closed.append(True) or close()
    return env


def test_it_answers_in_runs_that_still_have_the_values(tmp_path, judged):
    with pytest.raises(UsageError, match="answers in runs only"):
        make_teacher("advantage", 0, lambda: None)
    run = RunDirectory.open(shutil.copytree(judged, tmp_path / "run"))
    path = run.reference / "policy.safetensors"
    save_tree(path, load_tree(path) | {"reward_scale": None})
    with pytest.raises(PrefrlError, match="has no value function of the task's reward"):
        make_teacher("advantage", 0, lambda: None, run=run)


def test_what_lacks_values_of_the_task_s_reward_is_refused(tmp_path, judged, valued):
    lacks = "needs a value function of the task's own reward"
    for source, settings in ((judged, {}), (valued, {"kl.policy": "initial"})):
        with pytest.raises(UsageError, match=lacks):
            prefrl.train(
                Target, teacher="advantage", reference=source, out=tmp_path / "no", settings=TINY | settings, **ASKED
            )
    assert not (tmp_path / "no").exists()


def test_rewards_that_were_not_scaled_have_the_scale_one(valued):
    config = RunConfig.from_json(RunDirectory.open(valued).config.to_json())
    plain = prefrl.config.replace(config, {"agent.normalise_reward": False})
    network = prefrl.agents.reference.untrained(config, Target.observation_space, Target.action_space)
    assert _reward_scale(plain, network, {}) == 1.0
    assert _reward_scale(config, network, {"return": {"var": np.array(4.0)}}) == pytest.approx(2.0)
    assert _reward_scale(prefrl.config.replace(config, {"reward_model": "other"}), network, {}) is None


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--feedback", "marks"], "--teacher advantage judges by the values of another run: add --reference RUN"),
        (["--feedback", "rating", "--reference", "RUN"], "--teacher advantage answers comparisons and marks"),
    ],
)
def test_what_it_needs_is_said_in_a_line(tmp_path, valued, flags, reason):
    flags = [str(valued) if flag == "RUN" else flag for flag in flags]
    refused = prefrl_cli("train", "reacher", "--teacher", "advantage", *flags, "--out", tmp_path / "run")
    assert (refused.code, refused.err.count("\n")) == (2, 1), refused.err
    assert reason in refused.err
    assert not (tmp_path / "run").exists()
