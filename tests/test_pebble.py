"""PEBBLE's reward model and its descendants' pieces as settings: what each does, together, in runs."""

import itertools
import json

import numpy as np
import pytest
import torch
from asker_bench import LABELS, Bench, Moody
from helpers import Library, answered_run, segments, through_file
from learning import make
from runs import STEPS, assert_equal_runs, figures, prefrl, summary, tiny
from test_resume import stop_at

from prefrl.config import RunConfig, migrations, replace
from prefrl.errors import UsageError
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.terms import Answer
from prefrl.memory_check import memory_use
from prefrl.recipes import resolve
from prefrl.reward import process
from prefrl.reward.ensemble import OUTPUTS
from prefrl.reward.fit_request import fit_request
from prefrl.reward.normalisation import NORMALISATIONS, PUBLISHED, NoNormaliser, OutputNormaliser
from prefrl.reward.pool_file import save_pool
from prefrl.reward.published import PublishedReward
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import load_tree

MODEL = {
    "reward.output": "tanh",
    "reward.hidden": [256, 256, 256],
    "reward.learning_rate": 3e-4,
    "reward.batch_size": 128,
    "reward.epochs": 50,
    "reward.bootstrap": False,
    "reward.l2": 0.0,
    "reward.error": 0.0,
    "reward.normalise_inputs": False,
    "reward.normalise_over": "none",
}
PLAIN = {"output": "tanh", "bootstrap": False, "l2": 0.0, "error": 0.0, "normalise_inputs": False} | {
    "normalise_over": "none"
}


def test_tanh_is_of_each_step():
    library = Library(20)
    plain, bounded = make(library, seed=0), make(library, seed=0, output="tanh")
    steps = torch.as_tensor(library.features)
    torch.testing.assert_close(bounded.ensemble(steps), torch.tanh(plain.ensemble(steps)))
    each = steps.expand(3, -1, -1, -1)
    torch.testing.assert_close(bounded.ensemble.forward_each(each), torch.tanh(plain.ensemble.forward_each(each)))
    assert list(OUTPUTS) == ["identity", "tanh"]


def test_pebble_s_model_reads_raw_steps_and_averages_raw_outputs(tmp_path):
    library = Library(20)
    learner = make(library, **PLAIN)
    learner.train(24)
    learner.publish(tmp_path / "weights")
    steps = torch.as_tensor(library.features[0])
    with torch.no_grad():
        expected = torch.tanh(learner.ensemble.network(steps)).mean(dim=0)
        torch.testing.assert_close(learner.ensemble.reward(steps), expected)
    fresh = make(seed=5, **PLAIN)
    PublishedReward(tmp_path / "weights", fresh.ensemble).refresh()
    torch.testing.assert_close(fresh.ensemble.reward(steps), expected)
    rollout = NORMALISATIONS["none"](3.0)
    outputs = torch.tensor([[1.0, 2.0], [3.0, 8.0]])
    assert rollout(outputs, NoNormaliser(2, 3.0)).tolist() == [2, 5]
    assert rollout.state_dict() == {}


def test_every_normalisation_is_published_with_statistics_but_none():
    assert PUBLISHED.keys() == NORMALISATIONS.keys()
    for name, kind in PUBLISHED.items():
        made = kind(2, 0.5)
        made.fit(torch.tensor([[1.0, 3.0, 8.0], [2.0, 2.0, 5.0]]))
        assert (made.mean == 0).all() == (made.scale == 1).all() == (name == "none")


def test_mean_and_deviation_by_hand():
    """Members of means 1 and 10 and deviations 1 and 2: (3, 10) are 2 and 0 deviations away; the scale is 0.5."""
    normaliser = OutputNormaliser(2, 1.0)
    normaliser.mean.copy_(torch.tensor([[1.0], [10.0]]))
    normaliser.std.copy_(torch.tensor([[1.0], [2.0]]))
    normaliser.scale.fill_(0.5)
    mean, deviation = normaliser.mean_and_deviation(torch.tensor([[3.0, 0.0], [10.0, 8.0]]))
    assert mean.tolist() == [0.5, -0.5]
    assert deviation.tolist() == [0.5, 0.0]


def test_the_ensemble_s_mean_is_its_reward_and_one_member_does_not_deviate():
    steps = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    for members in (1, 3):
        learner = make(Library(20), members=members)
        learner.normalise()
        mean, deviation = learner.ensemble.mean_and_deviation(steps)
        torch.testing.assert_close(mean, learner.ensemble.reward(steps))
        assert (deviation > 0).all() == (members == 3)
    assert not mean.requires_grad


def test_the_defaults_are_those_of_before():
    """So that configurations of older versions, which lack these fields, mean what they meant."""
    config = resolve("cheetah")
    new = [each for each in migrations.MIGRATIONS if each.kind == "config" and each.format == 4]
    data = config.to_json()
    older = migrations.downgraded("config", data)
    for each in new:
        name = each.path.split(".")[-1]
        assert name not in older["reward"]
        assert name not in older["queries"]
    assert RunConfig.from_json(migrations.upgraded("config", older, 1, None)) == config


# -- sessions ---------------------------------------------------------------------------------------------------------


def test_the_asker_asks_in_sessions_counted_from_the_first(tmp_path):
    bench = Bench(tmp_path, Moody(0, 0.3), session_steps=300, session_labels=7)
    bench.begin(spare=20)
    asked = [bench.store.counts()["answered"]]
    bench.play(last=900, check=lambda step: asked.append(bench.store.counts()["answered"]))
    assert asked == [7, 7, 7, 14, 14, 14, 21, 21, 21, 24]  # every third round, until the budget of 24 is spent
    bench.close()


def test_sessions_of_the_first_one_s_size(tmp_path):
    bench = Bench(tmp_path, Moody(0, 0.3), session_steps=200, initial_fraction=0.5)
    bench.begin(spare=20)
    bench.play(last=200)
    assert bench.store.counts()["answered"] == LABELS
    bench.close()


def test_a_session_that_begins_late_counts_from_there_and_the_state_remembers(tmp_path):
    bench = Bench(tmp_path, Moody(0, 0.0), session_steps=300, session_labels=7)
    bench.asker.sync_with_store()
    bench.record(30)
    assert bench.asker.due(450) == 7
    bench.asker.settle(
        450, lambda: bench.asker.due(450), bench.wait if hasattr(bench, "waits") else lambda counts: None
    )
    assert [bench.asker.due(step) for step in (450, 749, 750, 1000)] == [7, 7, 14, 24]
    state = through_file(tmp_path, bench.asker.state_dict())
    bench.close()
    again = Bench(tmp_path, Moody(0, 0.0), session_steps=300, session_labels=7)
    again.asker.load_state_dict(state, exact=True)
    assert again.asker.due(749) == 7
    del state["begun"]  # of an older version
    again.asker.load_state_dict(state, exact=True)
    assert again.asker.due(749) == 7
    again.close()


def test_queries_are_of_the_newest_episodes(tmp_path):
    bench = Bench(tmp_path, Moody(0, 0.0), pool_episodes=2, labels=8)
    bench.asker.sync_with_store()
    bench.record(40)
    for number in range(40):
        object.__setattr__(bench.pool[number], "episode", number // 5)
    found = bench.asker.choose(0, 30)
    assert len(found) == 30
    assert {segment.id for query in found for segment in query.segments} == set(range(30, 40))
    bench.close()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"queries.session_steps": 0}, "session_steps must be at least 1"),
        ({"queries.session_steps": 20_000, "queries.session_labels": 0}, "session_labels must be at least 1"),
        ({"queries.session_labels": 5}, "session_labels needs queries.session_steps"),
        ({"queries.pool_episodes": 0}, "pool_episodes must be at least 1"),
        ({"queries.session_steps": 2000}, "round_steps must not exceed"),
        (
            {"queries.session_steps": 50_000, "queries.session_labels": 100},
            "ask for 600 of 700 labels in 300,000 steps",
        ),
        (
            {"queries.session_steps": 5000, "queries.session_labels": 60, "queries.pool": 11},
            "60 labels, but the 11 clips",
        ),
        ({"queries.pool_episodes": 1, "queries.initial_fraction": 1.0}, "700 labels, but the 33 clips .* only 528"),
        ({"reward.epochs": 0}, "epochs must be at least 1"),
        ({"reward.stop_accuracy": 0.0}, "stop_accuracy must be in"),
        ({"reward.session_steps": 0.0}, "session_steps must be in"),
        ({"reward.session_steps": 1e7}, "session_steps must be in"),
        ({"reward.epochs": 5, "reward.session_steps": 2.0}, "exclude each other; set one null"),
        ({"reward.output": "relu"}, "reward.output must be one of identity, tanh"),
        ({"reward.pseudo_weight": -1.0}, "pseudo_weight must not be negative"),
        ({"reward.pseudo_ratio": 0}, "pseudo_ratio must be at least 1"),
        ({"reward.crop": [20, 30], "reward.crop_copies": 0}, "crop_copies must be at least 1"),
        ({"queries.selection": "uniform"}, "must be one of variance, entropy, random, kcentre"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings, words):
    with pytest.raises(UsageError, match=words):
        resolve("cheetah", settings=settings)


def test_sessions_and_pools_that_work_are_accepted():
    resolve("cheetah", settings={"queries.session_steps": 50_000, "queries.session_labels": 140})
    resolve("cheetah", settings={"queries.pool_episodes": 10, "queries.initial_fraction": 1.0})
    assert resolve("cheetah", settings={"queries.session_steps": 50_000}).queries.initial_labels == 175


def test_the_ablation_without_online_labels_has_no_sessions():
    found = resolve("cheetah", ablation="no-online", settings={})
    assert (found.queries.session_steps, found.queries.initial_labels) == (None, 700)


# -- whole runs -------------------------------------------------------------------------------------------------------

SESSIONS = {"queries.session_steps": 700, "queries.session_labels": 7}
AUGMENTED = {"reward.crop": [8, 12], "reward.crop_copies": 3, "reward.pseudo_threshold": 0.6}
SMALL = {"reward.hidden": [16, 16], "reward.batch_size": 8, "reward.epochs": 20}
RUNS = {
    "pebble": MODEL | SMALL | SESSIONS,
    "augmented": AUGMENTED | {"queries.selection": "kcentre"},
    "all": MODEL
    | SMALL
    | SESSIONS
    | AUGMENTED
    | {"queries.selection": "kcentre-variance", "queries.pool_episodes": 10},
    "filtered": {"reward.trust_filter": True, "reward.trust_passes": 3},
    "same-stage": {"queries.selection": "same-stage", "queries.pool_episodes": 60},
}


def words(settings):
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    return tuple(f"{name}={text}" for name, text in texts.items())


@pytest.mark.parametrize("name", RUNS)
def test_a_run_stopped_again_and_again_equals_an_uninterrupted_one(name, tmp_path):
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    done = prefrl(*tiny("reacher", whole, "--mode", "sync", settings=words(RUNS[name])))
    assert done.code == 0, done.err
    assert summary(whole)["labels_answered"] == 20
    RunDirectory.create(pieces, RunDirectory.open(whole).config)
    for step in (1, STEPS // 3, STEPS * 2 // 3):
        stop_at(pieces, step)
    assert prefrl("resume", pieces).code == 0
    assert_equal_runs(whole, pieces)


@pytest.mark.parametrize("name", ["all"])
def test_an_asynchronous_run_ends_with_all_labels_and_can_be_resumed(name, tmp_path):
    root = tmp_path / "run"
    done = prefrl(*tiny("reacher", root, settings=words(RUNS[name])))
    assert done.code == 0, done.err
    assert summary(root)["labels_answered"] == 20
    assert summary(root)["reward_updates"] >= 20
    done = prefrl("resume", root, "--steps", "3072", "--labels", "27")
    assert done.code == 0, done.err
    assert summary(root)["labels_answered"] == 27


def test_an_offline_fit_is_a_session_on_all_labels(tmp_path):
    run, store = answered_run(tmp_path / "run", 6)
    store.close()
    run.config = replace(run.config, {"reward.epochs": 4})
    run.write_config()
    assert fit_request(run.root).comparisons == 24
    assert fit_request(run.root, comparisons=9).comparisons == 9
    run.config = replace(run.config, {"reward.epochs": 10_000})
    run.write_config()
    assert fit_request(run.root).comparisons == 40_000


def test_pseudo_labels_count_in_the_memory_that_a_run_needs():
    plain, semi = (
        list(memory_use(resolve("cheetah", settings=settings)).values())
        for settings in ({}, {"reward.pseudo_threshold": 0.9, "reward.pseudo_ratio": 3})
    )
    ratios = [more / less for more, less in zip(semi, plain, strict=True)]
    assert sorted(ratios) == [1, 1, 1, 2, 4]  # the pool twice; batches of one labelled and three unlabelled pairs


class Looks:
    """The agent's end of the learner's pipe: it is looked at so many times, and some looks are after an act."""

    step = 1000

    def __init__(self, looks, acts):
        self.looks, self.acts, self.count = looks, acts, 0

    def listen(self, seconds=0.0):
        self.acts.get(self.count, lambda: None)()
        self.count += 1
        return self.count > self.looks


def test_the_learner_s_process_holds_a_session_whenever_labels_come_and_reads_the_pool(tmp_path):
    run, store = answered_run(tmp_path / "run", 3)
    settings = {"reward.epochs": 4, "reward.stop_accuracy": 1.0, "reward.batch_size": 2, "reward.pseudo_threshold": 0.5}
    run.config = replace(run.config, settings)
    run.saved.save(0, {"agent": {}})
    save_pool(run.unlabelled, segments(9, rewards=np.arange(5.0)), Inputs((4,)))

    def answer():
        (pending,) = store.pending()
        store.add_answers([Answer(pending.id, Judgement.LEFT, "oracle", 0)])

    process.learn_until(Looks(12, {6: answer}), run, Inputs((3,)), "cpu")
    store.close()
    state = load_tree(run.learner_state)
    assert state["counters"]["sessions"] == 2
    assert state["counters"]["fitted"] == 4 * 3 + 4 * 4
    assert state["counters"]["updates"] == 4 * 2 + 4 * 2  # batches of 2 and 1, then of 2 and 2
    assert (state["confident"] > 0).all()


def test_pieces_change_a_run(tmp_path):
    found = {}
    for name, settings in {"plain": {}, "augmented": RUNS["augmented"]}.items():
        assert prefrl(*tiny("reacher", tmp_path / name, "--mode", "sync", settings=words(settings))).code == 0
        found[name] = figures(tmp_path / name)
    for one, other in itertools.combinations(found.values(), 2):
        assert one != other
