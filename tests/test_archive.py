"""Labels outlive their run: out of one into a file, checked on the way in, and into others."""

from __future__ import annotations

import contextlib
import json
import math
import sqlite3
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import quick
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labelled import add_labels, make_run, random_segment
from runs import SETTINGS, assert_equal_runs, checkpoints, content, figures, prefrl, refused, stored_labels, summary

import prefrl as package
from prefrl import api, transfer
from prefrl.admission import read_archive
from prefrl.archive import LabelledTask, write_archive
from prefrl.callback import Control
from prefrl.clips import ClipFolder
from prefrl.environments import make_stack, reward_inputs
from prefrl.errors import PrefrlError, UsageError
from prefrl.queue import LabelQueue
from prefrl.recipes import resolve
from prefrl.reward.inputs import Inputs
from prefrl.run import RunDirectory
from prefrl.store import IMPORTED_ROUND, LabelStore
from prefrl.training import recorder_inputs
from prefrl.transfer import export_labels, import_labels
from prefrl.types import Answer, Judgement, Label, Query, Segment

LABELS = 12
STEPS = 4000


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with labels of every kind, and two videos; not to be changed."""
    run = make_run(tmp_path_factory.mktemp("source") / "run")
    judgements = iter([Judgement.EQUAL, Judgement.INCOMPARABLE, *[Judgement.LEFT, Judgement.RIGHT] * LABELS])
    add_labels(run, LABELS, videos=2, judge=lambda left, right: next(judgements))
    return run


@pytest.fixture(scope="module")
def file(source: RunDirectory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its labels; not to be changed."""
    path = tmp_path_factory.mktemp("file") / "labels.zip"
    export_labels(source.root, path)
    return path


def labels_of(run: RunDirectory) -> list[Label]:
    store = LabelStore(run.labels)
    try:
        return store.labels()
    finally:
        store.close()


def told(label: Label) -> tuple[Any, ...]:
    """All of a label but for ids."""
    return label[3:]


def query(run: RunDirectory, text: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(run.labels)) as connection:
        return connection.execute(text).fetchall()


# -- round trip -----------------------------------------------------------------------------------------------------


def test_a_file_holds_every_standing_label_with_its_provenance(source: RunDirectory, file: Path) -> None:
    archive = read_archive(file)
    assert list(archive.labels) == labels_of(source)
    assert [label.judgement for label in archive.labels][:3] == ["equal", "incomparable", "left"]
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
        for one, other in ((before.left, after.left), (before.right, after.right)):
            assert other < 0
            assert old.file(one).read_bytes() == new.file(other).read_bytes()
            np.testing.assert_array_equal(old.load(one)[0], new.load(other)[0])
            np.testing.assert_array_equal(old.load(one)[1], new.load(other)[1])
            assert old.video(one).exists() == new.video(other).exists()
    assert len({label.left for label in taken} | {label.right for label in taken}) == LABELS + 1


def test_imported_labels_leave_the_run_s_own_numbers_alone(file: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    import_labels(file, run.root)
    store = LabelStore(run.labels)
    assert store.last_segment() == -1
    assert store.last_round() == IMPORTED_ROUND == 0
    assert store.counts(IMPORTED_ROUND)["answered"] == store.counts()["answered"] == LABELS - 1
    assert store.counts()["incomparable"] == 1
    assert store.pending() == []
    assert len(store.comparisons(max_round=0)) == LABELS - 1
    assert all(-LABELS - 2 < a < b < 0 for a, b in store.asked_pairs())
    assert query(run, "SELECT rank FROM queries ORDER BY id") == [(rank,) for rank in range(LABELS)]
    assert query(run, "SELECT count(*) FROM rendered WHERE frames = 15") == [(2,)]
    assert query(run, "SELECT count(*) FROM comparisons AS c JOIN queries AS q ON q.id = query_id "
                 "WHERE shown_left = segment_left") == [(LABELS,)]  # fmt: skip
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
    segments = [number for label in labels_of(target) for number in (label.left, label.right)]
    assert len(set(segments)) == 13  # segment 5 is in both files, and in the run once


def test_two_labels_that_are_alike_are_two(tmp_path: Path) -> None:
    source, target = make_run(tmp_path / "source"), make_run(tmp_path / "target")
    same = [random_segment(0), random_segment(1)]
    store, clips = LabelStore(source.labels, create=True), ClipFolder(source.clips)
    for rank in range(2):  # a simulator at rest gives clips like this
        left, right = (Segment(2 * rank + side, s.frames, s.actions, s.true_rewards) for side, s in enumerate(same))
        clips.save(left)
        clips.save(right)
        store.add_queries([Query(1, rank, left, right, 0)])
    store.add_answers([Answer(number, Judgement.LEFT, "oracle", 0) for number in (1, 2)])
    store.close()
    export_labels(source.root, tmp_path / "labels.zip")
    assert import_labels(tmp_path / "labels.zip", target.root) == 2
    assert import_labels(tmp_path / "labels.zip", target.root) == 0


def test_the_same_labels_give_the_same_file(source: RunDirectory, file: Path, tmp_path: Path) -> None:
    export_labels(source.root, tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == file.read_bytes()


def test_an_answer_that_was_taken_back_does_not_outlive_its_run(tmp_path: Path) -> None:
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
    assert queue.take_back("viewer", "Ann") == 2
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
TASK = LabelledTask("any", "Prefer what you like.", "Any-v0", 15, Inputs((12,)))


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.integers(0, 5),
            st.sampled_from(Judgement),
            text,
            st.none() | text,
            st.integers(0, 2**63 - 1),
            st.none() | st.floats(0, allow_infinity=False),
            st.datetimes().map(lambda at: at.isoformat()),
        ),
        max_size=8,
    )
)
@settings(quick, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_labels_come_back_as_they_were(tmp_path: Path, rows: list[tuple[Any, ...]]) -> None:
    clips = ClipFolder(tmp_path)
    for number in range(6):
        clips.save(random_segment(number))
    labels = [Label(number, *row) for number, row in enumerate(rows)]
    path = tmp_path / "labels.zip"
    path.unlink(missing_ok=True)
    write_archive(path, "0.1", TASK, labels, clips)
    archive = read_archive(path)
    assert list(archive.labels) == labels
    assert archive.task == TASK
    assert len(transfer.archive_lines(archive)) == 4


@pytest.mark.parametrize("task", ["reacher", "moving-dot", "pong", "CartPole-v1"])
def test_what_a_task_s_clips_hold_is_known_without_a_run(task: str) -> None:
    config = resolve(task)
    stack = make_stack(config)
    assert stack.recorder is not None
    assert reward_inputs(config) == recorder_inputs(config, stack.recorder)
    stack.top.close()


# -- on the way out -------------------------------------------------------------------------------------------------


def test_no_file_is_overwritten(source: RunDirectory, tmp_path: Path) -> None:
    file = tmp_path / "labels.zip"
    file.write_text("mine")
    assert "is there already" in refused(prefrl("labels", "export", source.root, file), 2)
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
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_full_disk_leaves_no_half_file(source: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", full)
    assert "disk is full" in refused(prefrl("labels", "export", source.root, tmp_path / "labels.zip"), 1)
    assert list(tmp_path.iterdir()) == []


# -- on the way in --------------------------------------------------------------------------------------------------


def test_import_alone_tells_what_is_in_a_file(file: Path) -> None:
    before = file.read_bytes()
    done = prefrl("labels", "import", file)
    assert (done.code, done.err) == (0, "")
    for told_of in ("12 labels of reacher", "prefrl/Reacher-v0", "5 left, 5 right, 1 equal, 1 incomparable"):
        assert told_of in done.out
    assert "oracle 4, human Ann 4, human Bjørn 4" in done.out
    assert "clips: 13, 2 of them with a video" in done.out
    assert file.read_bytes() == before
    done = prefrl("labels", "export", "nothing")
    assert done.code == 2


def forged(file: Path, path: Path, change: Any, **options: Any) -> Path:
    """A copy of a file of labels with something changed, and all checksums right."""
    with zipfile.ZipFile(file) as whole:
        members: dict[str, bytes] = {name: whole.read(name) for name in whole.namelist()}
    contents = json.loads(members["labels.json"])
    change(contents, members)
    members["labels.json"] = options.get("text", json.dumps(contents)).encode("utf-8", "surrogatepass")
    with zipfile.ZipFile(path, "w", options.get("compression", zipfile.ZIP_STORED)) as copy:
        for name, data in members.items():
            copy.writestr(name, data)
    return path


def in_contents(**values: Any) -> Any:
    return lambda contents, members: contents.update(values)


def in_label(**values: Any) -> Any:
    return lambda contents, members: contents["labels"][3].update(values)


def clip_of(tmp: Path, segment: Segment) -> bytes:
    ClipFolder(tmp).save(segment)
    return ClipFolder(tmp).file(segment.id).read_bytes()


def of_shape(tmp: Path, steps: int = 15, features: int = 10, value: float = 0.0) -> Any:
    frames = np.full((steps, features), value, np.float32)
    other = Segment(99, frames, np.zeros((steps, 2), np.float32), np.zeros(steps, np.float32))
    return lambda contents, members: members.update({"clips/4.safetensors": clip_of(tmp, other)})


FORGERIES = {
    "an unknown judgement": in_label(judgement="perhaps"),
    "no judgement": in_label(judgement=None),
    "a judgement that is a list": in_label(judgement=["left"]),
    "another field": in_label(mood="good"),
    "a label that is a list": lambda c, m: c["labels"].append([]),
    "no labels at all": lambda c, m: c.pop("labels"),
    "labels that are no list": in_contents(labels={}),
    "two labels of one id": in_label(id=1),
    "an id that is a word": in_label(id="one"),
    "an id that is true": in_label(id=True),
    "an id below zero": in_label(id=-4),
    "an enormous id": in_label(id=2**63),
    "an enormous segment id": in_label(left=-(2**63)),
    "a step before the first": in_label(agent_step=-1),
    "an endless answer": in_label(response_seconds=math.inf),
    "an answer of no length": in_label(response_seconds=math.nan),
    "a teacher who is nobody": in_label(teacher=None),
    "half a character": in_label(labeller="\ud800"),
    "a time that is none": in_label(created_at="yesterday"),
    "a clip that is missing": lambda c, m: m.pop("clips/4.safetensors"),
    "a segment without a clip": in_label(left=77),
    "a clip that is none": lambda c, m: m.update({"clips/4.safetensors": b"no clip"}),
    "a clip that is empty": lambda c, m: m.update({"clips/4.safetensors": b""}),
    "a video less": lambda c, m: m.pop("clips/1.avi"),
    "a label less": lambda c, m: c["labels"].pop(),
    "counts that are no counts": in_contents(counts=None),
    "another program's": in_contents(kind="songs"),
    "no kind": lambda c, m: c.pop("kind"),
    "no version": lambda c, m: c.pop("format"),
    "a version that is a word": in_contents(format="one"),
    "inputs of no shape": in_contents(inputs={"step": [], "stack": 1, "dtype": "float32"}),
    "inputs of another type": in_contents(inputs={"step": [12], "stack": 1, "dtype": "uint8"}),
    "inputs that are a number": in_contents(inputs=12),
    "stacked vectors": in_contents(inputs={"step": [12], "stack": 4, "dtype": "float32"}),
    "other inputs than its clips": in_contents(inputs={"step": [13], "stack": 1, "dtype": "float32"}),
    "another length than its clips": in_contents(segment_length=14),
    "a task that steers the terminal": in_contents(task="\x1b[2J"),
    "a version that steers it": in_contents(prefrl="\x1b[2J", format=2),
    "an enormous mistake": in_contents(labels={str(number): number for number in range(10_000)}),
    "a length of null": in_contents(segment_length=None),
}


@pytest.mark.parametrize("what", FORGERIES)
def test_a_file_with_something_wrong_in_it(what: str, file: Path, tmp_path: Path) -> None:
    bad = forged(file, tmp_path / "bad.zip", FORGERIES[what])
    line = refused(prefrl("labels", "import", bad), 1)
    assert f"{bad} is damaged" in line
    assert len(line) < 400


@pytest.mark.parametrize(
    "change",
    [{"steps": 14}, {"features": 11}, {"value": np.nan}, {"value": np.inf}],
    ids=str,
)
def test_a_clip_of_another_shape_or_not_finite(change: dict[str, Any], file: Path, tmp_path: Path) -> None:
    bad = forged(file, tmp_path / "bad.zip", of_shape(tmp_path, **change))
    assert "clips/4.safetensors" in refused(prefrl("labels", "import", bad), 1)


@pytest.mark.parametrize("text", ["", "[]", "null", '"labels"', "{", "[" * 100_000, "\ud800", '{"format": 1e400}'])
def test_contents_that_are_something_else(text: str, file: Path, tmp_path: Path) -> None:
    bad = forged(file, tmp_path / "bad.zip", lambda c, m: None, text=text)
    refused(prefrl("labels", "import", bad), 1)


def test_a_compressed_file_is_not_unpacked(file: Path, tmp_path: Path) -> None:
    bad = forged(file, tmp_path / "bad.zip", lambda c, m: None, compression=zipfile.ZIP_DEFLATED)
    assert "compressed" in refused(prefrl("labels", "import", bad), 1)


@pytest.mark.parametrize("data", [b"", b"labels", b"PK\x03\x04", b"\x00" * 5000])
def test_what_is_no_zip(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(data)
    assert "damaged" in refused(prefrl("labels", "import", tmp_path / "bad.zip"), 1)


def test_a_zip_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as other:
        other.writestr("../../songs.txt", "la la la")
    assert "lacks labels.json" in refused(prefrl("labels", "import", tmp_path / "bad.zip"), 1)


@pytest.mark.parametrize("name", ["missing.zip", "."])
def test_no_file(name: str, tmp_path: Path) -> None:
    assert "there is no file" in refused(prefrl("labels", "import", tmp_path / name), 2)


def test_a_file_of_a_newer_version(file: Path, tmp_path: Path) -> None:
    newer = forged(file, tmp_path / "newer.zip", in_contents(format=2, prefrl="9.9", labels=None))
    line = refused(prefrl("labels", "import", newer), 2)
    assert "newer version" in line
    assert "9.9" in line


@given(st.floats(0, 1), st.booleans(), st.integers(1, 255))
@settings(quick, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_anywhere_is_noticed_or_does_not_matter(
    file: Path, tmp_path: Path, place: float, cut: bool, change: int
) -> None:
    data = bytearray(file.read_bytes())
    index = min(int(place * len(data)), len(data) - 1)
    if cut:
        del data[index:]
    else:
        data[index] ^= change
    bad = tmp_path / "bad.zip"
    bad.write_bytes(data)
    try:
        archive = read_archive(bad)
    except PrefrlError:
        return
    whole = read_archive(file)
    assert (archive.labels, archive.digests, archive.task) == (whole.labels, whole.digests, whole.task)


@given(st.integers(1, 400), st.integers(1, 255))
@settings(quick, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_to_the_list_of_members_is_an_error_of_ours(file: Path, tmp_path: Path, back: int, change: int) -> None:
    data = bytearray(file.read_bytes())
    data[-back] ^= change
    (tmp_path / "bad.zip").write_bytes(data)
    with contextlib.suppress(PrefrlError):
        assert read_archive(tmp_path / "bad.zip").labels == read_archive(file).labels


@pytest.mark.parametrize(
    ("task", "changes", "named"),
    [
        ("pendulum", {}, "pendulum"),
        ("reacher", {"queries__segment_length": 14}, "clips of 14 steps"),
        ("moving-dot", {}, "4x48x48 uint8"),
    ],
)
def test_labels_of_another_task(task: str, changes: dict[str, Any], named: str, file: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", task, **changes)
    before = content(run.root)
    flags = [f"{name.replace('__', '.')}={value}" for name, value in changes.items()]
    out = ("--out", tmp_path / "new", "--steps", "4000")
    for done in (
        prefrl("labels", "import", file, "--into", run.root),
        prefrl("train", task, *out, "--labels-from", file, *(["--set", *flags] if flags else [])),
    ):
        line = refused(done, 2)
        assert "reacher (prefrl/Reacher-v0, clips of 15 steps, 12 float32 a step)" in line
        assert named in line
    assert content(run.root) == before
    assert not (tmp_path / "new").exists()


def test_labels_with_other_inputs(file: Path, tmp_path: Path) -> None:
    """The same environment, whose observations have changed since."""

    def widen(contents: dict[str, Any], members: dict[str, bytes]) -> None:
        contents["inputs"]["step"] = [13]
        for name in [name for name in members if name.endswith("safetensors")]:
            number = int(name.removeprefix("clips/").removesuffix(".safetensors"))
            frames = np.zeros((15, 11), np.float32)
            wider = Segment(number, frames, np.zeros((15, 2), np.float32), np.zeros(15, np.float32))
            members[name] = clip_of(tmp_path, wider)

    other = forged(file, tmp_path / "other.zip", widen)
    assert prefrl("labels", "import", other).code == 0
    line = refused(prefrl("labels", "import", other, "--into", make_run(tmp_path / "run").root), 2)
    assert "13 float32" in line
    assert "12 float32" in line


def test_a_run_that_is_in_use_gets_no_labels(file: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    lock = run.lock()
    assert "in use" in refused(prefrl("labels", "import", file, "--into", run.root), 2)
    lock.release()
    assert "12 labels added" in prefrl("labels", "import", file, "--into", run.root).out


# -- crashes --------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


def killed(*_: Any, **__: Any) -> None:
    raise Killed


@pytest.mark.parametrize(
    ("module", "name"), [(transfer, "write_atomically"), (transfer, "_insert"), (transfer.RENDERED, "insert")]
)
def test_an_import_that_is_killed_adds_nothing_and_can_be_repeated(
    module: Any, name: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run")
    add_labels(run, 3, seed=5)
    before = labels_of(run)
    with monkeypatch.context() as patch:
        patch.setattr(module, name, killed)
        with pytest.raises(Killed):
            import_labels(file, run.root)
    assert labels_of(run) == before
    other = make_run(tmp_path / "other")  # another file comes first: it must not meet the clips that were left behind
    add_labels(other, 2, seed=6)
    export_labels(other.root, tmp_path / "other.zip")
    assert import_labels(tmp_path / "other.zip", run.root) == 2
    assert import_labels(file, run.root) == LABELS
    archive = read_archive(file)
    clips, taken = ClipFolder(run.clips), labels_of(run)[-LABELS:]
    for one, label in zip(archive.labels, taken, strict=True):
        assert clips.digest(label.left) == archive.digests[one.left]
        assert clips.digest(label.right) == archive.digests[one.right]


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_run_is_none_until_it_has_its_labels(
    moment: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(run: RunDirectory, archive: Any) -> int:
        if moment == "before":
            raise Killed
        if moment == "between":
            monkeypatch.setattr(transfer, "_insert", killed)
        transfer.add_labels(run, archive)
        raise Killed

    monkeypatch.setattr(api, "add_labels", add)
    root = tmp_path / "run"
    with pytest.raises(Killed):
        package.train("reacher", labels_from=file, steps=STEPS, mode="sync", out=root)
    assert not (root / "config.json").exists()
    assert "not a run" in refused(prefrl("resume", root), 2)
    monkeypatch.undo()
    assert "choose another --out" in refused(prefrl("train", "reacher", "--labels-from", file, "--out", root), 2)


# -- training -------------------------------------------------------------------------------------------------------

TINY = {name: float(value) if "." in value else int(value) for name, value in (pair.split("=") for pair in SETTINGS)}


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
        task, labels_from=labels_from, out=root, report=lambda progress: said.append(progress["state"]), **options
    )
    assert run.summary is not None
    return RunDirectory.open(root), said


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_run_trains_from_a_file_and_asks_nothing(mode: str, trained: Path, tmp_path: Path) -> None:
    run, said = train(tmp_path / "run", trained, mode=mode)
    figures = summary(run.root)
    assert figures["labels_answered"] == figures["labels_requested"] == run.config.queries.labels == 20
    assert said[0] == "pretraining the reward model"
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
    assert "recording the untrained policy" not in said
    assert query(run, "SELECT count(*) FROM queries WHERE round > 0") == [(10,)]
    first = int(dict(zip(*figures(run.root)[:2], strict=True))["labels"])
    assert 20 < first < 30  # the rest is spread over the run


def test_where_a_file_holds_too_few_the_untrained_policy_is_asked_about(trained: Path, tmp_path: Path) -> None:
    run, said = train(tmp_path / "run", trained, labels=100)
    assert "recording the untrained policy" in said
    assert query(run, "SELECT count(*) FROM queries WHERE round = 1") == [(5,)]  # a quarter of 100, less 20
    assert summary(run.root)["labels_answered"] == 100


def test_the_same_seed_and_file_give_the_same_run(trained: Path, tmp_path: Path) -> None:
    one, _ = train(tmp_path / "one", trained, labels=30)
    other, _ = train(tmp_path / "other", trained, labels=30)
    assert_equal_runs(one.root, other.root)


@pytest.mark.parametrize("labels", [20, 30])
def test_a_run_from_a_file_resumes_exactly(labels: int, trained: Path, tmp_path: Path) -> None:
    whole, _ = train(tmp_path / "whole", trained, labels=labels)
    options: dict[str, Any] = dict.fromkeys(("ablation",)) | {"recipe": "default", "device": "auto"}
    pieces = api.create_run(
        "reacher", teacher="oracle", algo="ppo", labels=labels, labels_from=trained, steps=STEPS, seed=0, mode="sync",
        out=tmp_path / "pieces", settings=TINY, **options,
    )  # fmt: skip
    for step in (0, 2000):  # 0: while it pretrains
        stop_at(pieces.root, step)
    assert api.resume(pieces.root).summary is not None
    assert_equal_runs(whole.root, pieces.root)


def stop_at(root: Path, step: int) -> None:
    control = Control()

    def report(progress: dict[str, object]) -> None:
        control.stop = int(str(progress["step"])) >= step

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
@pytest.mark.parametrize("labels", [25, 150])  # all there when it goes on, or some still to be asked for
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


def test_a_finished_run_that_gets_labels_goes_on_when_its_budget_is_raised(trained: Path, tmp_path: Path) -> None:
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
