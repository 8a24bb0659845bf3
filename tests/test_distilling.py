"""Distilling: students that observe less, as runs that everything else can open."""

import dataclasses
import json

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from helpers import CountingEnv
from runs import prefrl, refused, tiny

from prefrl import adapt, load_policy
from prefrl.config import replace
from prefrl.config.request import Request
from prefrl.distilling import DistilSettings, distil, visited
from prefrl.errors import UsageError
from prefrl.experience.adapter import Adapter
from prefrl.experience.make_env import run_env
from prefrl.experience.observed_parts import chosen_numbers, part_names, places_within
from prefrl.recipes import resolve
from prefrl.runs.directory import RunDirectory
from prefrl.trained.demonstration_sources import demonstrations_for

QUICK = DistilSettings(steps=4000, rounds=4, batches=400, episodes=4)


class Parts(gymnasium.Env):
    """An environment whose observation has named parts."""

    action_space = spaces.Discrete(2)

    def __init__(self, space, structure=None):
        self.observation_space = space
        if structure is not None:
            self.observation_structure = structure


BOX5 = spaces.Box(-1, 1, (5,), np.float32)
DICT = spaces.Dict({"arm": spaces.Box(-1, 1, (2,), np.float32), "key": spaces.Discrete(3)})


@pytest.mark.parametrize(
    ("space", "structure", "names"),
    [
        (DICT, None, {"arm": [0, 1], "key": [2, 3, 4]}),
        (BOX5, None, {}),
        (BOX5, {"skipped_qpos": 1, "qpos": 2, "qvel": 3, "cfrc_ext": 0}, {"qpos": [0, 1], "qvel": [2, 3, 4]}),
        (BOX5, {"qpos": 2, "qvel": 4}, {}),  # not the whole of this observation
    ],
)
def test_names_of_the_parts_of_an_observation(space, structure, names):
    found = part_names(Adapter(Parts(space, structure), "Parts-v0"))
    assert {name: list(places) for name, places in found.items()} == names


@pytest.mark.parametrize(
    ("chosen", "places"), [(["3,1"], [3, 1]), (["key", "0", "key,4"], [2, 3, 4, 0]), (["4", " 4 , arm"], [4, 0, 1])]
)
def test_numbers_are_chosen_by_place_and_by_name(chosen, places):
    assert chosen_numbers(Adapter(Parts(DICT), "Parts-v0"), chosen) == places


@pytest.mark.parametrize(
    ("space", "chosen", "said"),
    [
        (DICT, ["5"], "have 5 numbers"),
        (DICT, ["arn"], "did you mean arm"),
        (BOX5, ["arm"], "names no parts; choose from 0 to 4"),
        (BOX5, ["-1"], "names no parts"),
        (BOX5, [], "at least one"),
    ],
)
def test_what_cannot_be_observed_is_one_line(space, chosen, said):
    with pytest.raises(UsageError, match=said):
        chosen_numbers(Adapter(Parts(space), "Parts-v0"), chosen)


@pytest.mark.parametrize(
    ("observed", "available", "places"),
    [((4, 2), None, [4, 2]), ((4, 2), (1, 2, 4), [2, 1]), ((1, 2), (1, 2), None), (None, None, None)],
)
def test_places_of_what_one_observes_in_what_another_does(observed, available, places):
    numbers = np.arange(10 if available is None else len(available)) * 10
    wanted = numbers if places is None else numbers[places]
    assert numbers[places_within(observed, available)].tolist() == wanted.tolist()


@pytest.mark.parametrize(("observed", "available"), [(None, (1, 2)), ((1, 3), (1, 2))])
def test_what_the_other_does_not_observe_has_no_place(observed, available):
    with pytest.raises(UsageError, match="does not"):
        places_within(observed, available)


def test_an_adapter_shows_only_the_chosen_numbers():
    env = adapt(CountingEnv(lengths=(7, 4)), observe=(2, 1))
    assert env.observation_space.shape == (2,)
    assert env.reset()[0].tolist() == [0, 0]
    assert env.step(env.action_space.sample())[0].tolist() == [1, 0]
    batch = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert env.observation_transform.many(batch).tolist() == [[2, 1], [5, 4]]
    with pytest.raises(UsageError, match="cannot be observed at 3"):
        adapt(CountingEnv(), observe=(3,))


@pytest.mark.parametrize("observe", [[], [1, 1], [-1], "x"])
def test_a_bad_setting_is_one_line(observe):
    with pytest.raises(UsageError):
        resolve("reacher", settings={"observe": observe})


def test_images_have_no_parts_to_choose():
    with pytest.raises(UsageError, match="vectors, not images"):
        resolve("moving-dot", settings={"observe": [0]})


def test_the_teacher_says_what_to_do_in_states_that_the_student_visits():
    config = replace(resolve("CartPole-v1", teacher="none"), {"agent.n_envs": 2})
    asked = []

    def student(seen):
        asked.append(seen.copy())
        return np.zeros(len(seen), np.int64)

    segments = visited(config, student, lambda seen: (seen[:, 0] > 0).astype(np.int64), np.array([2, 0]), 30, 5)
    assert [len(each) for each in segments] == [15, 15]
    states = np.stack(asked, axis=1)
    for env, each in enumerate(segments):
        assert np.array_equal(each.observations, states[env][:, [2, 0]])
        assert np.array_equal(each.actions[:, 1], states[env][:, 0] > 0)
        assert each.terminated.any()  # who always pushes to the left falls, and is reset


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A run that has learned to balance the pole."""
    root = tmp_path_factory.mktemp("teacher") / "run"
    settings = ("agent.n_envs=8", "agent.n_steps=128", "evaluation.episodes=2", "evaluation.max_steps=200")
    done = prefrl(*tiny("CartPole-v1", root, "--teacher", "none", settings=settings, steps=24_000))
    assert done.code == 0, done.err
    return root


def test_a_student_that_sees_enough_acts_like_its_teacher_and_can_be_opened(teacher, tmp_path):
    out = tmp_path / "student"
    done = prefrl("distil", teacher, "--observe", "1,2", "3", "--out", out, "--steps", 4000, "--batches", 400)
    assert done.code == 0, done.err
    lines = done.out.splitlines()[-4:]
    assert lines[0].startswith("teacher: true return ")
    assert "it observes 3 of 4 numbers" in lines[1]
    summary = json.loads((out / "summary.json").read_text())
    taught, learned = summary["teacher_return_mean"], summary["evaluation_return_mean"]
    assert learned > 0.8 * taught > 100  # the position hardly matters for the teacher within 200 steps
    assert f"{taught - learned:.1f}" in lines[2]
    config = RunDirectory.open(out).config
    assert (config.observe, config.teacher) == ((1, 2, 3), "none")
    env, policy = gymnasium.make("CartPole-v1"), load_policy(out)
    seen, total, over = env.reset(seed=0)[0], 0, False
    while not over and total < 100:  # the policy takes whole observations
        seen, _, over, _, _ = env.step(policy(seen))
        total += 1
    assert total == 100
    assert policy(np.zeros((5, 4), np.float32)).shape == (5,)
    played = prefrl("play", out, "--episodes", 2)
    assert played.code == 0, played.err
    assert prefrl("export", out, tmp_path / "student.zip").code == 0
    from stable_baselines3 import PPO

    model = PPO.load(tmp_path / "student.zip")
    assert model.observation_space.shape == (3,)
    assert prefrl("status", out).code == 0
    assert prefrl("resume", out).code == 0


def test_what_is_lost_without_the_angle(teacher, tmp_path):
    """Position and its velocity alone do not say which way the pole falls."""
    found = distil(teacher, ["0"], tmp_path / "student", QUICK)
    assert found.student_evaluation.mean < 0.6 * found.teacher_evaluation.mean
    assert found.available == 4


def test_a_student_of_a_student(teacher, tmp_path):
    quick = DistilSettings(steps=200, rounds=2, batches=20, episodes=1)
    distil(teacher, ["3", "2"], tmp_path / "one", quick)
    found = distil(tmp_path / "one", ["1"], tmp_path / "two", quick)
    assert (found.observed, found.available) == ((2,), 2)
    assert run_env(RunDirectory.open(tmp_path / "two").config).observation_space.shape == (1,)


def test_a_student_demonstrates_to_an_agent_that_observes_more(teacher, tmp_path):
    distil(teacher, ["3", "2"], tmp_path / "student", DistilSettings(steps=2000, rounds=2, batches=200, episodes=1))
    request = Request(
        "CartPole-v1",
        teacher="none",
        demonstrations=str(tmp_path / "student"),
        settings={"demonstrations.episodes": 2, "demonstrations.steps": 60},
    )
    shown = demonstrations_for(resolve(request))
    student = load_policy(tmp_path / "student")
    for episode in shown.episodes:
        assert episode.observations.shape[1:] == (4,)
        acts = student(episode.observations)
        assert np.array_equal(episode.actions[:, 1], acts)  # one-hot: pushed to the right
    whole = resolve(dataclasses.replace(request, demonstrations=str(teacher)))
    with pytest.raises(UsageError, match="the agent does not"):
        demonstrations_for(replace(whole, {"observe": [2, 3]}))


def test_a_student_is_no_reference_for_an_agent_that_observes_more(teacher, tmp_path):
    distil(teacher, ["2"], tmp_path / "student", DistilSettings(steps=200, rounds=1, batches=20, episodes=1))
    words = ("train", "CartPole-v1", "--teacher", "none", "--reference", tmp_path / "student", "--kl", "1")
    assert "observes other numbers of the observation" in refused(prefrl(*words, "--out", tmp_path / "run"), 2)


def test_the_same_seed_gives_the_same_student(teacher, tmp_path):
    quick = DistilSettings(steps=200, rounds=2, batches=20, episodes=2)
    one, two = (distil(teacher, ["0,1,2"], tmp_path / name, quick) for name in ("one", "two"))
    assert one.student_evaluation == two.student_evaluation


def test_bad_arguments_are_one_line_and_leave_nothing(teacher, tmp_path):
    out = tmp_path / "student"
    cases = (["--observe", "9"], ["--observe", "qpos"], ["--observe", "0", "--rounds", "0"])
    for flags in cases:
        done = prefrl("distil", teacher, *flags, "--out", out)
        assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
        assert not out.exists()
    done = prefrl("distil", tmp_path, "--observe", "0", "--out", out)
    assert (done.code, len(done.err.splitlines())) == (2, 1), done.err


def test_an_interrupted_student_is_removed(teacher, tmp_path):
    told = []

    def tell(doing):
        told.append(doing)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        distil(teacher, ["0"], tmp_path / "student", QUICK, tell=tell)
    assert told == ["round 1 of 4"]
    assert not (tmp_path / "student").exists()


def test_settings_are_checked():
    for settings in (DistilSettings(steps=0), DistilSettings(seed=-1), DistilSettings(steps=10**9)):
        with pytest.raises(UsageError):
            settings.validate()
