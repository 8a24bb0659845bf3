"""Malicious runs are refused in one line; nothing is written, deleted or executed."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from labelled import add_labels, make_run
from runs import content, prefrl, refused

from prefrl.errors import PrefrlError
from prefrl.feedback import database, sqlite
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.label_history import read_labels
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.runs import admission as run_admission
from prefrl.runs.directory import RunDirectory
from prefrl.safety import store_schema as schema

Attack = Callable[[Path], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A run with labels, as its maker left it."""
    made = make_run(tmp_path / "run")
    add_labels(made, 6)
    (made.root / "progress.json").write_text("{}")
    return made.root


def everything(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file with its time and content, links and all."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def assert_refused(root: Path, *commands: str, word: str = "") -> None:
    """Every command quickly prints one line and changes neither the run nor other files."""
    before = everything(root.parent)
    for command in commands or ("status", "resume", "labels report", "play"):
        started = time.process_time()
        done = prefrl(*command.split(), root)
        assert done.code in {1, 2}, done
        assert word in refused(done, done.code)
        if command == "status":
            assert time.process_time() - started < 1.0
    assert everything(root.parent) == before


# -- files ------------------------------------------------------------------------------------------------------------


def hot_journal(database: Path, super_journal: Path) -> None:
    """A rollback journal that SQLite would play back, and whose super-journal it would delete afterwards."""
    name = str(super_journal).encode()
    magic = bytes.fromhex("d9d505f920a163d7")
    header = magic + struct.pack(">IIIII", 0, 0, database.stat().st_size // 4096, 512, 4096)
    trailer = struct.pack(">I", 2**30 // 4096 + 1) + name + struct.pack(">II", len(name), sum(name)) + magic
    database.with_name(f"{database.name}-journal").write_bytes(header.ljust(512, b"\0") + trailer)


def test_a_journal_that_names_somebody_s_file_deletes_nothing(root: Path) -> None:
    precious = root.parent / "precious"
    precious.write_bytes(b"years of work")
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    hot_journal(root / "labels.sqlite", precious)
    assert_refused(root, word="labels.sqlite-journal")
    assert precious.exists()


def test_the_journal_of_that_test_is_one_that_sqlite_acts_on(root: Path) -> None:
    """Else the test before would hold nothing."""
    precious = root.parent / "precious"
    precious.write_bytes(b"years of work")
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    hot_journal(root / "labels.sqlite", precious)
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite")) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    assert not precious.exists()


FILES = ["config.json", "labels.sqlite", "progress.json", "summary.json", "metrics.csv", ".run.lock"]


@pytest.mark.parametrize("name", [*FILES, "labels.sqlite-wal", "labels.sqlite-shm", "clips/00000000.safetensors"])
def test_a_link_in_the_place_of_a_file(name: str, root: Path) -> None:
    outside = root.parent / "outside"
    path = root / name
    outside.write_bytes(path.read_bytes() if path.exists() else b"precious")
    path.unlink(missing_ok=True)
    path.symlink_to(outside)
    assert_refused(root, word="symbolic link")


@pytest.mark.parametrize("name", ["checkpoints", "clips", "reward_model", "tensorboard"])
def test_a_link_in_the_place_of_a_folder(name: str, root: Path) -> None:
    outside = root.parent / "outside"
    (root / name).rename(outside) if (root / name).exists() else outside.mkdir()
    (outside / "000000000001.safetensors").write_bytes(b"somebody's")
    (root / name).symlink_to(outside)
    assert_refused(root, word="symbolic link")


@pytest.mark.parametrize("name", FILES)
def test_a_pipe_in_the_place_of_a_file(name: str, root: Path) -> None:
    (root / name).unlink(missing_ok=True)
    os.mkfifo(root / name)
    assert_refused(root, word="not a regular file" if name != "config.json" else "")


def test_a_pipe_deep_in_a_folder(root: Path) -> None:
    (root / "tensorboard" / "inner").mkdir(parents=True)
    os.mkfifo(root / "tensorboard" / "inner" / "events")
    assert_refused(root, word="not a regular file")


def test_a_device_in_the_place_of_a_file(root: Path) -> None:
    (root / "progress.json").unlink()
    (root / "progress.json").symlink_to("/dev/zero")
    assert_refused(root, word="symbolic link")


@pytest.mark.parametrize("name", ["config.json", "labels.sqlite", "summary.json"])
def test_a_folder_in_the_place_of_a_file(name: str, root: Path) -> None:
    (root / name).unlink(missing_ok=True)
    (root / name).mkdir()
    assert_refused(root, word="is a folder")


def test_a_run_is_opened_through_a_link_to_its_folder_and_with_other_folders_in_it(root: Path) -> None:
    (root / "wandb").mkdir()
    (root / "wandb" / "latest-run").symlink_to(root / "clips")
    link = root.parent / "link"
    link.symlink_to(root)
    assert prefrl("status", link).code == 0
    assert prefrl("labels", "report", link).code == 0


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
def test_a_schema_that_is_not_the_store_s(name: str, logged: bool, root: Path) -> None:
    path = root / "labels.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(SCHEMAS[name])
    connection.commit()
    if logged:  # as a process leaves it that is killed
        kept = {side: path.with_name(f"{path.name}{side}").read_bytes() for side in ("", "-wal")}
        connection.close()
        for side, held in kept.items():
            path.with_name(f"{path.name}{side}").write_bytes(held)
    connection.close()
    before = content(root)
    assert_refused_with_side_files(root, "labels.sqlite")
    assert content(root) == before


def assert_refused_with_side_files(root: Path, word: str) -> None:
    log = root / "labels.sqlite-wal"
    before = log.read_bytes() if log.exists() else None
    for command in ("status", "labels report"):
        started = time.process_time()
        assert word in refused(prefrl(*command.split(), root), 1)
        assert time.process_time() - started < 1.0
    assert (log.read_bytes() if log.exists() else None) == before


def test_a_million_tables_are_not_read_to_their_end(root: Path) -> None:
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite")) as connection:
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("PRAGMA writable_schema=ON")
        rows = (
            (f"t{n}", f"t{n}", f"CREATE TABLE t{n} ({','.join(f'a{c}' for c in range(200))})") for n in range(60_000)
        )
        connection.executemany("INSERT INTO sqlite_master VALUES ('table', ?, ?, 3, ?)", rows)
        connection.commit()
    started = time.process_time()
    with pytest.raises(PrefrlError, match="damaged"):
        LabelStore(root / "labels.sqlite")
    assert time.process_time() - started < 1.0


def test_a_query_without_end_is_ended(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a way found past the comparison of schemas."""
    monkeypatch.setattr(sqlite, "_MOST_CHECKS", 20)
    store = LabelStore(root / "labels.sqlite")
    with pytest.raises(PrefrlError, match="does not finish"), store.database.read() as connection:
        connection.exec_driver_sql(ENDLESS.replace("SELECT i FROM n", "SELECT sum(i) FROM n"))
    assert store.counts()["answered"] == 6  # the store still works
    store.close()


@pytest.mark.parametrize("version", ["²", "", "1e3", "-1", "0", "1", b"\xff\xfe", "9" * 400])
def test_an_unknown_store_version_is_refused(version: object, root: Path) -> None:
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite")) as connection:
        connection.execute("UPDATE meta SET value = ? WHERE key = 'version'", (version,))
        connection.commit()
    assert_refused(root, "status", "labels report", word="damaged")


def test_what_a_schema_may_call_is_nothing(root: Path) -> None:
    store = LabelStore(root / "labels.sqlite")
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


def test_opening_says_what_is_wrong_before_anything_is_read(root: Path) -> None:
    (root / "config.json").write_text("{")
    (root / "labels.sqlite-journal").write_bytes(b"")
    with pytest.raises(PrefrlError, match="journal"):
        RunDirectory.open(root)


def test_folders_in_folders_without_end_are_not_followed(root: Path) -> None:
    deep = root / "tensorboard"
    deep.mkdir(exist_ok=True)
    for _ in range(3):
        (deep := deep / "d").mkdir()
    assert_refused(root, word="deeper than a run is")
    shutil.rmtree(root / "tensorboard" / "d")
    here = os.open(root / "tensorboard", os.O_RDONLY)
    for _ in range(3000):  # longer than a path can be
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    try:
        for command in ("status", "resume", "play"):
            assert "deeper than a run is" in refused(prefrl(command, root), 1)
    finally:
        subprocess.run(["rm", "-rf", root / "tensorboard"], check=True)


@pytest.mark.parametrize("folder", ["", "clips"])
def test_files_without_end_are_not_all_looked_at(folder: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_admission, "_MOST", 50)
    for number in range(60):
        (root / folder / f"{number}.x").touch()
    assert_refused(root, word="more files than a run can")


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
def test_a_value_that_is_none_of_its_column_s(statement: str, root: Path) -> None:
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite")) as connection:
        connection.execute(statement)
        connection.commit()
    table = statement.split()[2 if statement.startswith("INSERT") else 1]
    assert_refused(root, "status", "labels report", word=f"of its table {table}")


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
def test_a_query_that_is_none_of_its_kind(statement: str, root: Path) -> None:
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite")) as connection:
        connection.execute(statement)
        connection.commit()
    assert_refused(root, "status", "labels report", word=QUERIES[statement])


def test_text_that_is_none_hinders_no_command(root: Path) -> None:
    """What of it is an answer's has a checksum (`test_bit_rot.py`)."""
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite")) as connection:
        for table, column in (("answers", "labeller"), ("answers", "created_at"), ("queries", "created_at")):
            connection.execute(f"UPDATE {table} SET {column} = CAST(x'e91b5b32ff' AS TEXT) WHERE id = 2")
        connection.commit()
    for command in ("status", "labels report", "labels export"):
        done = prefrl(*command.split(), root, *([root.parent / "out.zip"] if command == "labels export" else []))
        assert (done.code, done.err) == (0, "")
        assert "\x1b" not in done.out


def test_whatever_bytes_turn_there_is_one_line(root: Path) -> None:
    path, random = root / "labels.sqlite", Random(0)
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
            store.counts(), read_labels(store), store.comparisons(), store.damaged(), store.asked_pairs()
            LabelQueue(store).lease("a", 2)
        except PrefrlError:
            refusals += 1
        finally:
            store.close()
    assert refusals > 20
