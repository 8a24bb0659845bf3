"""Malicious label stores are refused in one line; nothing is written, deleted or executed."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from runs import assert_all_refuse, content, prefrl, refused

from prefrl.errors import PrefrlError
from prefrl.feedback import database, sqlite
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.label_history import read_labels
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.safety import store_schema as schema

Attack = Callable[[Path], None]


# -- the database -----------------------------------------------------------------------------------------------------

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
COLUMNS = (
    "id, query_id, 'left' AS judgement, teacher, labeller, agent_step, 1 AS shown_left, response_seconds, created_at"
)
SCHEMAS = {
    "a trigger": """
        CREATE TRIGGER turn AFTER INSERT ON answers
        BEGIN UPDATE answers SET value = '"left"' WHERE id = new.id; END""",
    "other labels": f"DROP VIEW labels; CREATE VIEW labels AS SELECT {COLUMNS} FROM answers_standing",
    "endless labels": f"""
        DROP VIEW labels;
        CREATE VIEW labels AS SELECT {COLUMNS} FROM answers_standing JOIN ({ENDLESS})""",
    "an endless version": f"""
        ALTER TABLE meta RENAME TO m; CREATE VIEW meta AS SELECT 'version' AS key, i AS value FROM ({ENDLESS})""",
    "another view": "CREATE VIEW extra AS SELECT 1",
    "another table": "CREATE TABLE extra (a)",
    "another index": "CREATE INDEX extra ON answers (value)",
    "an index of an expression": "CREATE INDEX extra ON answers (abs(agent_step))",
    "another column": "ALTER TABLE answers ADD COLUMN extra",
    "a generated column": "ALTER TABLE queries ADD COLUMN extra AS (abs(round))",
    "labels with a tail beyond thousands of spaces": f"""
        DROP VIEW labels;
        {schema.LABELS_VIEW} {" " * 4000} UNION ALL SELECT {COLUMNS} FROM answers_standing""",
    "a trigger behind a hundred indices": """
        PRAGMA writable_schema=ON;
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120)
        INSERT INTO sqlite_master SELECT type, name, tbl_name, rootpage, NULL FROM sqlite_master, n
        WHERE name = 'sqlite_autoindex_meta_1';
        INSERT INTO sqlite_master VALUES ('trigger', 'turn', 'answers', 0,
        'CREATE TRIGGER turn AFTER INSERT ON answers BEGIN DELETE FROM queries; END')""",
    "a missing table": "DROP TABLE repeats",
    "a virtual table": "CREATE VIRTUAL TABLE extra USING fts5(a)",
    "a table with a check": """
        DROP TABLE repeats;
        CREATE TABLE repeats (
            query_id INTEGER NOT NULL, original_id INTEGER NOT NULL, PRIMARY KEY (query_id),
            FOREIGN KEY(query_id) REFERENCES queries (id), UNIQUE (original_id),
            FOREIGN KEY(original_id) REFERENCES queries (id), CHECK (query_id <> 7))""",
}


@pytest.mark.parametrize("name", SCHEMAS)
@pytest.mark.parametrize("logged", [False, True], ids=["in the file", "in the log"])
def test_a_schema_that_is_not_the_store_s(name: str, logged: bool, foreign: Path) -> None:
    path = foreign / "labels.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMAS[name])
    connection.commit()
    if logged:  # as a process leaves it that is killed
        kept = {side: path.with_name(f"{path.name}{side}").read_bytes() for side in ("", "-wal")}
        connection.close()
        for side, held in kept.items():
            path.with_name(f"{path.name}{side}").write_bytes(held)
    connection.close()
    before = content(foreign)
    assert_refused_with_side_files(foreign, "labels.sqlite")
    assert content(foreign) == before


def assert_refused_with_side_files(foreign: Path, word: str) -> None:
    log = foreign / "labels.sqlite-wal"
    before = log.read_bytes() if log.exists() else None
    for command in ("status", "labels report"):
        started = time.process_time()
        assert word in refused(prefrl(*command.split(), foreign), 1)
        assert time.process_time() - started < 1.0
    assert (log.read_bytes() if log.exists() else None) == before


def test_a_million_tables_are_not_read_to_their_end(foreign: Path) -> None:
    with contextlib.closing(sqlite3.connect(foreign / "labels.sqlite")) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA writable_schema=ON")
        rows = (
            (f"t{n}", f"t{n}", f"CREATE TABLE t{n} ({','.join(f'a{c}' for c in range(200))})") for n in range(60_000)
        )
        connection.executemany("INSERT INTO sqlite_master VALUES ('table', ?, ?, 3, ?)", rows)
        connection.commit()
    started = time.process_time()
    with pytest.raises(PrefrlError, match="damaged"):
        LabelStore(foreign / "labels.sqlite")
    assert time.process_time() - started < 1.0


def test_a_query_without_end_is_ended(foreign: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a way found past the comparison of schemas."""
    monkeypatch.setattr(sqlite, "_MOST_CHECKS", 20)
    store = LabelStore(foreign / "labels.sqlite")
    with pytest.raises(PrefrlError, match="does not finish"), store.database.read() as connection:
        connection.exec_driver_sql(ENDLESS.replace("SELECT i FROM n", "SELECT sum(i) FROM n"))
    assert store.counts()["answered"] == 6  # the store still works
    store.close()


@pytest.mark.parametrize("version", ["²", "", "1e3", "-1", "0", "1", b"\xff\xfe", "9" * 400])
def test_an_unknown_store_version_is_refused(version: object, foreign: Path) -> None:
    with contextlib.closing(sqlite3.connect(foreign / "labels.sqlite")) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'version'", (version,))
        connection.commit()
    assert_all_refuse(foreign, "status", "labels report", word="damaged")


def test_what_a_schema_may_call_is_nothing(foreign: Path) -> None:
    store = LabelStore(foreign / "labels.sqlite")
    with store.database.write() as connection:
        pragmas = ("trusted_schema", "cell_size_check", "mmap_size")
        assert [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas] == [0, 1, 0]
    store.close()


@pytest.mark.parametrize("version", [1, 2, 3, 4])
def test_stores_of_the_versions_so_far_are_opened_and_keep_their_labels(version: int, tmp_path: Path) -> None:
    path = tmp_path / "labels.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in schema.SCRIPTS[version].split(";"):
            if "sqlite_sequence" not in statement:  # which SQLite makes itself
                connection.execute(statement)
        connection.execute("INSERT INTO meta VALUES ('version', ?)", (str(version),))
        connection.executescript(
            "INSERT INTO segments VALUES (0, 3, 5), (1, 3, 5), (2, 3, 5);"
            "INSERT INTO queries VALUES (1, 1, 0, 0, 1, 5, '2026'), (2, 1, 1, 1, 2, 5, '2026');"
            "INSERT INTO comparisons VALUES (1, 1, 'right', NULL, 'human', 'ann', 6, 0, 1.5, '2026');"
        )
        connection.commit()
    store = LabelStore(path)
    assert store.counts() | {"right": 1, "answered": 1, "pending": 1} == store.counts()
    assert store.add_answers([Answer(2, Judgement.LEFT, "oracle", 7)]) == {2}
    store.close()
    assert schema.admit(path) == schema.STORE_VERSION


def test_the_statements_that_are_admitted_are_those_that_make_a_store(tmp_path: Path) -> None:
    LabelStore(tmp_path / "labels.sqlite", create=True).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "labels.sqlite")) as connection:
        made = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    assert {schema.canonical(sql) for (sql,) in made} == schema.SCHEMAS[schema.STORE_VERSION]
    tables = {table.name for table in database.METADATA.sorted_tables}
    assert all(f"CREATE TABLE {name} " in schema.SCRIPTS[schema.STORE_VERSION] for name in tables)


# -- values -----------------------------------------------------------------------------------------------------------

ODD = [
    "UPDATE answers SET query_id = 'x' WHERE id = 2",
    "UPDATE answers SET undoes = x'ff' WHERE id = 2",
    "UPDATE queries SET round = 'one' WHERE id = 2",
    "UPDATE query_segments SET segment_id = 1.5 WHERE query_id = 2 AND place = 0",
    "UPDATE answers SET late = 'no' WHERE id = 2",
    "UPDATE queries SET wanted = 'all' WHERE id = 2",
    "UPDATE queries SET kind = x'ff' WHERE id = 2",
    "UPDATE segments SET length = 'L' WHERE id = 2",
    "INSERT INTO withdrawals VALUES (1, 2, x'ff', NULL, NULL, 0, '2026')",
    "INSERT INTO rendered VALUES (2, 'all', NULL, '2026')",
]


@pytest.mark.parametrize("statement", ODD)
def test_a_value_that_is_none_of_its_column_s(statement: str, foreign: Path) -> None:
    with contextlib.closing(sqlite3.connect(foreign / "labels.sqlite")) as connection:
        connection.execute(statement)
        connection.commit()
    table = statement.split()[2 if statement.startswith("INSERT") else 1]
    assert_all_refuse(foreign, "status", "labels report", word=f"of its table {table}")


QUERIES = {
    "UPDATE queries SET kind = 'compearison' WHERE id = 2": "unknown kind 'compearison'",
    "UPDATE queries SET wanted = 0 WHERE id = 2": "query 2 is not a valid comparison",
    "UPDATE queries SET wanted = 1 << 62 WHERE id = 2": "query 2 is not a valid comparison",
    "DELETE FROM query_segments WHERE query_id = 2 AND place = 1": "query 2 is not a valid comparison",
    "DELETE FROM query_segments WHERE query_id = 2": "query 2 is not a valid comparison",
    "INSERT INTO query_segments VALUES (2, 2, 0)": "query 2 is not a valid comparison",
    "UPDATE query_segments SET place = 7 WHERE query_id = 2 AND place = 1": "query 2 is not a valid comparison",
}


@pytest.mark.parametrize("statement", QUERIES)
def test_a_query_that_is_none_of_its_kind(statement: str, foreign: Path) -> None:
    with contextlib.closing(sqlite3.connect(foreign / "labels.sqlite")) as connection:
        connection.execute(statement)
        connection.commit()
    assert_all_refuse(foreign, "status", "labels report", word=QUERIES[statement])


def test_text_that_is_none_hinders_no_command(foreign: Path) -> None:
    """What of it is an answer's has a checksum (`test_bit_rot.py`)."""
    with contextlib.closing(sqlite3.connect(foreign / "labels.sqlite")) as connection:
        for table, column in (("answers", "labeller"), ("answers", "created_at"), ("queries", "created_at")):
            connection.execute(f"UPDATE {table} SET {column} = CAST(x'e91b5b32ff' AS TEXT) WHERE id = 2")
        connection.commit()
    for command in ("status", "labels report", "labels export"):
        done = prefrl(*command.split(), foreign, *([foreign.parent / "out.zip"] if command == "labels export" else []))
        assert (done.code, done.err) == (0, "")
        assert "\x1b" not in done.out


def test_whatever_bytes_turn_there_is_one_line(foreign: Path) -> None:
    path, random = foreign / "labels.sqlite", Random(0)
    content = path.read_bytes()
    used = [place for place, byte in enumerate(content) if byte]
    refusals = 0
    for _ in range(60):
        data = bytearray(content)
        for place in random.sample(used, random.choice([1, 3, 30])):
            data[place] = random.randrange(256)
        for side in ("-wal", "-shm"):
            path.with_name(f"{path.name}{side}").unlink(missing_ok=True)
        path.write_bytes(data)
        try:
            store = LabelStore(path)
        except PrefrlError:
            refusals += 1
            continue
        try:
            store.check()
            store.counts(), read_labels(store), store.labels("comparison"), store.damaged(), store.asked("comparison")
            LabelQueue(store).lease("a", 2)
        except PrefrlError:
            refusals += 1
        finally:
            store.close()
    assert refusals > 20
