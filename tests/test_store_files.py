"""The label store's file: making and opening it, versions, and damage."""

import sqlite3
import threading
from contextlib import suppress

import pytest
from asking import answer, queries

from prefrl.errors import PrefrlError, UsageError
from prefrl.feedback.store import LabelStore
from prefrl.safety.store_schema import STORE_VERSION


def test_a_missing_store_is_not_made_by_reading(path):
    with pytest.raises(PrefrlError, match="missing"):
        LabelStore(path)
    assert not path.exists()


def test_a_store_that_is_there_is_whole(path):
    """A viewer waits for the file, and opens it at once: it must never see one that is being made."""
    problems = []

    def open_once_there():
        while not path.exists():
            pass
        try:
            LabelStore(path).close()
        except PrefrlError as error:
            problems.append(error)

    for _ in range(20):
        viewer = threading.Thread(target=open_once_there)
        viewer.start()
        LabelStore(path, create=True).close()
        viewer.join()
        files = {file.name: file for file in path.parent.iterdir()}
        # SQLite's own files may stay if both connections close at the same moment.
        assert {path.name} <= set(files) <= {path.name, f"{path.name}-wal", f"{path.name}-shm"}
        for file in files.values():
            file.unlink()
    assert not problems


def test_opening_again_keeps_what_is_there(path):
    for expected in (0, 1, 1):
        store = LabelStore(path, create=True)
        assert store.counts()["pending"] == expected
        store.add_queries(queries(1))
        store.close()


def set_version(path, value):
    connection = sqlite3.connect(path)
    connection.execute("UPDATE meta SET value = ? WHERE key = 'version'", (value,))
    connection.commit()
    connection.close()


def test_a_store_of_a_newer_version_is_refused(store, path):
    store.close()
    set_version(path, str(STORE_VERSION + 1))
    with pytest.raises(UsageError, match="newer"):
        LabelStore(path)
    with pytest.raises(UsageError, match="newer"):
        LabelStore(path, create=True)


@pytest.mark.parametrize("version", ["", "one", "\x00"])
def test_a_version_that_is_not_a_number_counts_as_damage(store, path, version):
    store.close()
    set_version(path, version)
    with pytest.raises(PrefrlError, match="damaged"):
        LabelStore(path)


def filled(path):
    store = LabelStore(path, create=True)
    ids = store.add_queries(queries(20))
    store.add_answers([answer(query_id) for query_id in ids])
    store.close()
    assert not path.with_name(path.name + "-wal").exists()
    return path.read_bytes()


def use(path):
    """Everything that a run does with a store, and how many labels it finds."""
    store = LabelStore(path)
    try:
        store.check()
        store.counts()
        store.asked("comparison")
        store.pending()
        return len(store.labels("comparison"))
    finally:
        store.close()


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.6, 0.95])
def test_a_truncated_file_is_an_error_of_ours(path, part):
    content = filled(path)
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(PrefrlError):
        use(path)


def test_another_kind_of_file_is_an_error_of_ours(path):
    path.write_text("not a database " * 500)
    with pytest.raises(PrefrlError, match="damaged"):
        LabelStore(path)
    with pytest.raises(PrefrlError, match="damaged"):
        LabelStore(path, create=True)
    assert path.read_text().startswith("not a database")


def test_another_program_s_database_is_an_error_of_ours(path):
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE songs (name TEXT)")
    connection.commit()
    connection.close()
    with pytest.raises(PrefrlError):
        LabelStore(path)


def test_overwritten_pages_are_an_error_of_ours_and_nothing_else(path):
    content = filled(path)
    found = []
    for page in range(len(content) // 4096):
        damaged = bytearray(content)
        damaged[page * 4096 : (page + 1) * 4096] = bytes(range(256)) * 16
        path.write_bytes(damaged)
        for extra in ("-wal", "-shm"):
            path.with_name(path.name + extra).unlink(missing_ok=True)
        with suppress(PrefrlError):
            found.append(use(path))
    assert found == []
