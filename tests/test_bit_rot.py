"""A flipped bit in a label or its clip is detected, costs only that label, and is reported."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path

import pytest
from labelled import add_labels, make_run
from runs import empty, flip, prefrl, truncate

from prefrl.experience.clips import ClipFolder
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.label_history import read_labels
from prefrl.feedback.store import LabelStore
from prefrl.feedback.transfer import import_labels
from prefrl.feedback.usable import unusable_labels
from prefrl.reward.label_reader import LabelReader
from prefrl.runs.directory import RunDirectory


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = make_run(tmp_path / "run")
    add_labels(made, 6)
    return made


def turn(run: RunDirectory, statement: str) -> None:
    with contextlib.closing(sqlite3.connect(run.labels)) as connection:
        connection.execute(statement)
        connection.commit()


def damaged(run: RunDirectory) -> set[int]:
    store = LabelStore(run.labels)
    found = store.damaged()
    store.close()
    return found


def unusable(run: RunDirectory) -> set[int]:
    store = LabelStore(run.labels)
    found = unusable_labels(store, ClipFolder(run.clips), "comparison")
    store.close()
    return found


ROT = [
    "UPDATE answers SET value = '\"equal\"' WHERE id = 3",
    "UPDATE answers SET labeller = 'Ana' WHERE id = 3",
    "UPDATE answers SET response_seconds = response_seconds + 0.5 WHERE id = 3",
    "UPDATE answers SET agent_step = agent_step + 1 WHERE id = 3",
    "UPDATE answers SET created_at = replace(created_at, '2', '3') WHERE id = 3",
    "UPDATE answers SET shown = '[5, 4]' WHERE id = 3",
    "UPDATE answers SET query_id = 1 WHERE id = 3",
    "UPDATE query_segments SET segment_id = 4 WHERE query_id = 3",
    "UPDATE query_segments SET segment_id = segment_id + 1 WHERE query_id = 3 AND place = 0",
    "UPDATE checksums SET crc32 = crc32 + 1 WHERE answer_id = 3",
]


@pytest.mark.parametrize("statement", ROT)
def test_whatever_of_an_answer_has_turned_is_noticed(statement: str, run: RunDirectory) -> None:
    assert damaged(run) == unusable(run) == set()
    turn(run, statement)
    assert damaged(run) == unusable(run) == {3}


def test_an_undoing_row_that_has_turned_is_noticed(run: RunDirectory) -> None:
    store = LabelStore(run.labels)
    store.undo(2)
    store.close()
    assert damaged(run) == set()
    turn(run, "UPDATE answers SET undoes = 4 WHERE id = 7")
    assert damaged(run) == {7}


def test_answers_of_older_versions_have_no_checksum_and_count(run: RunDirectory) -> None:
    turn(run, "DELETE FROM checksums")
    assert unusable(run) == set()


def test_imported_answers_have_one_too(file: Path, tmp_path: Path) -> None:
    made = make_run(tmp_path / "other")
    import_labels(file, made.root)
    assert damaged(made) == set()
    turn(made, "UPDATE answers SET value = '\"left\"', response_seconds = 9 WHERE id = 2")
    assert damaged(made) == {2}


def test_a_damaged_answer_trains_nothing_and_is_reported_once(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    turn(run, ROT[0])
    store = LabelStore(run.labels)
    labels = LabelReader(run, store)
    for _ in range(2):
        assert [comparison.id for comparison in labels.standing()] == [1, 2, 4, 5, 6]
    assert [change.id for change in labels.changes(after=3)] == [4, 5, 6]
    store.close()
    assert capsys.readouterr().err == (
        "reward learner: a label is left out: answer 3 is damaged: it is not what was stored\n"
    )


UNREADABLE = [
    "UPDATE answers SET value = '\"lefu\"' WHERE id = 3",
    "UPDATE answers SET value = x'ff00' WHERE id = 3",
    "UPDATE answers SET value = CAST(x'226cff22' AS TEXT) WHERE id = 3",
    "UPDATE answers SET value = '\"\"' WHERE id = 3",
    "UPDATE answers SET labeller = x'00' WHERE id = 3",
    "UPDATE answers SET labeller = CAST(x'ff41' AS TEXT) WHERE id = 3",
    "UPDATE answers SET teacher = CAST(x'ff41' AS TEXT) WHERE id = 3",
    "UPDATE answers SET response_seconds = 'long' WHERE id = 3",
    "UPDATE answers SET agent_step = 'x' WHERE id = 3",
    "UPDATE answers SET created_at = x'00' WHERE id = 3",
    "UPDATE answers SET shown = x'00' WHERE id = 3",
]


@pytest.mark.parametrize("statement", UNREADABLE)
def test_an_answer_that_cannot_be_read_costs_that_answer_alone(statement: str, run: RunDirectory) -> None:
    turn(run, statement)
    store = LabelStore(run.labels)
    assert [comparison.id for comparison in LabelReader(run, store).standing()] == [1, 2, 4, 5, 6]
    assert [label.id for label in read_labels(store)] == [1, 2, 4, 5, 6]
    store.close()
    assert damaged(run) == unusable(run) == {3}
    done = prefrl("status", run.root)
    assert (done.code, done.err) == (0, "")
    assert "1 of the labels cannot be used" in done.out


@pytest.mark.parametrize("statement", [*UNREADABLE[:3], ROT[0]])
def test_labels_that_cannot_be_used_are_neither_exported_nor_reported(statement: str, run: RunDirectory) -> None:
    """A copy in a file would have a checksum of its own, and pass for what was said."""
    turn(run, statement)
    for name in ("labels.zip", "labels.csv"):
        done = prefrl("labels", "export", run.root, run.root.parent / name)
        assert (done.code, done.err) == (0, "")
    assert [label.id for label in read_archive(run.root.parent / "labels.zip").labels] == [1, 2, 4, 5, 6]
    done = prefrl("labels", "report", run.root, "--json")
    assert json.loads(done.out)["all"]["answers"] == 5


def test_an_undone_unreadable_answer_does_no_harm(run: RunDirectory) -> None:
    store = LabelStore(run.labels)
    store.undo(3)
    store.close()
    turn(run, UNREADABLE[0])
    turn(run, "UPDATE answers SET value = '\"lefu\"' WHERE undoes = 3")  # and its undoing row
    for command in (["status"], ["labels", "report"], ["labels", "finish"]):
        assert prefrl(*command, run.root).code == 0
    store = LabelStore(run.labels)
    assert [comparison.id for comparison in LabelReader(run, store).standing()] == [1, 2, 4, 5, 6]
    assert [change.id for change in LabelReader(run, store).changes(after=6)] == [7]
    store.close()
    assert prefrl("labels", "export", run.root, run.root.parent / "labels.zip").code == 0
    import_labels(run.root.parent / "labels.zip", run.root)


@pytest.mark.parametrize("damage", [truncate, flip, empty, Path.unlink])
def test_labels_whose_clip_is_gone_are_counted(damage, run: RunDirectory) -> None:  # type: ignore[no-untyped-def]
    damage(ClipFolder(run.clips).file(3))  # the right of label 3, and the left of label 4
    assert unusable(run) == {3, 4}
    assert "2 of the labels cannot be used" in prefrl("status", run.root).out


def test_status_of_an_intact_run_reports_no_damage(run: RunDirectory) -> None:
    assert "cannot" not in prefrl("status", run.root).out


def test_a_summary_tells_how_many_labels_could_not_be_used(unfinished: Path) -> None:
    run = RunDirectory.open(unfinished)
    flip(min(run.clips.iterdir()))
    lost = unusable(run)
    assert lost
    assert prefrl("resume", unfinished).code == 0
    from prefrl.runs.directory import read_summary

    assert read_summary(unfinished)["labels_unusable"] == len(lost)


def test_a_run_whose_clips_are_gone_does_not_pretend_to_repeat_itself(unfinished: Path) -> None:
    """It continues with new pairs instead of replaying its old answers, which are incomplete."""
    run = RunDirectory.open(unfinished)
    store = LabelStore(run.labels)
    last, asked = store.last_round(), len(store.asked("comparison"))
    newest = max(label.segments[0] for label in store.labels("comparison"))
    store.close()
    ClipFolder(run.clips).file(newest).unlink()
    assert prefrl("resume", unfinished).code == 0
    assert not ClipFolder(run.clips).file(newest).exists()
    store = LabelStore(run.labels)
    assert store.last_round() > last
    assert len(store.asked("comparison")) > asked
    store.close()
