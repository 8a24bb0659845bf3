"""Malicious folders of runs are refused in one line; nothing is written, deleted or executed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from labelled import add_labels, make_run
from runs import assert_all_refuse, prefrl, refused

from prefrl.errors import PrefrlError
from prefrl.feedback.store import LabelStore
from prefrl.runs import admission as run_admission
from prefrl.runs.directory import RunDirectory

Attack = Callable[[Path], None]


# -- files ------------------------------------------------------------------------------------------------------------


def hot_journal(database: Path, super_journal: Path) -> None:
    """A rollback journal that SQLite would play back, and whose super-journal it would delete afterwards."""
    name = str(super_journal).encode()
    magic = bytes.fromhex("d9d505f920a163d7")
    header = magic + struct.pack(">IIIII", 0, 0, database.stat().st_size // 4096, 512, 4096)
    trailer = struct.pack(">I", 2**30 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    database.with_name(f"{database.name}-journal").write_bytes(header.ljust(512, b"\0") + trailer)


def test_a_journal_that_names_somebody_s_file_deletes_nothing(foreign: Path) -> None:
    precious = foreign.parent / "precious"
    precious.write_bytes(b"years of work")
    with contextlib.closing(sqlite3.connect(foreign / "labels.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    hot_journal(foreign / "labels.sqlite", precious)
    assert_all_refuse(foreign, word="labels.sqlite-journal")
    assert precious.exists()


def test_the_journal_of_that_test_is_one_that_sqlite_acts_on(foreign: Path) -> None:
    """Else the test before would hold nothing."""
    precious = foreign.parent / "precious"
    precious.write_bytes(b"years of work")
    with contextlib.closing(sqlite3.connect(foreign / "labels.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    hot_journal(foreign / "labels.sqlite", precious)
    with contextlib.closing(sqlite3.connect(foreign / "labels.sqlite")) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    assert not precious.exists()


FILES = ["config.json", "labels.sqlite", "progress.json", "summary.json", "metrics.csv", ".run.lock"]


@pytest.mark.parametrize("name", [*FILES, "labels.sqlite-wal", "labels.sqlite-shm", "clips/00000000.safetensors"])
def test_a_link_in_the_place_of_a_file(name: str, foreign: Path) -> None:
    outside = foreign.parent / "outside"
    path = foreign / name
    outside.write_bytes(path.read_bytes() if path.exists() else b"precious")
    path.unlink(missing_ok=True)
    path.symlink_to(outside)
    assert_all_refuse(foreign, word="symbolic link")


@pytest.mark.parametrize("name", ["checkpoints", "clips", "reward_model", "tensorboard"])
def test_a_link_in_the_place_of_a_folder(name: str, foreign: Path) -> None:
    outside = foreign.parent / "outside"
    (foreign / name).rename(outside) if (foreign / name).exists() else outside.mkdir()
    (outside / "000000000001.safetensors").write_bytes(b"somebody's")
    (foreign / name).symlink_to(outside)
    assert_all_refuse(foreign, word="symbolic link")


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_the_place_of_a_file(name: str, foreign: Path) -> None:
    (foreign / name).unlink(missing_ok=True)
    os.mkfifo(foreign / name)
    assert_all_refuse(foreign, word="not a regular file" if name != "config.json" else "")


def test_a_pipe_deep_in_a_folder(foreign: Path) -> None:
    (foreign / "tensorboard" / "inner").mkdir(parents=True)
    os.mkfifo(foreign / "tensorboard" / "inner" / "events")
    assert_all_refuse(foreign, word="not a regular file")


def test_a_device_in_the_place_of_a_file(foreign: Path) -> None:
    (foreign / "progress.json").unlink()
    (foreign / "progress.json").symlink_to("/dev/zero")
    assert_all_refuse(foreign, word="symbolic link")


@pytest.mark.parametrize("name", ["config.json", "labels.sqlite", "summary.json"])
def test_a_folder_in_the_place_of_a_file(name: str, foreign: Path) -> None:
    (foreign / name).unlink(missing_ok=True)
    (foreign / name).mkdir()
    assert_all_refuse(foreign, word="is a folder")


def test_a_run_is_opened_through_a_link_to_its_folder_and_with_other_folders_in_it(foreign: Path) -> None:
    (foreign / "wandb").mkdir()
    (foreign / "wandb" / "latest-run").symlink_to(foreign / "clips")
    link = foreign.parent / "link"
    link.symlink_to(foreign)
    assert prefrl("status", link).code == 0
    assert prefrl("labels", "report", link).code == 0


# -- paths ------------------------------------------------------------------------------------------------------------

NAMES = [
    "other.db?v=1",
    "100%",
    "%41",
    "a#b",
    "with space",
    "Bjørn’s läufe",
    "file:x?mode=memory",
    ":memory:",
    "q&a=b;c'd\"",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_path_is_taken_as_it_is(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "in" / name
    run = make_run(folder)
    add_labels(run, 2)
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == [name]
    assert "2 answered" in prefrl("status", folder).out
    store = LabelStore(folder / "labels.sqlite")
    assert store.counts()["answered"] == 2
    store.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_path_that_cannot_be_written_is_taken_as_it_is(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / name)
    add_labels(run, 2)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    store = LabelStore(run.labels)
    assert store.counts()["answered"] == 2
    store.close()
    assert not list(run.root.glob("labels.sqlite-*"))


def test_a_path_that_is_not_unicode_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    LabelStore(folder / "labels.sqlite", create=True).close()
    store = LabelStore(folder / "labels.sqlite")
    assert store.counts()["answered"] == 0
    store.close()
    assert os.listdir(os.fsencode(folder)) == [b"labels.sqlite"]


def test_opening_says_what_is_wrong_before_anything_is_read(foreign: Path) -> None:
    (foreign / "config.json").write_text("{")
    (foreign / "labels.sqlite-journal").write_bytes(b"")
    with pytest.raises(PrefrlError, match="journal"):
        RunDirectory.open(foreign)


def test_folders_in_folders_without_end_are_not_followed(foreign: Path) -> None:
    deep = foreign / "tensorboard"
    deep.mkdir(exist_ok=True)
    for _ in range(3):
        (deep := deep / "d").mkdir()
    assert_all_refuse(foreign, word="deeper than a run is")
    shutil.rmtree(foreign / "tensorboard" / "d")
    here = os.open(foreign / "tensorboard", os.O_RDONLY)
    for _ in range(3000):  # longer than a path can be
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        for command in ("status", "resume", "play"):
            assert "deeper than a run is" in refused(prefrl(command, foreign), 1)
    finally:
        subprocess.run(["rm", "-rf", foreign / "tensorboard"], check=True)


@pytest.mark.parametrize("folder", ["", "clips"])
def test_files_without_end_are_not_all_looked_at(folder: str, foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_admission, "_MOST", 50)
    for number in range(60):
        (foreign / folder / f"{number}.x").touch()
    assert_all_refuse(foreign, word="more files than a run can")
