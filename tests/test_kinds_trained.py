"""Runs from ratings, from marks and from several kinds: they learn, resume exactly, and their labels go everywhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from runs import STEPS, checkpoints, figures, prefrl, refused, summary
from test_resume import create, stop_at

import prefrl as package
from prefrl.api import resume
from prefrl.feedback.store import LabelStore
from prefrl.storage.files import load_tree

MIXED = "comparison,rating:2,marks"
SETTINGS = {"round_steps": 2048, "reward.pretrain_comparisons": 1600, "reward.comparisons_per_step": 0.5}


def answers(root: Path) -> list[object]:
    store = LabelStore(root / "labels.sqlite")
    found = [answer._replace(created_at="") for answer in store.standing()]
    store.close()
    return found


def weights(root: Path) -> dict[str, bytes]:
    tree = load_tree(root / "reward_model" / "weights.safetensors", 10**8)
    return {name: array.tobytes() for name, array in tree["weights"].items()}


@pytest.fixture(scope="module", params=["rating", "marks", MIXED])
def root(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a task with immediate rewards."""
    root = tmp_path_factory.mktemp("trained") / "run"
    settings = SETTINGS | {"evaluation.episodes": 0}
    run = package.train(
        "cheetah", feedback=request.param, mode="sync", labels=60, steps=6144, settings=settings, out=root
    )
    assert run.summary
    return root


def test_the_reward_is_learned(root: Path) -> None:
    """When this was written: 0.58 from ratings, 0.98 from marks of every step, and 0.94 from all kinds."""
    said = summary(root)
    assert said["labels_answered"] == 60
    assert said["reward_correlation"] > (0.35 if said["feedback"] == "rating" else 0.8)
    seconds = {"rating": 180, "marks": 240, MIXED: 210}
    assert said["label_seconds"] == seconds[said["feedback"]]


def test_a_mixed_run_keeps_its_shares(root: Path) -> None:
    kinds = [answer.kind for answer in answers(root)]  # type: ignore[attr-defined]
    expected = {MIXED: {"comparison": 15, "rating": 30, "marks": 15}}
    feedback = summary(root)["feedback"]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == expected.get(feedback, {feedback: 60})


def test_its_labels_are_reported_fitted_and_exported(root: Path, tmp_path: Path) -> None:
    status, report = prefrl("status", root), prefrl("labels", "report", root, "--json")
    assert "labels: 60 answered, 0 pending (" in status.out
    assert report.code == 0, report.err
    found = json.loads(report.out)
    counted = [found, *found.get("other_kinds", ())]
    assert sum(each["all"]["answers"] for each in counted) == 60
    for each in counted:
        if each["kind"] != "comparison":
            assert each["all"]["agrees_with_reward"] > 0.8
    assert prefrl("labels", "report", root).code == 0
    fitted = prefrl("reward", "fit", root, "--comparisons", "1600", "--out", tmp_path / "weights")
    assert fitted.code == 0, fitted.err
    assert fitted.out.count("held-out accuracy") == len(counted)
    assert prefrl("labels", "export", root, tmp_path / "labels.csv").code == 0
    assert prefrl("labels", "export", root, tmp_path / "labels.zip").code == 0
    started = tmp_path / "started"
    again = ["--feedback", summary(root)["feedback"], "--mode", "sync", "--labels-from", tmp_path / "labels.zip"]
    done = prefrl("train", "cheetah", *again, "--steps", "2048", "--out", started, "--set", "evaluation.episodes=0")
    assert done.code == 0, done.err
    assert [answer.value for answer in answers(started)] == [answer.value for answer in answers(root)]  # type: ignore[attr-defined]


def test_its_reward_is_loaded(root: Path) -> None:
    reward = package.load_reward(root)
    assert (
        set(reward.ensemble.likelihoods)
        == {
            "rating": {"proportional-odds"},
            "marks": {"step-odds"},
            MIXED: {"proportional-odds", "step-odds"},
        }[summary(root)["feedback"]]
    )


def test_ratings_of_a_longer_scale_are_refused(tmp_path: Path) -> None:
    for steps, name in ((7, "long"), (3, "short")):
        settings = SETTINGS | {"evaluation.episodes": 0, "queries.rating_steps": steps}
        package.train(
            "cheetah", feedback="rating", mode="sync", labels=20, steps=1024, settings=settings, out=tmp_path / name
        )
    assert prefrl("labels", "export", tmp_path / "long", tmp_path / "labels.zip").code == 0
    said = refused(prefrl("labels", "import", tmp_path / "labels.zip", "--into", tmp_path / "short"), 2)
    assert "but in the run, a rating is a whole number from 1 to 3, or unclear" in said


@pytest.mark.parametrize("feedback", ["rating", "marks", MIXED])
def test_a_run_stopped_and_set_back_equals_an_uninterrupted_one(feedback: str, tmp_path: Path) -> None:
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    for each in (whole, pieces):
        create(each, feedback=feedback, teacher="people-like")
    assert resume(whole).summary is not None
    for step in (1, STEPS * 2 // 3):
        stop_at(pieces, step)
    checkpoints(pieces)[-1].unlink()  # so that rounds whose answers are stored are replayed
    assert resume(pieces).summary is not None
    assert answers(whole) == answers(pieces)
    assert figures(whole) == figures(pieces)
    assert weights(whole) == weights(pieces)
