"""Labels outlive their run: exported to a file, checked on import, and used by other runs."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import quick, same_segment
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labelled import LABELS, add_labels, labels_of, make_run, query, random_segment, told
from runs import content, prefrl, refused

from prefrl.assembly import recorder_inputs
from prefrl.experience.clips import ClipFolder
from prefrl.experience.environments import make_stack, recorded_step, reward_inputs
from prefrl.experience.inputs import Inputs, Recorded
from prefrl.feedback import transfer
from prefrl.feedback.archive import LabelledTask, write_archive
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.label_history import RecordedAnswer
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import IMPORTED_ROUND, Answer
from prefrl.feedback.transfer import export_labels, import_labels
from prefrl.recipes import resolve
from prefrl.runs.directory import RunDirectory

# -- round trip -----------------------------------------------------------------------------------------------------


def test_a_file_holds_every_standing_label_with_its_provenance(source: RunDirectory, file: Path) -> None:
    archive = read_archive(file)
    assert list(archive.labels) == labels_of(source)
    assert [label.value for label in archive.labels][:3] == ["equal", "incomparable", "left"]
    assert {label.labeller for label in archive.labels} == {None, "Ann", "Bjørn"}
    assert archive.answered == LABELS - 1
    assert archive.task == transfer.labelled_task(source.config)
    assert archive.task.instruction == source.config.instruction
    assert archive.videos == {0, 1}
    for segment, clip, video in archive.read_clips(sorted(archive.digests)):
        assert clip == ClipFolder(source.clips).file(segment).read_bytes()
        assert (video is not None) == (segment in {0, 1})


@pytest.mark.parametrize("task", ["reacher", "moving-dot"])
def test_labels_go_through_a_file_into_another_run_bit_for_bit(task: str, tmp_path: Path) -> None:
    source, target = make_run(tmp_path / "source", task), make_run(tmp_path / "target", task)
    add_labels(source, LABELS, videos=3)
    add_labels(target, 4, seed=1)  # labels of its own
    export_labels(source.root, tmp_path / "labels.zip")
    own = labels_of(target)
    assert import_labels(tmp_path / "labels.zip", target.root) == LABELS
    given, taken = labels_of(source), labels_of(target)[len(own) :]
    assert labels_of(target)[: len(own)] == own
    assert [told(label) for label in taken] == [told(label) for label in given]
    old, new = ClipFolder(source.clips), ClipFolder(target.clips)
    for before, after in zip(given, taken, strict=True):
        for one, other in zip(before.segments, after.segments, strict=True):
            assert other < 0
            assert old.file(one).read_bytes() == new.file(other).read_bytes()
            assert same_segment(dataclasses.replace(old.load(one), id=other), new.load(other))
            assert old.video(one).exists() == new.video(other).exists()
    assert len({segment for label in taken for segment in label.segments}) == LABELS + 1


def test_imported_labels_leave_the_run_s_own_numbers_alone(file: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    import_labels(file, run.root)
    store = LabelStore(run.labels)
    assert store.last_segment() == -1
    assert store.last_round() == IMPORTED_ROUND == 0
    assert store.counts(IMPORTED_ROUND)["answered"] == store.counts()["answered"] == LABELS - 1
    assert store.counts()["incomparable"] == 1
    assert store.pending() == []
    assert len(store.labels("comparison")) == LABELS - 1
    assert all(-LABELS - 2 < a < b < 0 for a, b in store.asked("comparison"))
    assert query(run, "SELECT rank FROM queries ORDER BY id") == [(rank,) for rank in range(LABELS)]
    assert query(run, "SELECT count(*) FROM rendered WHERE frames = 15") == [(2,)]
    assert query(run, "SELECT count(*) FROM labels JOIN query_segments USING (query_id) "
                 "WHERE place = 0 AND shown_left = segment_id") == [(LABELS,)]  # fmt: skip
    store.check()
    store.close()


def test_a_label_that_is_there_does_not_come_again_whichever_way_it_goes(
    source: RunDirectory, file: Path, tmp_path: Path
) -> None:
    run = make_run(tmp_path / "run")
    assert import_labels(file, run.root) == LABELS
    before = content(run.root)
    assert import_labels(file, run.root) == 0
    assert content(run.root) == before
    again = tmp_path / "again.zip"
    export_labels(run.root, again)  # the same labels under other numbers
    assert import_labels(again, run.root) == 0
    assert import_labels(again, make_run(tmp_path / "third").root) == LABELS
    copy = make_run(tmp_path / "copy")
    add_labels(copy, LABELS)
    export_labels(copy.root, tmp_path / "own.zip")
    assert import_labels(tmp_path / "own.zip", copy.root) == 0


def test_of_a_file_with_more_labels_only_the_new_ones_come(tmp_path: Path) -> None:
    source, target = make_run(tmp_path / "source"), make_run(tmp_path / "target")
    add_labels(source, 5)
    export_labels(source.root, tmp_path / "early.zip")
    add_labels(source, 7, first=5, round_=2)
    export_labels(source.root, tmp_path / "late.zip")
    assert import_labels(tmp_path / "early.zip", target.root) == 5
    assert import_labels(tmp_path / "late.zip", target.root) == 7
    assert [told(label) for label in labels_of(target)] == [told(label) for label in labels_of(source)]
    segments = [number for label in labels_of(target) for number in label.segments]
    assert len(set(segments)) == 13  # segment 5 is in both files, and in the run once


def test_two_labels_that_are_alike_are_two(tmp_path: Path) -> None:
    source, target = make_run(tmp_path / "source"), make_run(tmp_path / "target")
    same = [random_segment(0), random_segment(1)]
    store, clips = LabelStore(source.labels, create=True), ClipFolder(source.clips)
    for rank in range(2):  # a simulator at rest gives clips like this
        left, right = (dataclasses.replace(one, id=2 * rank + side) for side, one in enumerate(same))
        clips.save(left)
        clips.save(right)
        store.add_queries([pair_query(1, rank, left, right, 0)])
    store.add_answers([Answer(number, Judgement.LEFT, "oracle", 0) for number in (1, 2)])
    store.close()
    export_labels(source.root, tmp_path / "labels.zip")
    assert import_labels(tmp_path / "labels.zip", target.root) == 2
    assert import_labels(tmp_path / "labels.zip", target.root) == 0


def test_the_same_labels_give_the_same_file(source: RunDirectory, file: Path, tmp_path: Path) -> None:
    export_labels(source.root, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == file.read_bytes()


def test_an_answer_that_was_undone_does_not_outlive_its_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    add_labels(run, 4)
    store = LabelStore(run.labels)
    store.undo(2)
    store.close()
    export_labels(run.root, tmp_path / "labels.zip")
    assert [label.id for label in read_archive(tmp_path / "labels.zip").labels] == [1, 3, 4]


def test_backspace_in_a_viewer_does_not_take_back_what_was_imported(file: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", teacher="human")
    add_labels(run, 2)  # the second is Ann's
    import_labels(file, run.root)
    store = LabelStore(run.labels)
    queue = LabelQueue(store)
    assert queue.take_back("viewer", "Ann").query_id == 2
    assert queue.take_back("viewer", "Ann") is None
    assert store.counts(IMPORTED_ROUND)["answered"] == LABELS - 1
    store.close()


def test_a_run_that_is_written_to_can_be_exported(source: RunDirectory, tmp_path: Path) -> None:
    lock, store = source.lock(), LabelStore(source.labels)
    with store.database.write() as connection:
        connection.exec_driver_sql("UPDATE meta SET value = value")
        assert prefrl("labels", "export", source.root, tmp_path / "labels.zip").code == 0
    store.close()
    lock.release()


text = st.text(max_size=12)


def provenance(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """What no two labels of a run have in common: the pair and all that is known of the answer."""
    return (*sorted(row[0]), *row[2:])


TASK = LabelledTask("any", "Prefer what you like.", "Any-v0", 15, Inputs((12,)), Recorded((10,), (2,)))


@given(
    st.lists(
        st.tuples(
            st.tuples(st.integers(0, 5), st.integers(0, 5)),
            st.sampled_from(Judgement),
            text,
            st.none() | text,
            st.integers(0, 2**63 - 1),
            st.none() | st.floats(0, allow_infinity=False),
            st.datetimes().map(lambda at: at.isoformat()),
        ),
        max_size=8,
        unique_by=provenance,
    )
)
@settings(quick, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_labels_come_back_as_they_were(tmp_path: Path, rows: list[tuple[Any, ...]]) -> None:
    clips = ClipFolder(tmp_path)
    for number in range(6):
        clips.save(random_segment(number))
    labels = [RecordedAnswer(number, "comparison", *row) for number, row in enumerate(rows)]
    path = tmp_path / "labels.zip"
    path.unlink(missing_ok=True)
    write_archive(path, "0.1", TASK, labels, clips)
    archive = read_archive(path)
    assert list(archive.labels) == labels
    assert (archive.task, archive.task.recorded) == (TASK, TASK.recorded)
    assert len(transfer.archive_lines(archive)) == 4


@pytest.mark.parametrize("task", ["reacher", "moving-dot", "pong", "CartPole-v1"])
def test_what_a_task_s_clips_hold_is_known_without_a_run(task: str) -> None:
    config = resolve(task)
    stack = make_stack(config)
    assert stack.recorder is not None
    assert reward_inputs(config) == recorder_inputs(config, stack.recorder)
    stack.recorder.reset()
    length = config.queries.segment_length
    for _ in range(3 * length):
        stack.recorder.step(np.array([stack.recorder.action_space.sample() for _ in range(stack.recorder.num_envs)]))
    stack.recorder.cut(stack.recorder.take())
    recorded, first = recorded_step(config), stack.recorder.pool[0]
    assert recorded.holds(first)
    assert first.frames.nbytes + first.actions.nbytes <= recorded.nbytes(length, config.frame_stack)
    assert first.frames.nbytes + 2 * first.actions.nbytes >= recorded.nbytes(length, config.frame_stack)
    stack.top.close()


# -- on the way out -------------------------------------------------------------------------------------------------


def test_no_file_is_overwritten(source: RunDirectory, tmp_path: Path) -> None:
    file = tmp_path / "labels.zip"
    file.write_text("mine")
    assert "exists already" in refused(prefrl("labels", "export", source.root, file), 2)
    assert file.read_text() == "mine"


def test_a_place_that_cannot_be_written(source: RunDirectory, tmp_path: Path) -> None:
    assert "cannot be written" in refused(prefrl("labels", "export", source.root, tmp_path / "no" / "labels.zip"), 2)


@pytest.mark.parametrize("command", ["export", "import"])
def test_a_folder_that_is_no_run(command: str, file: Path, tmp_path: Path) -> None:
    arguments = (tmp_path, tmp_path / "labels.zip") if command == "export" else (file, "--into", tmp_path)
    assert "not a run" in refused(prefrl("labels", command, *arguments), 2)


def test_a_run_without_labels(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert "no labels yet" in refused(prefrl("labels", "export", run.root, tmp_path / "labels.zip"), 1)
    LabelStore(run.labels, create=True).close()
    assert "no labels yet" in refused(prefrl("labels", "export", run.root, tmp_path / "labels.zip"), 1)
    true = make_run(tmp_path / "true", teacher="none")
    assert "true reward" in refused(prefrl("labels", "export", true.root, tmp_path / "labels.zip"), 2)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-9])])
def test_a_damaged_clip_is_not_exported(damage: Any, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    add_labels(run, 3)
    damage(ClipFolder(run.clips).file(2))
    line = refused(prefrl("labels", "export", run.root, tmp_path / "labels.zip"), 1)
    assert "00000002.safetensors" in line
    assert "--without-damaged" in line
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    # Segment 2 is on a side of two of the three labels.
    assert prefrl("labels", "export", run.root, tmp_path / "labels.zip", "--without-damaged").code == 0
    assert [told(label) for label in read_archive(tmp_path / "labels.zip").labels] == [told(labels_of(run)[0])]


def test_a_run_of_damaged_clips_alone_has_nothing_to_export(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    add_labels(run, 1)
    ClipFolder(run.clips).file(1).unlink()
    line = refused(prefrl("labels", "export", run.root, tmp_path / "labels.zip", "--without-damaged"), 1)
    assert "with intact clips" in line


def test_a_full_disk_leaves_no_half_file(source: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    assert "disk is full" in refused(prefrl("labels", "export", source.root, tmp_path / "labels.zip"), 1)
    assert list(tmp_path.iterdir()) == []
