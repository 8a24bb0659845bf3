"""What an older version made is of use: `tests/data/old`, made by commit f460bb4, in a copy of each test's own.

`finished` has 2,048 steps of reacher and 12 labels; `unfinished` was stopped with Ctrl-C, of 40 labels; `image` is
moving-dot, without its checkpoints, which are large; `labels.zip` has the labels of `finished`; `published` is a small
suite.
"""

import json

import pytest
from runs import prefrl

from prefrl import load_policy
from prefrl.feedback.archive_admission import read_archive
from prefrl.runs.directory import RunDirectory
from prefrl.runs.metrics import read_metrics
from prefrl.trained.learned_reward import load_reward

RUNS = ("finished", "unfinished", "image")


@pytest.mark.parametrize("name", RUNS)
def test_it_opens_and_tells_its_status(old, name):
    config = RunDirectory.open(old / name).config
    assert config.evaluation.episodes == 10  # a setting that there was not
    result = prefrl("status", old / name, "--json")
    assert result.code == 0, result.err
    status = json.loads(result.out)
    assert status["task"] == ("moving-dot" if name == "image" else "reacher")


@pytest.mark.parametrize("name", RUNS)
def test_its_labels_are_reported_and_exported(old, name, tmp_path):
    assert prefrl("labels", "report", old / name).code == 0
    result = prefrl("labels", "export", old / name, tmp_path / "labels.zip")
    assert result.code == 0, result.err
    labels = read_archive(tmp_path / "labels.zip").labels
    assert len(labels) == 12 if name != "unfinished" else len(labels) > 12


def test_what_it_learned_is_played_exported_and_loaded(old, tmp_path):
    for name in ("finished", "unfinished"):
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
    assert json.loads((root / "summary.json").read_text())["labels_answered"] == 40


def test_a_finished_one_continues_with_a_higher_budget_and_says_the_new_format_then(old):
    root = old / "finished"
    result = prefrl("resume", root)
    assert result.code == 0
    assert json.loads((root / "config.json").read_text())["format"] == 1
    result = prefrl("resume", root, "--steps", 3000, "--labels", 16)
    assert result.code == 0, result.err
    assert json.loads((root / "config.json").read_text())["format"] == 2
    assert json.loads((root / "summary.json").read_text())["labels_answered"] == 16


@pytest.mark.parametrize("name", ["finished", "image"])
def test_a_reward_model_is_fitted_to_its_labels(old, name):
    result = prefrl("reward", "fit", old / name, "--comparisons", 64)
    assert result.code == 0, result.err


def test_its_archive_is_read_imported_and_trained_from(old, tmp_path):
    archive = read_archive(old / "labels.zip")
    assert (len(archive.labels), len(archive.digests)) == (12, 17)

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
