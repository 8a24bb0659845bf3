"""Files are synced to disk before anything that refers to them."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from labelled import make_run, random_segment
from runs import prefrl, tiny

from prefrl.experience.clips import ClipFolder
from prefrl.feedback.kinds.comparison import pair_query
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore
from prefrl.feedback.transfer import import_labels
from prefrl.rendering.renderer import SegmentRenderer, render_clip
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import write_atomically


class Disk:
    """What is certain to be on the disk: what was synced, as it was then."""

    def __init__(self) -> None:
        self.contents: dict[int, tuple[int, int]] = {}
        self.entries: dict[int, dict[str, int]] = {}
        self._fsync = os.fsync

    def fsync(self, descriptor: int) -> None:
        self._fsync(descriptor)
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(descriptor) as entries:
                self.entries[found.st_ino] = {entry.name: entry.inode() for entry in entries}
        else:
            self.contents[found.st_ino] = (found.st_size, found.st_mtime_ns)

    def has(self, path: Path) -> bool:
        """Whether a file, as it is now, or a folder survives a power cut."""
        now = path.stat()
        entered = self.entries.get(path.parent.stat().st_ino, {}).get(path.name) == now.st_ino
        return entered and (path.is_dir() or self.contents.get(now.st_ino) == (now.st_size, now.st_mtime_ns))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    watched = Disk()
    monkeypatch.setattr(os, "fsync", watched.fsync)
    return watched


@pytest.fixture
def early(disk: Disk) -> Iterator[list[str]]:
    """Files that a transaction referred to before the disk had them."""
    found: list[str] = []

    def look(connection: sa.Connection) -> None:
        folder = Path(connection.engine.url.database.removeprefix("file:")).parent / "clips"
        if not folder.exists() or not connection.get_execution_options().get("writes"):
            return
        clips = ClipFolder(folder)
        segments = connection.execute(sa.text("SELECT id FROM segments")).scalars().all()
        rendered = connection.execute(sa.text("SELECT segment_id FROM rendered WHERE frames > 0")).scalars().all()
        files = [*(clips.file(number) for number in segments), *(clips.video(number) for number in rendered)]
        scenes = [path for path in folder.glob("*.scene.safetensors") if int(path.name[:8]) in segments]
        found.extend(path.name for path in (*files, *scenes) if not disk.has(path))

    sa.event.listen(sa.Engine, "commit", look)
    yield found
    sa.event.remove(sa.Engine, "commit", look)


def test_every_file_of_a_run_is_there_before_what_refers_to_it(disk: Disk, early: list[str], tmp_path: Path) -> None:
    root = tmp_path / "some" / "new" / "folders" / "run"
    assert prefrl(*tiny("reacher", root, "--mode", "sync", steps=3000)).code == 0
    assert early == []
    assert LabelStore(root / "labels.sqlite").counts()["answered"]
    run = RunDirectory.open(root)
    files = [root / "config.json", run.labels, run.weights, run.metrics, run.summary]
    folders = [run.clips, run.checkpoints, root, *root.parents[:3]]
    checkpoints = sorted(run.checkpoints.glob("[0-9]*"))
    assert [path.name for path in (*files, *folders, *checkpoints) if not disk.has(path)] in ([], ["labels.sqlite"])
    assert disk.entries[root.stat().st_ino]["labels.sqlite"] == run.labels.stat().st_ino


def test_a_labels_file_appears_with_its_content(disk: Disk, tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    LabelStore(path, create=True).close()
    assert disk.has(path)


def test_clips_are_synced_before_imported_labels(disk: Disk, early: list[str], file: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert import_labels(file, run.root)
    assert early == []
    assert all(disk.has(path) for path in run.clips.iterdir())
    assert list(run.clips.glob("*.avi"))


def test_the_check_of_these_tests_finds_what_is_early(early: list[str], tmp_path: Path) -> None:
    """Else they would hold nothing."""
    run = make_run(tmp_path / "run")
    store, clips = LabelStore(run.labels, create=True), ClipFolder(run.clips)
    pair = [random_segment(number) for number in (0, 1)]
    for segment in pair:
        clips.save(segment)
    store.add_queries([pair_query(1, 0, *pair, 0)])
    assert early == ["00000000.safetensors", "00000001.safetensors"]
    clips.sync()
    early.clear()
    store.add_queries([pair_query(1, 1, *pair, 0)])
    assert early == []
    store.close()


def test_a_clip_that_was_there_already_is_synced_too(disk: Disk, tmp_path: Path) -> None:
    """Who wrote it may have been killed before it was."""
    segment = random_segment(0)
    ClipFolder(tmp_path).save(segment)
    again = ClipFolder(tmp_path)
    assert again.save(segment)
    assert not disk.has(again.file(0))
    again.sync()
    assert disk.has(again.file(0))


class Still(SegmentRenderer):
    """A renderer of frames on which nothing moves."""

    def __init__(self) -> None: ...

    def render(self, scene: object, actions: np.ndarray) -> np.ndarray:
        return np.zeros((len(actions), 16, 16, 3), np.uint8)


def test_scenes_and_videos_are_synced(disk: Disk, early: list[str], tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    store, clips = LabelStore(run.labels, create=True), ClipFolder(run.clips)
    pair = [dataclasses.replace(random_segment(number), scene={"state": {"x": 1}}) for number in (0, 1)]
    for segment in pair:
        clips.save(segment)
        clips.save_scene(segment)
    clips.sync()
    store.add_queries([pair_query(1, 0, *pair, 0)])
    queue = LabelQueue(store)
    for number in queue.to_render():
        render_clip(number, clips, Still(), 15, queue)
    assert queue.waiting()["ready"] == 1
    assert early == []
    store.close()


def test_a_durable_file_is_there_with_its_name(disk: Disk, tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"one")
    assert not disk.has(tmp_path / "a")
    write_atomically(tmp_path / "a", b"two", durable=True)
    assert disk.has(tmp_path / "a")
