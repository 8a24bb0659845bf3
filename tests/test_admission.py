"""Checks of a label file before it is imported, and what a crash during import leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import quick
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from labelled import LABELS, add_labels, labels_of, make_run, random_segment
from runs import content, prefrl, refused

import prefrl as package
from prefrl import api
from prefrl.config.migrations import current_format
from prefrl.config.request import Request
from prefrl.errors import PrefrlError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.segment import Segment
from prefrl.feedback import merge, transfer
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.transfer import export_labels, import_labels
from prefrl.runs.directory import RunDirectory


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
    taken, rewards = np.zeros((steps, 2), np.float32), np.zeros(steps, np.float32)
    other = Segment(99, frames, taken, rewards, *np.zeros((2, steps), bool))
    return lambda contents, members: members.update({"clips/4.safetensors": clip_of(tmp, other)})


FORGERIES = {
    "an unknown judgement": in_label(value="perhaps"),
    "no judgement": in_label(value=None),
    "a judgement that is a list": in_label(value=["left"]),
    "another field": in_label(mood="good"),
    "a label that is a list": lambda c, m: c["labels"].append([]),
    "no labels at all": lambda c, m: c.pop("labels"),
    "labels that are no list": in_contents(labels={}),
    "two labels of one id": in_label(id=1),
    "an id that is a word": in_label(id="one"),
    "an id that is true": in_label(id=True),
    "an id below zero": in_label(id=-4),
    "an enormous id": in_label(id=2**63),
    "an enormous segment id": in_label(segments=[-(2**63), 4]),
    "one segment": in_label(segments=[3]),
    "three segments": in_label(segments=[3, 4, 5]),
    "no segments": in_label(segments=[]),
    "segments that are a word": in_label(segments="34"),
    "a kind that is none": in_label(kind=None),
    "a kind that is a list": in_label(kind=["comparison"]),
    "a step before the first": in_label(agent_step=-1),
    "an endless answer": in_label(response_seconds=math.inf),
    "an answer of no length": in_label(response_seconds=math.nan),
    "a teacher who is nobody": in_label(teacher=None),
    "half a character": in_label(labeller="\ud800"),
    "a time that is none": in_label(created_at="yesterday"),
    "a clip that is missing": lambda c, m: m.pop("clips/4.safetensors"),
    "a segment without a clip": in_label(segments=[77, 4]),
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
    "no shape of what was recorded": in_contents(recorded=None),
    "a recorded shape that is a number": in_contents(recorded={"observation": 10, "action": [2]}),
    "a recorded shape below zero": in_contents(recorded={"observation": [-10], "action": [2]}),
    "a recorded shape that is missing": in_contents(recorded={"observation": [10]}),
    "other observations than its clips": in_contents(recorded={"observation": [2, 5], "action": [2]}),
    "other actions than its clips": in_contents(recorded={"observation": [10], "action": [3]}),
    "recorded steps of an enormous size": in_contents(recorded={"observation": [2**62], "action": [2**62, 2**62]}),
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
    newer = forged(
        file, tmp_path / "newer.zip", in_contents(format=current_format("archive") + 1, prefrl="9.9", labels=None)
    )
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


def test_labels_of_other_actions_that_images_do_not_show(tmp_path: Path) -> None:
    source, target = make_run(tmp_path / "source", "moving-dot"), make_run(tmp_path / "target", "moving-dot")
    add_labels(source, 2)
    export_labels(source.root, tmp_path / "labels.zip")

    def widen(contents: dict[str, Any], members: dict[str, bytes]) -> None:
        contents["recorded"]["action"] = [6]
        for number in range(3):
            one = random_segment(number, "moving-dot")
            wider = dataclasses.replace(one, actions=np.zeros((15, 6), np.float32))
            members[f"clips/{number}.safetensors"] = clip_of(tmp_path / "clips", wider)

    (tmp_path / "clips").mkdir()
    other = forged(tmp_path / "labels.zip", tmp_path / "other.zip", widen)
    assert prefrl("labels", "import", other).code == 0
    line = refused(prefrl("labels", "import", other, "--into", target.root), 2)
    assert "actions of 6, whereas the run records observations of 4x48x48 and actions of 5" in line


def test_labels_with_other_inputs(file: Path, tmp_path: Path) -> None:
    """The same environment, whose observations have changed since."""

    def widen(contents: dict[str, Any], members: dict[str, bytes]) -> None:
        contents["inputs"]["step"], contents["recorded"]["observation"] = [13], [11]
        for name in [name for name in members if name.endswith("safetensors")]:
            number = int(name.removeprefix("clips/").removesuffix(".safetensors"))
            frames = np.zeros((15, 11), np.float32)
            steps = (np.zeros((15, 2), np.float32), np.zeros(15, np.float32), *np.zeros((2, 15), bool))
            wider = Segment(number, frames, *steps)
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
    ("module", "name"), [(transfer, "write_atomically"), (transfer, "insert_changes"), (merge.RENDERED, "insert")]
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
        assert [*map(clips.digest, label.segments)] == [archive.digests[segment] for segment in one.segments]


@pytest.mark.parametrize("moment", ["before", "between", "after"])
def test_a_folder_is_not_a_run_until_its_labels_are_written(
    moment: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def add(run: RunDirectory, archive: Any) -> int:
        if moment == "before":
            raise Killed
        if moment == "between":
            monkeypatch.setattr(transfer, "insert_changes", killed)
        transfer.add_labels(run, archive)
        raise Killed

    monkeypatch.setattr(api, "add_labels", add)
    root = tmp_path / "run"
    with pytest.raises(Killed):
        package.train("reacher", labels_from=file, steps=4000, mode="sync", out=root)
    assert not (root / "config.json").exists()
    assert "not a run" in refused(prefrl("resume", root), 2)
    monkeypatch.undo()
    request = Request("reacher", labels_from=file, out=root, mode="sync", device="cpu", steps=4000)
    begun = api.create_run(request)  # clears away what was left
    assert len(labels_of(begun)) == LABELS
    assert not (root / ".beginning").exists()
    archive = read_archive(file)
    assert len(list((root / "clips").iterdir())) == len(archive.digests) + len(archive.videos)
