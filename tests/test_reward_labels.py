"""The labels that a reward learner reads: intact answers with complete clips."""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from helpers import no_ends
from labelled import add_labels, make_run, random_segment

from prefrl.errors import PrefrlError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.inputs import Inputs
from prefrl.experience.segment import Segment
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Label, Undone
from prefrl.reward.label_reader import LabelReader
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import save_tree

INPUTS = Inputs((12,))
LEFT_OUT = "reward learner: a label is left out: "


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Six answers, each about a clip and the next one."""
    made = make_run(tmp_path / "run")
    add_labels(made, 6)
    return made


@pytest.fixture
def store(run: RunDirectory):  # type: ignore[no-untyped-def]
    opened = LabelStore(run.labels)
    yield opened
    opened.close()


def sides(*changes: Label | Undone) -> list[tuple[int, int, int]]:
    return [(change.id, *change.segments) for change in changes if isinstance(change, Label)]


def test_comparisons_are_those_that_stand_as_of_a_row(run: RunDirectory, store: LabelStore) -> None:
    store.undo(2)  # row 7
    labels = LabelReader(run, store, INPUTS)
    assert sides(*labels.standing()) == [(n, n - 1, n) for n in (1, 3, 4, 5, 6)]
    assert sides(*labels.standing(upto=3)) == [(n, n - 1, n) for n in (1, 2, 3)]
    assert sides(*labels.changes(after=5)) == [(6, 5, 6)]
    assert list(labels.changes(after=6)) == [Undone(7, 2)]
    assert list(labels.changes(after=6, upto=6)) == []
    assert labels.last_row(1, 0) == 7
    assert labels.last_row(0, 0) == 0


def test_a_clip_is_read_as_it_was_recorded_whether_it_is_at_hand_or_not(run: RunDirectory, store: LabelStore) -> None:
    labels, expected = LabelReader(run, store, INPUTS), [random_segment(number) for number in range(7)]
    changes = labels.standing()
    first = next(changes)
    for number in (*first.segments, 5):
        features, rewards = labels.read(number)
        np.testing.assert_array_equal(features, expected[number].features)
        np.testing.assert_array_equal(rewards, expected[number].true_rewards)


def test_the_clips_of_the_newest_comparison_are_read_once(
    run: RunDirectory, store: LabelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []
    load = ClipFolder.load
    monkeypatch.setattr(ClipFolder, "load", lambda self, number: loaded.append(number) or load(self, number))
    labels = LabelReader(run, store, INPUTS)
    for change in labels.standing(upto=2):
        for segment in change.segments:
            labels.read(segment)
    assert loaded == [0, 1, 1, 2]


def test_a_clip_that_is_gone_costs_its_labels_and_each_is_reported_once(
    run: RunDirectory, store: LabelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    ClipFolder(run.clips).file(2).unlink()
    labels = LabelReader(run, store, INPUTS)
    for _ in range(2):
        assert [comparison.id for comparison in labels.standing()] == [1, 4, 5, 6]
    assert capsys.readouterr().err == 2 * f"{LEFT_OUT}the clip {ClipFolder(run.clips).file(2)} is missing\n"


def other(segment: Segment, kind: str) -> Segment:
    """The segment with something in it that the model does not read."""
    frames, actions, rewards = segment.frames, segment.actions, segment.true_rewards
    match kind:
        case "shorter":
            frames, actions, rewards = frames[:-1], actions[:-1], rewards[:-1]
        case "fewer features":
            frames = frames[:, :-1]
    return Segment(segment.id, frames, actions, rewards, *no_ends(len(rewards)))


@pytest.mark.parametrize("kind", ["shorter", "fewer features"])
def test_a_clip_of_another_shape_is_damaged(
    kind: str, run: RunDirectory, store: LabelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = ClipFolder(run.clips)
    clips.file(6).unlink()
    clips.save(other(random_segment(6), kind))
    assert [comparison.id for comparison in LabelReader(run, store, INPUTS).standing()] == [1, 2, 3, 4, 5]
    assert capsys.readouterr().err == f"{LEFT_OUT}the clip {clips.file(6)} is damaged: it has another shape or type\n"
    assert [comparison.id for comparison in LabelReader(run, store).standing()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("features", "rewards"),
    [
        (np.zeros((15, 12), np.float32), np.zeros(15)),
        (np.zeros((15, 12), np.float32), np.zeros(14, np.float32)),
        (np.zeros((15, 13), np.float32), np.zeros(15, np.float32)),
    ],
)
def test_a_clip_of_other_numbers_is_damaged(
    features: np.ndarray, rewards: np.ndarray, run: RunDirectory, store: LabelStore
) -> None:
    for number in range(7):
        path = ClipFolder(run.clips).file(number)
        save_tree(path, {"format": 1, "features": features, "true_rewards": rewards})
    assert list(LabelReader(run, store, INPUTS).standing()) == []


def test_an_answer_that_is_not_what_was_stored_stays_out(
    run: RunDirectory, store: LabelStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with contextlib.closing(sqlite3.connect(run.labels)) as connection:
        connection.execute("UPDATE answers SET agent_step = agent_step + 1 WHERE id IN (2, 4)")
        connection.commit()
    labels = LabelReader(run, store, INPUTS)
    assert [change.id for change in labels.changes(after=2)] == [3, 5, 6]
    assert [change.id for change in labels.changes()] == [1, 3, 5, 6]
    said = capsys.readouterr().err
    assert re.findall(r"answer (\d) is damaged: it is not what was stored", said) == ["4", "2"]


def test_a_clip_or_scene_that_is_missing_is_named(run: RunDirectory) -> None:
    clips = ClipFolder(run.clips)
    with pytest.raises(PrefrlError, match=f"^the clip {run.clips}/00000099.safetensors is missing$"):
        clips.load(99)
    with pytest.raises(PrefrlError, match=f"^the scene {run.clips}/00000099.scene.safetensors is missing$"):
        clips.load_scene(99)
