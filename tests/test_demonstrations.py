"""Demonstrations: files, their sources, automatic labels, and training from them."""

import dataclasses
import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from gymnasium import spaces
from helpers import film, same_segment, segment, segments
from runs import prefrl, tiny

from prefrl.api import create_run
from prefrl.config import replace
from prefrl.config.request import Request
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.demonstrations import Demonstrations, EpisodeTape
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import IMPORTED_ROUND, Answer
from prefrl.recipes import resolve
from prefrl.runs.control import Control
from prefrl.selection.automatic_labels import AutomaticLabels
from prefrl.trained.demonstration_sources import demonstrations_for
from prefrl.training import train_run


def shown(*lengths: int, features: int = 3) -> Demonstrations:
    """Demonstrations of a task, of so many steps each, rewarded 0, 1, 2, ... over all steps."""
    starts = np.cumsum([0, *lengths])
    episodes = [
        segment(n, np.arange(start, start + length), features=features)
        for n, (start, length) in enumerate(zip(starts, lengths, strict=False))
    ]
    return Demonstrations("Some-v0", {"level": 2}, tuple(episodes))


# -- files ------------------------------------------------------------------------------------------------------------


def test_a_file_holds_the_episodes(tmp_path):
    for number, one in enumerate((shown(3, 5), Demonstrations("Pictures-v0", {}, (film(6), film(2, seed=1))))):
        one.save(path := tmp_path / f"{number}.safetensors")
        again = Demonstrations.load(path)
        assert (again.env_id, again.env_kwargs) == (one.env_id, one.env_kwargs)
        for kept, episode in zip(again.episodes, one.episodes, strict=True):
            assert same_segment(dataclasses.replace(kept, id=episode.id), episode)


def test_a_damaged_file_and_another_kind_of_file_are_one_line(tmp_path):
    shown(3).save(path := tmp_path / "shown.safetensors")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(PrefrlError, match="damaged"):
        Demonstrations.load(path)
    ClipFolder(tmp_path).save(segment(7))
    with pytest.raises(UsageError, match="holds no demonstrations"):
        Demonstrations.load(ClipFolder(tmp_path).file(7))
    with pytest.raises(PrefrlError, match="missing"):
        Demonstrations.load(tmp_path / "nothing")


def test_steps_are_counted_over_all_episodes():
    both = shown(3, 5)
    assert len(both) == 8
    observations, actions = both.take(np.array([0, 2, 3, 7, 3]))
    first, second = both.episodes
    wanted = [first.observations[0], first.observations[2], *second.observations[[0, 4, 0]]]
    assert np.array_equal(observations, wanted)
    assert np.array_equal(actions, [first.actions[0], first.actions[2], *second.actions[[0, 4, 0]]])
    assert both.returns == [3.0, 25.0]


def test_the_first_episodes_and_steps():
    three = shown(3, 5, 4)
    assert [len(each) for each in three.first(2, 100).episodes] == [3, 5]
    assert [len(each) for each in three.first(9, 6).episodes] == [3, 3]
    assert [len(each) for each in three.first(9, 8).episodes] == [3, 5]


def test_clips_are_consecutive_and_keep_their_frames():
    clips = shown(3, 5).clips(2)
    assert [each.true_rewards.tolist() for each in clips] == [[0, 1], [3, 4], [5, 6]]
    assert [each.start for each in clips] == [0, 0, 2]
    pictures = film(7)
    second = Demonstrations("Pictures-v0", {}, (pictures,)).clips(3)[1]
    assert np.array_equal(second.observations, pictures.observations[3:6])


def test_a_tape_records_stacked_frames_once():
    tape, frames = EpisodeTape(stack=2), np.arange(5 * 4, dtype=np.uint8).reshape(5, 2, 2)
    for step in range(4):
        tape.add(frames[step : step + 2], np.ones(1), step, terminated=step == 3, truncated=False)
    episode = tape.episode(5)
    assert (episode.id, len(tape)) == (5, 4)
    assert np.array_equal(episode.frames, frames)
    assert episode.true_rewards.tolist() == [0, 1, 2, 3]
    assert episode.terminated.tolist() == [False, False, False, True]


# -- automatic labels -------------------------------------------------------------------------------------------------


def labelled(tmp_path, config, pool, demonstrated):
    store = LabelStore(tmp_path / "labels.sqlite", create=True)
    clips = ClipFolder(tmp_path / "clips")
    (tmp_path / "clips").mkdir(exist_ok=True)
    return store, clips, AutomaticLabels(config, store, clips, pool, demonstrated)


def test_automatic_labels_prefer_the_demonstration_and_do_not_count(tmp_path):
    config = resolve("reacher", settings={"queries.segment_length": 3, "demonstrations.labels": 40})
    config = replace(config, {"demonstrations.source": "somewhere"})
    pool = segments(5, rewards=(0.0, 0.0, 0.0))
    store, clips, automatic = labelled(tmp_path, config, pool, shown(30))
    # An imported label keeps its key.
    other = pair_query(IMPORTED_ROUND, 0, pool[0], pool[1], 0)
    store.add_answers([Answer(number, Judgement.EQUAL, "oracle", 0) for number in store.add_queries([other])])
    assert automatic.segments == 40
    automatic.add(120)
    automatic.add(240)  # once only
    assert store.by_teacher() == {"oracle": 1, "demonstrations": 40}
    assert store.counts()["answered"] == store.counts(IMPORTED_ROUND)["answered"] == 1
    assert store.counts()["pending"] == 0
    labels = store.labels("comparison")
    assert len(labels) == 41
    sides = set()
    for label in labels[1:]:
        rewards = [clips.load(number).true_rewards.sum() for number in label.segments]
        better = label.segments[0 if label.target == 1 else 1]
        assert better < 0  # a segment that is not the agent's own
        assert clips.load(better).true_rewards.sum() == max(rewards)
        sides.add(label.target)
    assert sides == {0.0, 1.0}
    assert len({tuple(sorted(label.segments)) for label in labels}) == 41


def test_more_automatic_labels_than_pairs_are_all_pairs(tmp_path):
    config = resolve("reacher", settings={"queries.segment_length": 3, "demonstrations.labels": 1000})
    config = replace(config, {"demonstrations.source": "somewhere"})
    store, _, automatic = labelled(tmp_path, config, segments(4), shown(9))
    automatic.add(0)
    assert store.by_teacher() == {"demonstrations": 12}


def test_demonstrations_shorter_than_a_clip_are_one_line(tmp_path):
    config = resolve("reacher", settings={"queries.segment_length": 10, "demonstrations.source": "somewhere"})
    _, _, automatic = labelled(tmp_path, config, segments(4), shown(9))
    with pytest.raises(UsageError, match="no demonstrated episode has the 10 steps of a clip"):
        automatic.add(0)


# -- sources ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def demonstrator(tmp_path_factory):
    """A run on the reacher, hardly trained."""
    root = tmp_path_factory.mktemp("demonstrator") / "run"
    done = prefrl(*tiny("reacher", root, "--teacher", "none", steps=1024))
    assert done.code == 0, done.err
    return root


def configured(task, source, **settings):
    return resolve(task, settings={"demonstrations.source": str(source)} | settings)


def test_a_run_s_policy_is_rolled_out_the_same_each_time(demonstrator):
    config = configured("reacher", demonstrator, **{"demonstrations.episodes": 2})
    one, two = demonstrations_for(config), demonstrations_for(config)
    assert [len(each) for each in one.episodes] == [config.horizon] * 2
    for a, b in zip(one.episodes, two.episodes, strict=True):
        assert same_segment(a, b)
    cut = demonstrations_for(replace(config, {"demonstrations.steps": config.horizon + 1}))
    assert [len(each) for each in cut.episodes] == [config.horizon, 1]


def test_a_file_of_the_task_and_of_another(demonstrator, tmp_path):
    found = demonstrations_for(configured("reacher", demonstrator, **{"demonstrations.episodes": 1}))
    found.save(path := tmp_path / "shown.safetensors")
    (episode,) = demonstrations_for(configured("reacher", path)).episodes
    assert same_segment(episode, found.episodes[0])
    with pytest.raises(UsageError, match=r"demonstrates .*Reacher.*, not Pendulum-v1"):
        demonstrations_for(configured("Pendulum-v1", path))
    narrow = dataclasses.replace(found, episodes=(segment(0, np.zeros(30)),))
    narrow.save(path)
    with pytest.raises(UsageError, match="holds observations of 2 and actions of 1, whereas reacher has"):
        demonstrations_for(configured("reacher", path))
    dataclasses.replace(found, episodes=()).save(path)
    with pytest.raises(UsageError, match="holds no demonstrated step"):
        demonstrations_for(configured("reacher", path))


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("nowhere", "--demonstrations nowhere: there is no such run or file"),
        (".", "is not a run"),
        ("minari:hopper/expert-v0", "needs Minari: pip install 'minari[hdf5]'"),
    ],
)
def test_a_bad_source_is_one_line(source, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "minari", None)
    done = prefrl("train", "reacher", "--demonstrations", source, "--out", "run")
    assert done.code == 2
    assert said in done.err
    assert len(done.err.splitlines()) == 1


def test_a_file_is_used_whole_up_to_the_largest_number_of_steps(demonstrator, tmp_path):
    one = demonstrations_for(configured("reacher", demonstrator, **{"demonstrations.episodes": 1}))
    dataclasses.replace(one, episodes=3 * one.episodes).save(path := tmp_path / "shown.safetensors")
    found = demonstrations_for(configured("reacher", path, **{"demonstrations.episodes": 1}))
    assert [len(each) for each in found.episodes] == 3 * [len(one)]
    found = demonstrations_for(configured("reacher", path, **{"demonstrations.steps": len(one) + 2}))
    assert [len(each) for each in found.episodes] == [len(one), 2]


def test_a_run_of_another_task_is_one_line(demonstrator, tmp_path):
    done = prefrl("train", "Pendulum-v1", "--demonstrations", demonstrator, "--out", tmp_path / "run")
    assert done.code == 2
    assert "was trained in prefrl/Reacher-v0, not Pendulum-v1" in done.err
    assert not (tmp_path / "run").exists()


def test_another_kind_of_feedback_has_no_automatic_labels():
    settings = {"demonstrations.source": "x"}
    with pytest.raises(UsageError, match="automatic labels compare clips, and --feedback rating does not"):
        resolve("reacher", feedback="rating", settings=settings)
    assert resolve("reacher", feedback="rating,comparison", settings=settings).automatic_labels
    assert not resolve("reacher", feedback="rating", settings=settings | {"demonstrations.labels": 0}).automatic_labels


def minari(monkeypatch, data):
    """A library whose only data set is `data`, as Minari 0.5 returns it."""
    module = ModuleType("minari")
    module.__spec__ = ModuleSpec("minari", None)
    module.load_dataset = lambda name: {"toy/pendulum-v0": data}[name]
    monkeypatch.setitem(sys.modules, "minari", module)
    monkeypatch.setitem(sys.modules, "h5py", module)


def minari_set(observations=3):
    rng = np.random.default_rng(0)
    episodes = [
        SimpleNamespace(
            observations=rng.normal(size=(length + 1, observations)).astype(np.float32),
            actions=rng.uniform(-2, 2, (length, 1)).astype(np.float32),
            rewards=np.arange(float(length)),
            terminations=np.zeros(length, bool),
            truncations=np.arange(length) == length - 1,
        )
        for length in (4, 6, 5)
    ]
    return SimpleNamespace(
        observation_space=spaces.Box(-1, 1, (observations,), np.float32),
        action_space=spaces.Box(-2, 2, (1,), np.float32),
        iterate_episodes=lambda: iter(episodes),
    ), episodes


def test_a_data_set_of_minari(monkeypatch):
    data, episodes = minari_set()
    minari(monkeypatch, data)
    config = configured("Pendulum-v1", "minari:toy/pendulum-v0", **{"demonstrations.episodes": 2})
    found = demonstrations_for(config)
    assert [len(each) for each in found.episodes] == [4, 6]
    for kept, episode in zip(found.episodes, episodes, strict=False):
        assert np.array_equal(kept.observations, episode.observations[:-1])
        assert np.array_equal(kept.actions, episode.actions)
        assert kept.true_rewards.tolist() == episode.rewards.tolist()
        assert kept.truncated[-1]
    with pytest.raises(PrefrlError, match="the Minari data set other cannot be read"):
        demonstrations_for(configured("Pendulum-v1", "minari:other"))
    minari(monkeypatch, minari_set(observations=4)[0])
    with pytest.raises(UsageError, match="the observations of the Minari data set toy/pendulum-v0 are"):
        demonstrations_for(config)


# -- training ---------------------------------------------------------------------------------------------------------

SHORT = ("demonstrations.episodes=4", "demonstrations.batches=50", "evaluation.episodes=0")


def test_a_run_learns_from_demonstrations_and_needs_their_source_no_more(demonstrator, tmp_path):
    root = tmp_path / "run"
    flags = ("--mode", "sync", "--demonstrations", str(demonstrator))
    done = prefrl(*tiny("reacher", root, *flags, settings=SHORT, steps=3072))
    assert done.code == 0, done.err
    summary = json.loads((root / "summary.json").read_text())
    assert summary["labels_answered"] == 20
    assert summary["labels_by_teacher"] == {"demonstrations": 5, "oracle": 20}
    assert len(Demonstrations.load(root / "demonstrations.safetensors").episodes) == 4
    report = prefrl("labels", "report", root)
    assert "demonstrations" in report.out
    exported = prefrl("labels", "export", root, tmp_path / "labels.zip")
    assert exported.code == 0, exported.err
    archive = read_archive(tmp_path / "labels.zip")
    assert (len(archive.labels), archive.answered) == (25, 20)


def stopped_then_finished(root, request, stop):
    """Train a run that is stopped at its n-th report of progress, and resume it."""
    run = create_run(dataclasses.replace(request, out=root))
    control = Control()
    reports = []

    def report(progress):
        reports.append(progress)
        control.stop = len(reports) >= stop

    control.report = report
    while train_run(run, control) is None:
        control.stop, stop = False, 10**9
    return (root / "metrics.csv").read_text()


def without_clock(text):
    lines = [line.split(",") for line in text.splitlines()]
    kept = [n for n, name in enumerate(lines[0]) if not name.startswith("time_")]
    return [[line[n] for n in kept] for line in lines]


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_a_run_stopped_in_any_of_the_first_phases_resumes_exactly(algo, demonstrator, tmp_path):
    settings = {
        "round_steps": 512,
        "checkpoint_seconds": 0,
        "reward.pretrain_comparisons": 320,
        "evaluation.episodes": 0,
        "demonstrations.episodes": 2,
        "demonstrations.batches": 20,
        "agent.n_envs": 4,
        "agent.n_steps": 64,
    }
    if algo == "sac":
        settings |= {"agent.net_arch": [16], "off_policy.updates_per_step": 0.02, "off_policy.random_steps": 256}
    request = Request(
        "reacher",
        algo=algo,
        labels=12,
        steps=1536,
        mode="sync",
        demonstrations=str(demonstrator),
        settings=settings,
    )
    whole = without_clock(stopped_then_finished(tmp_path / "whole", request, 10**9))
    for stop in (1, 2, 4, 7):
        assert without_clock(stopped_then_finished(tmp_path / f"stopped-{stop}", request, stop)) == whole


def test_the_agent_begins_as_its_demonstrator(tmp_path):
    """On the true reward: the evaluation after one rollout is near the demonstrator's return, not the untrained's."""
    from prefrl.experience.make_env import run_env

    config = resolve("CartPole-v1", teacher="none")
    env, episodes = run_env(config), []
    for seed in range(4):  # a controller that balances
        tape, (seen, _) = EpisodeTape(), env.reset(seed=seed)
        for _ in range(200):
            action = int(seen[2] + 0.5 * seen[3] > 0)
            following, reward, terminated, truncated, _ = env.step(action)
            tape.add(seen, np.eye(2, dtype=np.float32)[action], reward, terminated=terminated, truncated=truncated)
            seen = following
            if terminated:
                break
        episodes.append(tape.episode(seed))
    env.close()
    shown = Demonstrations(config.env_id, {}, tuple(episodes))
    assert min(shown.returns) == 200
    shown.save(path := tmp_path / "shown.safetensors")
    returns = {}
    for name, source in (("cloned", str(path)), ("untrained", None)):
        settings = {"agent.n_envs": 2, "agent.n_steps": 16, "demonstrations.batches": 500}
        settings |= {"evaluation.episodes": 3, "evaluation.max_steps": 200, "agent.learning_rate": 1e-8}
        request = Request(
            "CartPole-v1", teacher="none", steps=200, demonstrations=source, settings=settings, out=tmp_path / name
        )
        returns[name] = train_run(create_run(request))["evaluation_return_mean"]
    assert returns["cloned"] > 150
    assert returns["untrained"] < 100
