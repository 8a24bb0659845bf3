"""Upgrades of stores of older versions: one of version 4 from prefrl 0.1.0 with one of everything, and small ones."""

import contextlib
import shutil
import sqlite3
from pathlib import Path

import pytest

from prefrl.errors import PrefrlError
from prefrl.feedback.label_changes import LabelChanges
from prefrl.feedback.label_history import read_history, read_labels
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore
from prefrl.safety.store_schema import SCRIPTS, STORE_VERSION, admit

OLD = Path(__file__).parent / "data" / "stores" / "version-4.sqlite"


def rows(path, query):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


@pytest.fixture
def path(tmp_path):
    return Path(shutil.copy(OLD, tmp_path / "labels.sqlite"))


@pytest.fixture
def store(path):
    opened = LabelStore(path)
    yield opened
    opened.close()


LABELS = "SELECT id, query_id, judgement, teacher, labeller, agent_step, shown_left, response_seconds, created_at FROM "


def test_the_view_of_the_labels_is_the_same(path):
    before = rows(path, f"{LABELS} labels ORDER BY id")
    LabelStore(path).close()
    assert admit(path) == STORE_VERSION
    assert rows(path, f"{LABELS} labels ORDER BY id") == before
    assert len(before) == 13


def test_answers_undone_and_late_ones_are_kept_under_their_ids(path):
    kept = "id, query_id, undoes, teacher, labeller, agent_step, response_seconds, created_at"
    before = rows(path, f"SELECT {kept} FROM comparisons ORDER BY id")
    late = rows(path, f"SELECT {kept.replace('id, query_id, undoes', 'query_id')} FROM late_answers ORDER BY id")
    LabelStore(path).close()
    assert rows(path, f"SELECT {kept} FROM answers WHERE late = 0 ORDER BY id") == before
    columns = kept.replace("id, query_id, undoes", "query_id")
    assert rows(path, f"SELECT {columns} FROM answers WHERE late = 1 ORDER BY id") == late
    assert rows(path, "SELECT id, value, shown FROM answers WHERE late = 1") == [
        (16, '"right"', "[0, 1]"),
        (17, '"left"', "[2, 3]"),
    ]


@pytest.mark.parametrize("table", ["segments", "withdrawals", "repeats", "rendered", "withdrawn"])
def test_what_has_not_changed_is_untouched(table, path):
    before = rows(path, f"SELECT * FROM {table} ORDER BY 1")
    assert before
    LabelStore(path).close()
    assert rows(path, f"SELECT * FROM {table} ORDER BY 1") == before


def test_counts_damage_and_what_waits_are_the_same(store):
    said = {"left": 3, "right": 3, "equal": 3, "incomparable": 2, "answered": 9, "pending": 5}
    assert {name: count for name, count in store.counts().items() if count} == said
    assert (store.damaged(), store.unreadable(), store.late_answers()) == ({5, 6}, {5}, 2)
    assert [pending[:2] + pending[2:6] for pending in store.pending()] == [
        (5, "comparison", (8, 9), 1, 4, 100),
        *((15 + rank, "comparison", (28 + 2 * rank, 29 + 2 * rank), 2, rank, 200) for rank in range(4)),
    ]
    assert [label.id for label in read_labels(store)] == [1, 2, 3, 4, 7, 8, 9, 10, 11, 14]


def test_its_history_can_be_gone_on_with(store):
    history = read_history(store)
    assert [(back.id, back.value) for back in history.taken_back] == [(12, "incomparable")]
    assert [(repeat.id, repeat.repeats) for repeat in history.repeats] == [(15, 2)]
    assert [(flag.segments, flag.reason, flag.labeller) for flag in history.flags] == [
        ((24, 25), "a clip is broken", "ann"),
        ((26, 27), "clip 27 cannot be shown: x", None),
    ]
    assert LabelChanges(store, "comparison").last_row(1, 150) == 15  # as it was noted
    queue = LabelQueue(store)
    assert queue.problems() == ["clip 27 cannot be shown: x", "ann says: a clip is broken"]
    assert queue.waiting() == {"ready": 5, "unrendered": 0, "leased": 0}
    assert queue.last_undoable("ann")[:2] == (19, "left")


def test_a_second_opening_changes_nothing(path):
    LabelStore(path).close()
    before = path.read_bytes()
    LabelStore(path).close()
    assert path.read_bytes() == before


def make_old(path, version):
    """A store of an older version: two pairs asked, the first answered; in version 3 the second is withdrawn."""
    connection = sqlite3.connect(path)
    for statement in SCRIPTS[version].split(";"):
        if "sqlite_sequence" not in statement:  # which SQLite makes itself
            connection.execute(statement)
    connection.executescript(
        f"INSERT INTO meta VALUES ('version', '{version}');"
        "INSERT INTO segments VALUES (0, 15, 100), (1, 15, 100), (2, 15, 100), (3, 15, 100);"
        "INSERT INTO queries VALUES (1, 1, 0, 0, 1, 100, '2026'), (2, 1, 1, 2, 3, 100, '2026');"
        "INSERT INTO comparisons VALUES (1, 1, 'left', NULL, 'human', 'ann', 101, 0, 1.5, '2026');"
    )
    if version == 3:
        connection.execute("INSERT INTO withdrawn SELECT max(id), 'ann says so', '2026' FROM queries")
        connection.execute("INSERT INTO leases SELECT max(id), 'ann', 1e9 FROM queries")
    connection.commit()
    connection.close()


@pytest.mark.parametrize("version", [1, 3])
def test_a_store_of_an_older_version_gets_what_it_lacks_and_keeps_what_it_has(tmp_path, version):
    ids = [1, 2]
    make_old(tmp_path / "old.sqlite", version)
    again = LabelStore(tmp_path / "old.sqlite")
    assert again.counts()["left"] == 1
    queue = LabelQueue(again)
    assert queue.waiting()["ready"] == 0
    assert queue.problems() == (["ann says so"] if version == 3 else [])
    assert again.counts()["pending"] == (0 if version == 3 else 1)
    queue.withdraw(ids[1], "a clip is broken", "ann")
    assert queue.take_back("viewer", "ann")[:2] == ((ids[0], "left") if version == 3 else (ids[1], None))
    again.close()
    connection = sqlite3.connect(tmp_path / "old.sqlite")
    assert connection.execute("SELECT value FROM meta").fetchall() == [(str(STORE_VERSION),)]
    connection.close()


def test_a_store_of_version_1_that_cannot_be_written_is_said_to_be_one(tmp_path, monkeypatch):
    make_old(tmp_path / "old.sqlite", 1)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(PrefrlError, match="made by an older version and is read-only"):
        LabelStore(tmp_path / "old.sqlite")
