"""What an older version made is of use: `tests/data/old`, made by commit f460bb4, in a copy of each test's own.

`finished` has 2,048 steps of reacher and 12 labels; `unfinished` was stopped with Ctrl-C, of 40 labels; `image` is
moving-dot with A2C and 8 labels; `human` is moving-dot, stopped while it waited for a person who had given 5 labels of
8; `labels.zip` has the labels of `finished`; `published` is a small suite. Networks are small, except for the policy
that sees images, and older checkpoints are left out.
"""

import csv
import json

import pytest
from runs import label_counts, policy, prefrl, summary

from clip_viewer.session import Session
from prefrl import load_policy
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.runs.directory import RunDirectory
from prefrl.runs.metrics import read_metrics
from prefrl.trained.learned_reward import load_reward

RUNS = ("finished", "unfinished", "image", "human")
LABELS = {"finished": 12, "unfinished": 27, "image": 8, "human": 5}


@pytest.mark.parametrize("name", RUNS)
def test_it_opens_and_tells_its_status(old, name):
    config = RunDirectory.open(old / name).config
    assert config.evaluation.episodes == 10  # a setting that there was not
    result = prefrl("status", old / name, "--json")
    assert result.code == 0, result.err
    status = json.loads(result.out)
    assert status["task"] == ("moving-dot" if name in {"image", "human"} else "reacher")
    assert status["labels"] == LABELS[name]


@pytest.mark.parametrize("name", RUNS)
def test_its_labels_are_reported_and_exported(old, name, tmp_path):
    assert prefrl("labels", "report", old / name).code == 0
    result = prefrl("labels", "export", old / name, tmp_path / "labels.zip")
    assert result.code == 0, result.err
    assert len(read_archive(tmp_path / "labels.zip").labels) == LABELS[name]


def test_what_it_learned_is_played_exported_and_loaded(old, tmp_path):
    for name in ("finished", "unfinished", "image"):
        result = prefrl("play", old / name, "--episodes", 1)
        assert result.code == 0, result.err
        result = prefrl("export", old / name, tmp_path / f"{name}.zip")
        assert result.code == 0, result.err
    assert load_policy(old / "finished")
    assert load_reward(old / "finished")


def test_it_is_resumed_where_it_stopped(old):
    root = old / "unfinished"
    before = read_metrics(root / "metrics.csv")
    result = prefrl("resume", root)
    assert result.code == 0, result.err
    after = read_metrics(root / "metrics.csv")
    assert after[: len(before)] == before
    assert int(after[-1]["step"]) >= 6000
    assert summary(root)["labels_answered"] == 40


def test_a_finished_one_continues_with_a_higher_budget_and_says_the_new_format_then(old):
    root = old / "finished"
    result = prefrl("resume", root)
    assert result.code == 0
    assert json.loads((root / "config.json").read_text())["format"] == 1
    result = prefrl("resume", root, "--steps", 3000, "--labels", 16)
    assert result.code == 0, result.err
    assert json.loads((root / "config.json").read_text())["format"] == 3
    assert summary(root)["labels_answered"] == 16


def test_a_policy_that_sees_images_trains_on(old):
    before = policy(old / "image")
    result = prefrl("resume", old / "image", "--steps", 1600, "--labels", 10)
    assert result.code == 0, result.err
    assert summary(old / "image")["labels_answered"] == 10
    after = policy(old / "image")
    assert before.keys() == after.keys()
    assert any((before[key] != after[key]).any() for key in before)


def test_what_a_person_said_is_exported_as_it_was_said(old, tmp_path):
    assert prefrl("labels", "export", old / "human", tmp_path / "labels.csv").code == 0
    with (tmp_path / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    said = [(int(row["left"]), row["judgement"], int(row["right"])) for row in rows]
    assert said == [(9, "left", 14), (15, "right", 11), (14, "right", 15), (15, "left", 9), (11, "left", 10)]
    assert {(row["teacher"], row["labeller"], row["response_seconds"]) for row in rows} == {("human", "ann", "0.1")}
    assert rows[0]["created_at"] == "2026-11-26T01:39:08.811+00:00"


def test_a_run_that_waited_for_a_person_finishes_with_what_was_answered(old):
    root = old / "human"
    assert prefrl("labels", "finish", root).code == 0
    result = prefrl("resume", root)
    assert result.code == 0, result.err
    assert summary(root)["labels_answered"] == 5


def test_a_person_answers_the_pairs_that_an_older_run_asked(old):
    root = old / "human"
    session = Session(root, "bob")
    leases = session.leases(8)
    assert sorted(lease.query_id for lease in leases) == [4, 5, 6]
    for lease in leases:
        assert session.load(lease) is not None
        assert session.answer(lease, Judgement.LEFT, 0.5)
    session.close()
    assert label_counts(root) == (8, 8)
    result = prefrl("resume", root)
    assert result.code == 0, result.err
    assert summary(root)["labels_answered"] == 8


@pytest.mark.parametrize("name", ["finished", "image", "human"])
def test_a_reward_model_is_fitted_to_its_labels(old, name):
    result = prefrl("reward", "fit", old / name, "--comparisons", 64)
    assert result.code == 0, result.err


def test_its_archive_is_read_imported_and_trained_from(old, tmp_path):
    archive = read_archive(old / "labels.zip")
    assert (len(archive.labels), len(archive.digests)) == (12, 18)

    assert prefrl("labels", "import", old / "labels.zip", "--into", old / "unfinished").code == 0
    settings = ["agent.n_envs=4", "agent.n_steps=64", "reward.pretrain_comparisons=64", "round_steps=512"]
    budget = ["--steps", 1000, "--labels", 14, "--mode", "sync", "--labels-from", old / "labels.zip"]
    result = prefrl("train", "reacher", *budget, "--out", tmp_path / "new", "--set", *settings)
    assert result.code == 0, result.err


def test_its_published_results_are_reported(old, tmp_path):
    result = prefrl("bench", "report", old / "published", "--out", tmp_path / "report")
    assert result.code == 0, result.err
    assert "4 of 4" not in result.err
    assert (tmp_path / "report" / "report.html").exists()
