"""Imitation of the best: rules, the learner, and whole runs without a reward model."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import assert_equal_runs, prefrl
from test_resume import stop_at

from prefrl import load_policy, load_reward, train
from prefrl.config import ImitationConfig
from prefrl.errors import PrefrlError, UsageError
from prefrl.feedback.terms import Label, Undone
from prefrl.imitation import learner as learner_module
from prefrl.imitation import rules
from prefrl.imitation.learner import ImitationLearner
from prefrl.recipes import resolve
from prefrl.reward.label_reader import LabelReader
from prefrl.runs.directory import RunDirectory
from prefrl.seeding import stream

RUN = {
    "agent.n_envs": 2,
    "agent.n_steps": 64,
    "round_steps": 512,
    "queries.segment_length": 10,
    "queries.rating_steps": 5,
    "imitation.batches": 20,
    "evaluation.episodes": 0,
}


def started(out, *, labels=20, steps=3000, algo="ppo", settings=None):
    return train(
        "reacher",
        learner="imitation",
        feedback="rating",
        algo=algo,
        mode="sync",
        labels=labels,
        steps=steps,
        out=out,
        settings=RUN | (settings or {}),
    )


# -- rules ------------------------------------------------------------------------------------------------------------


def choose(name, ratings, seed=0, steps=7, **settings):
    made = getattr(rules, name)(np.array(ratings, float), steps, ImitationConfig(**settings), stream(seed, "imitation"))
    return made.tolist()


def test_the_bucket_is_the_highest_step_or_a_fixed_one():
    assert choose("bucket", [7, 6, 1, 7]) == [True, False, False, True]
    assert choose("bucket", [4, 3, 5], bucket=4) == [True, False, True]
    assert choose("bucket", [3, 2], steps=3) == [True, False]


@given(st.lists(st.integers(1, 7), min_size=1, max_size=40), st.floats(0.01, 1), st.integers(0, 99))
def test_a_share_has_its_size_and_none_better_is_left_out(ratings, share, seed):
    chosen = np.array(choose("share", ratings, seed, share=share))
    assert chosen.sum() == int(np.ceil(share * len(ratings)))
    if not chosen.all():
        assert np.array(ratings)[chosen].min() >= np.array(ratings)[~chosen].max()


def test_equal_ratings_are_drawn():
    firsts = {tuple(choose("share", [5, 5, 5, 5], seed, share=0.25)) for seed in range(30)}
    assert len(firsts) == 4


def test_the_chance_rises_with_the_rating():
    ratings = np.repeat([1, 4, 7], 4000)
    chosen = np.array(choose("chance", ratings, power=2.0)).reshape(3, -1).mean(axis=1)
    assert chosen.tolist() == pytest.approx([0, 0.25, 1], abs=0.03)
    assert chosen[0] == 0
    assert chosen[2] == 1


# -- the learner ------------------------------------------------------------------------------------------------------


class Agent:
    def __init__(self):
        self.shown, self.tasks = [], []

    def clone(self, shown, settings, rng, tell, *, known):
        assert known == len(shown.episodes)  # their observations are in the normalisation already
        self.shown.append([episode.name for episode in shown.episodes])
        self.tasks.append((shown.env_id, shown.env_kwargs))


class Labels:
    """The labels of a store with these changes; row `10 * round + step` is the last of a round."""

    def __init__(self, changes):
        self._changes = changes

    def changes(self, after, upto):
        return [change for change in self._changes if after < change.id <= (upto or np.inf)]

    def standing(self, upto):
        read = self.changes(0, upto)
        undone = {change.answer for change in read if isinstance(change, Undone)}
        return [change for change in read if isinstance(change, Label) and change.id not in undone]

    def last_row(self, round_, step):
        return 10 * round_ + step


def learner_of(changes, **settings):
    """A learner whose label store gives these changes, and the agent that it lets imitate."""
    agent = Agent()
    config = resolve("reacher", feedback="rating", learner="imitation", settings={"imitation.share": 0.5} | settings)
    run = SimpleNamespace(config=config, clips=Path("clips"))
    learner = ImitationLearner(
        run, SimpleNamespace(database=SimpleNamespace(read=None, write=None)), None, lambda: agent
    )
    learner._labels = Labels(changes)
    learner._clips = SimpleNamespace(load=lambda n: type("Clip", (), {"name": n, "__len__": lambda self: 5})())
    return learner, agent


def test_the_best_of_the_newest_are_imitated_whenever_there_are_new_ratings():
    changes = [Label(1, (11,), 7.0, "rating"), Label(2, (12,), 2.0, "rating")]
    learner, agent = learner_of(changes, **{"imitation.newest": 2})
    assert not learner.ready
    assert learner.metrics == {}
    learner.fit(0, None)
    assert learner.ready
    assert learner.metrics == {"imitated": 1.0}
    learner.fit(0, None)
    assert agent.shown == [[11]]  # nothing new
    changes.append(Label(3, (13,), 5.0, "rating"))
    learner.fit(0, None)
    assert agent.shown == [[11], [13]]  # the seven is not among the newest two


def test_a_rating_that_was_taken_back_is_forgotten():
    changes = [Label(1, (11,), 7.0, "rating"), Label(2, (12,), 2.0, "rating")]
    learner, agent = learner_of(changes)
    learner.fit(0, None)
    changes.append(Undone(3, 1))
    learner.fit(0, None)
    assert agent.shown == [[11], [12]]


def test_where_no_rating_is_high_enough_nothing_is_imitated():
    learner, agent = learner_of([Label(1, (11,), 3.0, "rating")], **{"imitation.rule": "bucket"})
    learner.fit(0, None)
    assert (agent.shown, learner.metrics) == ([], {"imitated": 0.0})


def test_ratings_are_read_again_after_a_resume():
    changes = [Label(number, (10 + number,), float(number), "rating") for number in range(1, 6)]
    learner, agent = learner_of(changes)
    learner.fit(0, None)
    again, other = learner_of(changes)
    again.load_state_dict(learner.state_dict())
    assert again.ready
    again.fit(0, None)
    assert other.shown == []
    changes.append(Label(6, (16,), 4.0, "rating"))
    learner.fit(0, None)
    again.fit(0, None)
    assert other.shown == agent.shown[1:] == [[14, 15, 16]]


def rated(*ratings):
    """Labels 1, 2, 3, ... about the segments 11, 12, 13, ..."""
    return [Label(number, (10 + number,), float(rating), "rating") for number, rating in enumerate(ratings, start=1)]


def test_each_imitation_is_counted_and_draws_by_its_number():
    changes = rated(1, 3, 4, 5, 6, 7)
    learner, agent = learner_of(changes, **{"imitation.rule": "chance"})
    assert learner.state_dict() == {"last_id": 0, "version": 0, "imitated": 0}
    for number in (1, 2, 3):
        learner.fit(0, None)
        settings, seed = learner._config.imitation, learner._config.seed
        ratings = np.array([label.target for label in changes])
        drawn = rules.chance(ratings, 7, settings, stream(seed, "imitation", number))
        assert agent.shown[-1] == [label.segments[0] for label, kept in zip(changes, drawn, strict=True) if kept]
        assert learner.state_dict() == {"last_id": len(changes), "version": number, "imitated": len(agent.shown[-1])}
        changes.append(Label(len(changes) + 1, (11 + len(changes),), 4.0, "rating"))
    assert agent.tasks == [("prefrl/Reacher-v0", {})] * 3


def test_a_fit_reads_as_far_as_its_round_goes():
    learner, agent = learner_of([*rated(7, 2), Label(13, (23,), 7.0, "rating"), Label(31, (41,), 7.0, "rating")])
    learner.fit(3, 1)  # up to row 13, and not to 31
    assert learner.state_dict()["last_id"] == 13
    assert agent.shown == [[11, 23]]


def test_a_state_is_restored_without_what_was_read_before():
    changes = [*rated(7, 2), Undone(3, 1)]
    learner, agent = learner_of(changes)
    learner._labels = Labels(changes[:2])
    learner.fit(0, None)
    learner._labels = Labels(changes)
    agent.shown.clear()
    learner.load_state_dict({"last_id": 3, "version": 4, "imitated": 1})
    changes.append(Label(4, (14,), 1.0, "rating"))
    learner.fit(0, None)
    assert agent.shown == [[12]]  # one of two: the seven was taken back
    assert learner.state_dict()["version"] == 5


def test_a_rule_that_leaves_a_rating_out_is_noticed(monkeypatch):
    monkeypatch.setitem(learner_module.IMITATION_RULES, "share", lambda ratings, *others: np.ones(1, bool))
    learner, agent = learner_of(rated(7, 2))
    with pytest.raises(ValueError, match="zip"):
        learner.fit(0, None)
    assert agent.shown == []


# -- whole runs -------------------------------------------------------------------------------------------------------


def test_a_run_imitates_without_a_reward_model(tmp_path):
    made = started(tmp_path / "run")
    assert (made.summary["learner"], made.summary["feedback"]) == ("imitation", "rating")
    assert made.summary["labels_answered"] == 20
    assert made.summary["reward_correlation"] is None
    with (tmp_path / "run" / "metrics.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert rows[-1]["imitated"] == "2"  # a tenth of 20
    assert not any(row["predicted_reward_mean"] for row in rows)
    assert load_policy(tmp_path / "run").predict(np.zeros(10), deterministic=True)[0].shape == (2,)
    with pytest.raises(PrefrlError):
        load_reward(tmp_path / "run")
    status = json.loads(prefrl("status", tmp_path / "run", "--json").out)
    assert status["labels"] == 20


def test_clips_of_another_shape_are_known_as_damaged(tmp_path, monkeypatch):
    given = []

    class Reader(LabelReader):
        def __init__(self, run, store, inputs):
            given.append(inputs)
            super().__init__(run, store, inputs)

    monkeypatch.setattr(learner_module, "LabelReader", Reader)
    started(tmp_path / "run")
    assert [inputs.step for inputs in given] == [(12,)]  # ten numbers and two actions


def test_the_true_reward_never_reaches_an_imitating_agent(tmp_path, monkeypatch):
    from prefrl.agents.on_policy import OnPolicyAgent

    monkeypatch.setattr(OnPolicyAgent, "improve", lambda self, reward: pytest.fail("trained"))
    started(tmp_path / "run")


@pytest.mark.parametrize("algo", ["ppo", "sac"])
def test_a_run_that_is_stopped_again_and_again_equals_an_undisturbed_one(tmp_path, algo):
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    started(whole, algo=algo)
    RunDirectory.create(pieces, RunDirectory.open(whole).config)
    for step in (1, 1000, 2000):
        stop_at(pieces, step)
    assert prefrl("resume", pieces).code == 0
    assert_equal_runs(whole, pieces)


@pytest.mark.slow
def test_imitation_of_the_best_learns_to_reach(tmp_path):
    settings = {"agent.n_envs": 8, "agent.n_steps": 256, "round_steps": 2048, "imitation.batches": 200}
    later = started(tmp_path / "b", steps=40_000, labels=200, settings=settings | {"queries.segment_length": 15})
    assert later.summary["true_return_mean"] > -9.4  # a random policy has -10.3


# -- what cannot be ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "--learner imitation chooses by ratings: use --feedback rating"),
        ({"feedback": "rating", "teacher": "none"}, "it needs a teacher, and no --reward"),
        ({"feedback": "rating,comparison"}, "chooses by ratings"),
        ({"feedback": "rating", "settings": {"imitation.rule": "shares"}}, "share"),
        ({"feedback": "rating", "settings": {"imitation.bucket": 8}}, "at most 7"),
        ({"feedback": "rating", "settings": {"imitation.share": 0}}, "imitation.share"),
        ({"feedback": "rating", "settings": {"imitation.newest": 0}}, "imitation.newest"),
        ({"feedback": "rating", "settings": {"imitation.power": 0}}, "imitation.power"),
        ({"feedback": "rating", "settings": {"exploration.steps": 100}}, "exploration.steps cannot be used"),
    ],
)
def test_settings_that_cannot_be_are_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        resolve("reacher", learner="imitation", **arguments)


def test_the_command_takes_the_learner(tmp_path):
    done = prefrl("train", "reacher", "--learner", "imitation", "--out", tmp_path / "run")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "--feedback rating" in done.err
    assert not (tmp_path / "run").exists()
