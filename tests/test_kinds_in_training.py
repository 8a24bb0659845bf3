"""The custom feedback kind of `stars.py` through whole runs: asked, answered, learned from, resumed and reported."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import Library, quick, segments, tiny_reward
from hypothesis import given
from hypothesis import strategies as st
from prefrl_benchmarks.cells import Cell, fingerprint
from runs import Result, label_counts, prefrl, refused, spawned, summary, tiny
from stars import STARS, install

import prefrl as package
from prefrl.config.migrations import downgraded
from prefrl.errors import UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer, Label, Query, Undone
from prefrl.recipes import resolve
from prefrl.registry import LOSSES, LossKind, Registry
from prefrl.reward.dataset import LabelType
from prefrl.reward.label_reader import LabelReader
from prefrl.reward.learner import RewardLearner
from prefrl.runs.directory import RunDirectory

SETTINGS = {"round_steps": 1024, "agent.n_steps": 64, "reward.pretrain_comparisons": 640, "evaluation.episodes": 1}


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KINDS, "stars", STARS)
        patch.setitem(LOSSES, "fixed-odds", LossKind("stars:fixed_odds"))
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained to its end, and resumed with a higher budget."""
    root = tmp_path_factory.mktemp("rated") / "run"
    kind = {"feedback": "stars", "mode": "sync", "settings": SETTINGS}
    assert package.train("cheetah", **kind, labels=60, steps=6144, out=root).summary
    assert package.resume(root, labels=100, steps=8192).summary
    return root


# -- a synchronous run ------------------------------------------------------------------------------------------------


def test_every_query_is_about_one_clip_and_every_answer_is_a_rating(root: Path) -> None:
    store = LabelStore(root / "labels.sqlite")
    answers = store.standing()
    store.close()
    assert {answer.kind for answer in answers} == {"stars"}
    assert len({answer.segments for answer in answers}) == len(answers) == 100  # no clip twice
    assert {len(answer.segments) for answer in answers} == {1}
    assert {answer.value for answer in answers} >= {2, 4}
    assert all(ClipFolder(root / "clips").load(answer.segments[0]) for answer in answers)


def test_the_reward_model_learns_the_true_reward_from_ratings(root: Path) -> None:
    """Seeds 0, 1 and 2 gave correlations of 0.72, 0.45 and 0.73 when trained at once; chance is 0."""
    assert summary(root)["reward_correlation"] > 0.5


def test_it_is_reported(root: Path) -> None:
    said = summary(root)
    assert (said["feedback"], said["learner"], said["labels_answered"]) == ("stars", "reward-model", 100)
    status = prefrl("status", root)
    assert "feedback stars" in status.out
    assert "labels: 100 answered" in status.out


def test_a_reward_model_can_be_fitted_to_it(root: Path, tmp_path: Path) -> None:
    done = prefrl("reward", "fit", root, "--comparisons", "3200", "--out", tmp_path / "weights")
    assert done.code == 0, done.err
    assert "80 labels fitted (3,200 comparisons), 20 held out" in done.out
    assert "held-out loss " in done.out
    assert "nats" not in done.out  # of another unit than a comparison's
    accuracy = float(done.out.partition("held-out accuracy ")[2].split()[0])
    assert accuracy >= 0.6  # 0.90 when it was written; chance is a half


def test_the_same_seed_gives_the_same_queries_and_answers(tmp_path: Path) -> None:
    found = []
    for name in ("one", "other"):
        run = package.train(
            "cheetah", feedback="stars", mode="sync", labels=20, steps=2048, settings=SETTINGS, out=tmp_path / name
        )
        store = LabelStore(run.root / "labels.sqlite")
        found.append([(answer.segments, answer.value) for answer in store.standing()])
        store.close()
    assert found[0] == found[1]


# -- an asynchronous run, whose processes find it by its entry points --------------------------------------------------


@pytest.mark.slow
def test_other_processes_find_an_installed_kind(tmp_path: Path) -> None:
    install(tmp_path)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parent)])

    def installed(*args: str | Path) -> Result:
        done = spawned(*args, PYTHONPATH=path)
        assert done.code == 0, done.err
        return done

    run = tmp_path / "run"
    installed(*tiny("cheetah", run, "--feedback", "stars", settings=("evaluation.episodes=0",), steps=8192))
    installed("resume", run, "--steps", "12288", "--labels", "24")
    assert "feedback stars" in installed("status", run).out
    assert (summary(run)["feedback"], summary(run)["labels_answered"]) == ("stars", 24)
    assert summary(run)["reward_updates"] > 40  # pretraining took these; the learner's process the others
    assert label_counts(run) == (0, 0)  # of comparisons
    said = refused(spawned("resume", run, "--steps", "30000"), 2)  # where it is not installed
    assert "damaged" not in said
    assert "unknown reward.loss 'fixed-odds'" in said


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"feedback": "strs"}, "unknown feedback kind 'strs'; did you mean stars?"),
        ({"settings": {"feedback": "strs"}}, "unknown feedback kind 'strs'; did you mean stars?"),
        (
            {"feedback": "stars", "settings": {"reward.loss": "bradley-terry"}},
            "reward.loss=bradley-terry needs labels of 2 segments, but those of --feedback stars have 1",
        ),
        (
            {"feedback": "stars", "labels": 34, "settings": {"agent.n_envs": 1, "steps": 1000}},
            "34 labels are more than the 33 distinct segments that 1000 steps can give",
        ),
    ],
)
def test_what_cannot_work_is_refused(arguments: dict[str, object], told: str) -> None:
    with pytest.raises(UsageError) as error:
        resolve("cheetah", **arguments)
    assert str(error.value) == told


def test_an_unknown_kind_is_refused_on_the_command_line(tmp_path: Path) -> None:
    said = refused(prefrl("train", "cheetah", "--feedback", "comparisn", "--out", tmp_path / "run"), 2)
    assert "unknown feedback kind 'comparisn'; did you mean comparison" in said
    assert not (tmp_path / "run").exists()


def test_an_installed_kind_that_cannot_be_loaded_is_reported_and_skipped(tmp_path, monkeypatch, capsys) -> None:
    install(tmp_path, "[broken]\nnowhere = nowhere:KIND\ncomparison = stars:STARS\nstars = stars:STARS\n")
    monkeypatch.syspath_prepend(tmp_path)
    kinds = Registry("feedback kind", {"comparison": "ours"}).extended("broken", lambda found: found.load())
    assert kinds == {"comparison": "ours", "stars": STARS}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("prefrl: the feedback kind nowhere (nowhere:KIND) cannot be loaded: ")


# -- the configuration ------------------------------------------------------------------------------------------------


def test_a_kind_brings_its_loss_and_an_ablation_or_a_setting_another() -> None:
    assert resolve("cheetah").reward.loss == "bradley-terry"
    assert resolve("cheetah", feedback="stars").reward.loss == "fixed-odds"
    assert resolve("cheetah", feedback="stars", ablation="target").reward.loss == "true-reward"


def test_the_hash_of_a_run_that_compares_is_what_it_was() -> None:
    config = resolve("cheetah")
    assert "feedback" not in downgraded("config", config.to_json())
    assert fingerprint(config) != fingerprint(resolve("cheetah", feedback="stars", ablation="target"))


def test_cells_of_two_kinds_have_two_names() -> None:
    ratings = Cell("cheetah", feedback="stars", mode="sync", labels=30)
    assert ratings.name == "cheetah_ppo_oracle-sync-30-stars_s0"
    assert ratings.name != Cell("cheetah", mode="sync", labels=30).name


# -- a run learns from its own kind -----------------------------------------------------------------------------------


def test_answers_of_another_kind_are_not_learned_from(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", resolve("hopper", settings={"queries.segment_length": 3}))
    pool = segments(5)
    for segment in pool:
        ClipFolder(run.clips).save(segment)
    store = LabelStore(run.labels, create=True)
    pair, single, last = store.add_queries(
        [pair_query(1, 0, pool[0], pool[1], 0), Query("stars", (pool[2],), 1, 1, 0), pair_query(1, 2, *pool[3:], 0)]
    )
    said = [Answer(pair, Judgement.LEFT, "oracle", 0), Answer(single, 5, "oracle", 0)]
    store.add_answers([*said, Answer(last, Judgement.RIGHT, "oracle", 0)])
    store.undo(1)
    store.undo(2)
    labels = LabelReader(run, store)
    assert list(labels.changes(after=2)) == [Label(3, (3, 4), 0.0), Undone(4, 1)]
    assert list(labels.standing(upto=3)) == [Label(1, (0, 1), 1.0), Label(3, (3, 4), 0.0)]
    assert store.labels("stars") == []
    store.close()


# -- a dataset of single segments -------------------------------------------------------------------------------------


def ratings(library: Library, first: int, last: int) -> list[Label]:
    """Stars n is of segment n."""
    sums = library.true.sum(axis=1)
    return [Label(n, (n,), float(np.clip(3 + np.rint(sums[n] / sums.std()), 1, 5))) for n in range(first, last + 1)]


def learner(**changes: object) -> RewardLearner:
    config = tiny_reward(loss="fixed-odds", **changes)
    return RewardLearner(config, Inputs((4,)), 5, seed=0, label_types=[LabelType("stars", 1)])


@quick
@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.data())
def test_its_newest_labels_are_there_whatever_came_and_went(sizes: list[int], data: st.DataObject) -> None:
    library, made, standing, row = Library(80), learner(buffer=16), [], 0
    for size in sizes:
        said = ratings(library, row + 1, row + size)
        row += size
        standing += said
        made.add(said, library.read)
        if data.draw(st.booleans()):
            row += 1
            gone = standing.pop(data.draw(st.integers(0, len(standing) - 1)))
            made.add([Undone(row, gone.id)], library.read)
    kept, dataset = standing[-16:], made.dataset
    assert (dataset.seen, dataset.segments_seen, len(dataset)) == (len(standing), len(standing), len(kept))
    assert sorted(dataset.target.tolist()) == sorted(label.target for label in kept)
    assert dataset.segments.steps(dataset.slots).shape == (len(kept), 1, 5, 4) or not kept
    assert len(dataset.segments) == len(kept)
    if standing:
        features = np.concatenate([library.features[label.segments[0]] for label in standing])
        mean = made.ensemble.input_normaliser.mean.numpy()
        np.testing.assert_allclose(mean, features.mean(axis=0), rtol=1e-3, atol=1e-4)


def test_a_linear_reward_is_recovered_from_ratings() -> None:
    library, made = Library(400), learner(buffer=400, hidden=(32,))
    made.add(ratings(library, 0, 299), library.read)
    made.train(600 * made.config.batch_size)
    outputs = made.ensemble.predict(torch.from_numpy(library.features[300:].reshape(-1, 4))).mean(dim=0)
    assert np.corrcoef(outputs, library.true[300:].ravel())[0, 1] > 0.9


def test_ratings_cannot_be_cropped() -> None:
    with pytest.raises(UsageError, match="crop is for labels that compare segments"):
        resolve("cheetah", feedback="stars", settings={"reward.crop": [20, 30]})


def test_a_session_of_ratings_makes_all_passes() -> None:
    library = Library(20)
    config = tiny_reward(loss="fixed-odds", epochs=3, stop_accuracy=0.01)
    learner = RewardLearner(config, Inputs((4,)), 5, seed=0, label_types=[LabelType("stars", 1)])
    learner.add([Label(number, (number,), float(1 + number % 5)) for number in range(1, 11)], library.read)
    learner.train(1000)
    assert learner.trainer.fitted == 30
