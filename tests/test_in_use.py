"""Runs in use by other processes: reading needs no lock, waiting is reported, and leftovers are removed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from labelled import add_labels, make_run
from runs import checkpoints, error_line, prefrl, truncate

from prefrl.assembly import waiting_for_others
from prefrl.errors import PrefrlError, UsageError
from prefrl.feedback import sqlite, waiting
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.feedback.transfer import export_labels
from prefrl.feedback.waiting import wait_on
from prefrl.runs.control import Control, StopTraining
from prefrl.runs.directory import RunDirectory
from prefrl.storage import locks


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    made = make_run(tmp_path / "run")
    add_labels(made, 6)
    return made


# -- locks ------------------------------------------------------------------------------------------------------------


def look(root: Path, stop) -> None:  # type: ignore[no-untyped-def]
    while not stop.is_set():
        locks.is_held(root / ".run.lock")


def test_looking_at_a_run_never_refuses_who_wants_it(run: RunDirectory) -> None:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    run.lock().release()
    stop = context.Event()
    lookers = [context.Process(target=look, args=(run.root, stop), daemon=True) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(300):
            run.lock().release()
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


def test_who_has_a_run_is_seen_and_keeps_it(run: RunDirectory) -> None:
    assert not run.running
    lock = run.lock()
    other = RunDirectory.open(run.root)
    assert run.running
    assert other.running
    with pytest.raises(UsageError, match="in use"):
        other.lock()
    script = "import pathlib, sys; from prefrl.storage.locks import is_held; print(is_held(pathlib.Path(sys.argv[1])))"
    command = [sys.executable, "-c", script, str(run.root / ".run.lock")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True\n"
    lock.release()
    assert not run.running
    other.lock().release()


def test_looking_makes_no_file(run: RunDirectory) -> None:
    assert not run.running
    assert prefrl("status", run.root).code == 0
    assert not list(run.root.glob(".*.lock"))


def test_where_no_locks_can_be_shared_looking_still_tells(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.setattr(locks, "fcntl", None)
    monkeypatch.setattr(locks, "_LOOKING_SECONDS", 0.1)
    with run.lock():
        assert run.running
        with pytest.raises(UsageError, match="in use"):
            RunDirectory.open(run.root).lock()
    assert not run.running


# -- what was left, and what moved ------------------------------------------------------------------------------------


def dead_process() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def test_what_killed_processes_were_writing_is_cleared_when_a_run_is_taken(run: RunDirectory) -> None:
    dead, live = dead_process(), os.getppid()
    folders = (run.root, run.clips, run.checkpoints, run.weights.parent)
    left = [folder / f".00000001.safetensors.{dead}.tmp" for folder in folders]
    left += [run.root / f".labels.sqlite.{dead}.tmp{side}" for side in ("", "-wal", "-journal")]
    kept = [run.clips / f".00000002.avi.{live}.tmp", run.root / ".mine.tmp", run.root / "notes.1.tmp"]
    for path in (*left, *kept):
        path.write_text("half")
    run.lock("labeller-ann").release()
    assert all(path.exists() for path in left)
    run.lock().release()
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_a_run_that_was_moved_away_leaves_no_folder_behind(run: RunDirectory) -> None:
    run.root.rename(run.root.with_name("moved"))
    assert not run.running
    for name in ("run", "learner", "labeller-ann"):
        with pytest.raises(UsageError, match="is gone"):
            run.lock(name)
    assert [path.name for path in run.root.parent.iterdir()] == ["moved"]


def test_labels_are_for_their_owner_alone(tmp_path: Path, file: Path) -> None:
    before = os.umask(0o022)
    try:
        run = make_run(tmp_path / "run")
        add_labels(run, 4, videos=2)
        export_labels(run.root, tmp_path / "labels.zip")
        store = LabelStore(run.labels)
        store.add_answers([Answer(1, Judgement.LEFT, "human", 0)])
        private = [tmp_path / "labels.zip", *run.root.glob("labels.sqlite*"), *run.clips.iterdir()]
        assert len(private) == 1 + 3 + 5 + 2
        assert [path.name for path in private if path.stat().st_mode & 0o777 != 0o600] == []
        assert run.clips.stat().st_mode & 0o777 == 0o700
        store.close()
    finally:
        os.umask(before)


# -- another program's transaction ------------------------------------------------------------------------------------


@contextlib.contextmanager
def in_other_hands(run: RunDirectory):  # type: ignore[no-untyped-def]
    with contextlib.closing(sqlite3.connect(run.labels, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        if connection.in_transaction:
            connection.execute("ROLLBACK")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.01)
    monkeypatch.setattr(waiting, "_PATIENCE", 0.1)


@pytest.mark.usefixtures("hurried")
def test_a_long_transaction_of_another_program_s_is_waited_for_and_reported_once(run: RunDirectory) -> None:
    said: list[str] = []
    with in_other_hands(run) as other:

        def warn(line: str) -> None:
            said.append(line)
            threading.Timer(0.1, other.execute, ["ROLLBACK"]).start()

        store = LabelStore(run.labels, waiting=wait_on(run.labels, warn))
        store.undo(1)
    assert store.counts()["answered"] == 5
    store.close()
    assert len(said) == 1
    assert "labels.sqlite" in said[0]
    assert "waiting" in said[0]


@pytest.mark.usefixtures("hurried")
def test_a_training_that_waits_so_can_be_stopped(run: RunDirectory) -> None:
    control = Control()
    control.warn = lambda line: setattr(control, "stop", True)
    store = LabelStore(run.labels, waiting=waiting_for_others(run, control))
    with in_other_hands(run), pytest.raises(StopTraining):
        store.undo(1)
    store.undo(1)
    store.close()


@pytest.mark.usefixtures("hurried")
def test_a_command_gives_up_after_a_while(run: RunDirectory) -> None:
    store = LabelStore(run.labels)
    with in_other_hands(run), pytest.raises(PrefrlError, match="another program's transaction"):
        store.undo(1)
    store.close()


@pytest.mark.usefixtures("hurried")
def test_a_store_that_is_only_read_waits_for_nobody(run: RunDirectory) -> None:
    with in_other_hands(run):
        assert "6 answered" in prefrl("status", run.root).out


@pytest.mark.usefixtures("hurried")
def test_a_program_that_locks_all_others_out_is_waited_for_too(run: RunDirectory) -> None:
    said: list[str] = []
    store = LabelStore(run.labels, waiting=wait_on(run.labels, lambda line: (said.append(line), let_go())))
    store.close()
    other = sqlite3.connect(run.labels, isolation_level=None, check_same_thread=False)
    for statement in ("PRAGMA locking_mode=EXCLUSIVE", "BEGIN IMMEDIATE", "UPDATE meta SET value = value", "COMMIT"):
        other.execute(statement)

    def let_go() -> None:
        threading.Timer(0.1, other.close).start()

    assert store.counts()["answered"] == 6
    assert len(said) == 1
    store.close()


# -- what can be resumed ----------------------------------------------------------------------------------------------


def test_late_answers_are_reported(run: RunDirectory) -> None:
    assert "late" not in prefrl("labels", "report", run.root).out
    store = LabelStore(run.labels)
    store.add_answers([Answer(query, Judgement.EQUAL, "human", 0, "bo") for query in (1, 2)])
    store.close()
    assert "late: 2 answers" in prefrl("labels", "report", run.root).out


def test_only_what_can_be_resumed_is_said_to_be(unfinished: Path) -> None:
    assert "resume with: prefrl resume" in prefrl("status", unfinished).out
    for path in checkpoints(unfinished):
        truncate(path)
    said = prefrl("status", unfinished).out
    assert "cannot be resumed" in said
    assert "resume with" not in said
    done = prefrl("resume", unfinished)
    assert done.code == 1
    assert "can be resumed" not in error_line(done)


def test_a_run_with_damaged_labels_is_not_called_resumable(unfinished: Path) -> None:
    (unfinished / "labels.sqlite").write_bytes(b"something else")
    for side in ("-wal", "-shm"):
        (unfinished / f"labels.sqlite{side}").unlink(missing_ok=True)
    done = prefrl("resume", unfinished)
    assert done.code == 1
    assert "can be resumed" not in done.err
