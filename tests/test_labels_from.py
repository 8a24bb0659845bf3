"""Runs that train from a label file."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from labelled import LABELS, add_labels, labels_of, make_run, query, told
from runs import SETTINGS, assert_equal_runs, checkpoints, content, figures, prefrl, refused, stored_labels, summary

import prefrl as package
from prefrl import api
from prefrl.commands.wording import in_words
from prefrl.config.request import Request
from prefrl.errors import UsageError
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.store import LabelStore
from prefrl.feedback.transfer import export_labels, import_labels
from prefrl.recipes import resolve
from prefrl.runs.control import Control
from prefrl.runs.directory import RunDirectory

STEPS = 4000


TINY = {name: float(value) if "." in value else int(value) for name, value in (pair.split("=") for pair in SETTINGS)}
TINY["round_steps"] = 1024


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 20 oracle labels from a real run."""
    folder = tmp_path_factory.mktemp("trained")
    package.train("reacher", labels=20, steps=STEPS, mode="sync", seed=7, out=folder / "run", settings=TINY)
    export_labels(folder / "run", folder / "labels.zip")
    return folder / "labels.zip"


def train(root: Path, labels_from: Path, task: str = "reacher", **options: Any) -> tuple[RunDirectory, list[str]]:
    """Train from a file; the run, and what it said of itself."""
    said: list[str] = []
    options = {"mode": "sync", "settings": TINY, "steps": STEPS} | options
    run = package.train(
        task, labels_from=labels_from, out=root, report=lambda progress: said.append(in_words(progress)), **options
    )
    assert run.summary is not None
    return RunDirectory.open(root), said


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_run_trains_from_a_file_and_asks_nothing(mode: str, trained: Path, tmp_path: Path) -> None:
    run, said = train(tmp_path / "run", trained, mode=mode)
    figures = summary(run.root)
    assert figures["labels_answered"] == figures["labels_requested"] == run.config.queries.labels == 20
    assert said[0] == "learning from the first labels"
    assert not any("recording" in state or "waiting" in state for state in said)
    assert query(run, "SELECT DISTINCT round FROM queries") == [(0,)]
    assert query(run, "SELECT max(id) FROM segments") == [(-1,)]
    assert figures["reward_updates"] >= 40
    assert figures["reward_correlation"] > 0.2
    assert [told(label) for label in labels_of(run)] == [told(label) for label in read_archive(trained).labels]
    assert checkpoints(run.root)[0].stem <= f"{STEPS:012d}"
    assert prefrl("status", run.root).code == 0
    before = content(run.root)
    assert prefrl("resume", run.root).code == 0
    assert content(run.root) == before


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_run_asks_only_for_the_labels_that_a_file_does_not_hold(mode: str, trained: Path, tmp_path: Path) -> None:
    run, said = train(tmp_path / "run", trained, mode=mode, labels=30)
    assert summary(run.root)["labels_answered"] == 30
    assert "recording the first clips" not in said
    assert query(run, "SELECT count(*) FROM queries WHERE round > 0") == [(10,)]
    first = int(dict(zip(*figures(run.root)[:2], strict=True))["labels"])
    assert 20 < first < 30  # the rest is spread over the run


def test_where_a_file_holds_too_few_the_untrained_policy_is_asked_about(trained: Path, tmp_path: Path) -> None:
    run, said = train(tmp_path / "run", trained, labels=100)
    assert "recording the first clips" in said
    assert query(run, "SELECT count(*) FROM queries WHERE round = 1") == [(5,)]  # a quarter of 100, less 20
    assert summary(run.root)["labels_answered"] == 100


def test_the_same_seed_and_file_give_the_same_run(trained: Path, tmp_path: Path) -> None:
    one, _ = train(tmp_path / "one", trained, labels=30)
    other, _ = train(tmp_path / "other", trained, labels=30)
    assert_equal_runs(one.root, other.root)


@pytest.mark.parametrize("labels", [20, 30])
def test_a_run_from_a_file_resumes_exactly(labels: int, trained: Path, tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", trained, labels=labels)
    pieces = api.create_run(
        Request(
            "reacher",
            labels=labels,
            labels_from=trained,
            steps=STEPS,
            mode="sync",
            out=tmp_path / "pieces",
            settings=TINY,
        )
    )
    for step in (0, 2000):  # 0: while it pretrains
        stop_at(pieces.root, step)
    assert api.resume(pieces.root).summary is not None
    assert_equal_runs(whole.root, pieces.root)


def stop_at(root: Path, step: int) -> None:
    control = Control()

    def report(progress: dict[str, object]) -> None:
        control.stop = progress.step >= step

    control.report = report
    assert api.resume(root, control=control).summary is None


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_people_are_not_asked_where_a_file_holds_all_labels(mode: str, tmp_path: Path) -> None:
    source = make_run(tmp_path / "source", "moving-dot")
    add_labels(source, LABELS, videos=LABELS + 1)
    export_labels(source.root, tmp_path / "labels.zip")
    small = TINY | {
        "agent.n_envs": 2,
        "agent.batch_size": 64,
        "reward.pretrain_comparisons": 32,
        "reward.comparisons_per_step": 0.02,
    }
    run, _ = train(
        tmp_path / "run", tmp_path / "labels.zip", "moving-dot", teacher="human", mode=mode, settings=small, steps=1500
    )
    assert summary(run.root)["labels_answered"] == LABELS


def test_fewer_labels_than_a_file_holds_are_refused(trained: Path, tmp_path: Path) -> None:
    flags = ("train", "reacher", "--out", tmp_path / "run", "--labels-from", trained)
    line = refused(prefrl(*flags, "--labels", "19"), 2)
    assert "19" in line
    assert "20 labels" in line
    assert "20 labels" in refused(prefrl(*flags, "--set", "queries.labels=19"), 2)
    assert "true reward" in refused(prefrl(*flags, "--teacher", "none"), 2)
    assert not (tmp_path / "run").exists()


def test_a_file_without_a_label_to_learn_from_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    add_labels(run, 3, judge=lambda left, right: Judgement.INCOMPARABLE)
    export_labels(run.root, tmp_path / "labels.zip")
    flags = ("--labels-from", tmp_path / "labels.zip", "--out", tmp_path / "new", "--labels", "10")
    assert "incomparable" in refused(prefrl("train", "reacher", *flags), 2)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("newest_is_lost", [False, True])
@pytest.mark.parametrize("labels", [25, 150])  # all present when it resumes, or some still missing
def test_labels_added_to_a_stopped_run_are_all_learned_from(
    labels: int, newest_is_lost: bool, trained: Path, tmp_path: Path
) -> None:
    """Also where it goes back to a checkpoint that is older than its own newest answers."""
    root = tmp_path / "run"
    run = RunDirectory.create(root, make_config(labels=labels))
    stop_at(root, 2000)  # after two rounds, of which only the last left a checkpoint
    own = stored_labels(root)
    if newest_is_lost:
        checkpoints(root)[-1].unlink()
    assert import_labels(trained, root) == 20
    with contextlib.closing(LabelStore(run.labels)) as store:
        assert not store.imported_after(store.last_round())
        assert store.imported_after(0)
    assert api.resume(root).summary is not None
    assert stored_labels(root)[: len(own)] == own
    last = dict(zip(figures(root)[0], figures(root)[-1], strict=True))
    assert int(last["comparisons"]) == summary(root)["labels_answered"] == max(len(own) + 20, labels)


def make_config(labels: int) -> Any:
    return resolve(
        "reacher", settings=TINY | {"queries.labels": labels, "mode": "sync", "steps": STEPS, "checkpoint_seconds": 1e3}
    )


def test_a_finished_run_that_gets_labels_continues_when_its_budget_is_raised(trained: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    package.train("reacher", labels=10, steps=STEPS, mode="sync", seed=1, out=root, settings=TINY)
    assert import_labels(trained, root) == 20
    run = api.resume(root, labels=35, steps=STEPS + 2000)
    assert run.summary is not None
    assert run.summary["labels_answered"] == 35


def test_reading_raises_usage_errors_from_python_too(file: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        package.train("reacher", labels_from=tmp_path / "no.zip", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
