"""The allowed schemas of a label store: exactly those of the store's versions.

A store may have been made by someone else, and SQLite executes parts of a schema: a trigger can change answers, and a
view in place of a table can be infinitely long. A file's schema is therefore compared with the allowed ones before use.
The statements are listed here as they appear in files. They are not generated from the table definitions, so that a
library's new formatting cannot lock out old stores.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

from prefrl.errors import PrefrlError, UsageError
from prefrl.safety.sqlite_file import inspect

STORE_VERSION = 5
_LABELS_VIEW = """
CREATE VIEW labels AS
SELECT id, query_id, judgement, teacher, labeller, agent_step, shown_left, response_seconds, created_at
FROM comparisons AS given
WHERE judgement IS NOT NULL AND NOT EXISTS (SELECT 1 FROM comparisons AS undo WHERE undo.undoes = given.id)
"""
STANDING_VIEW = """
CREATE VIEW answers_standing AS
SELECT given.id, given.query_id, asked.kind, given.value, given.teacher, given.labeller, given.agent_step,
given.shown AS segments, given.response_seconds, given.created_at
FROM answers AS given JOIN queries AS asked ON asked.id = given.query_id
WHERE given.value IS NOT NULL AND given.late = 0
AND NOT EXISTS (SELECT 1 FROM answers AS undo WHERE undo.undoes = given.id)
"""
"""`value` is JSON; `segments` is a JSON list of ids, in the order shown. The view uses none of SQLite's JSON functions,
because older versions of SQLite refuse them in an untrusted schema."""
LABELS_VIEW = """
CREATE VIEW labels AS
SELECT id, query_id, substr(value, 2, length(value) - 2) AS judgement, teacher, labeller, agent_step,
CAST(substr(segments, 2) AS INTEGER) AS shown_left, response_seconds, created_at
FROM answers_standing
WHERE kind = 'comparison'
"""
WITHDRAWN_VIEW = """
CREATE VIEW withdrawn AS
SELECT id, query_id, reason, labeller, after_answer, created_at
FROM withdrawals AS made
WHERE reason IS NOT NULL AND NOT EXISTS (SELECT 1 FROM withdrawals AS undo WHERE undo.undoes = made.id)
"""
_META = 'CREATE TABLE meta ("key" VARCHAR NOT NULL, value VARCHAR NOT NULL, PRIMARY KEY ("key"))'
_SEGMENTS = """
CREATE TABLE segments (
    id INTEGER NOT NULL, length INTEGER NOT NULL, agent_step INTEGER NOT NULL, PRIMARY KEY (id)
);
"""
_FIRST = f"""
{_META};
CREATE TABLE sqlite_sequence(name,seq);
{_SEGMENTS}CREATE TABLE queries (
    id INTEGER NOT NULL, round INTEGER NOT NULL, rank INTEGER NOT NULL, segment_left INTEGER NOT NULL,
    segment_right INTEGER NOT NULL, agent_step INTEGER NOT NULL, created_at VARCHAR NOT NULL, PRIMARY KEY (id),
    UNIQUE (round, rank), FOREIGN KEY(segment_left) REFERENCES segments (id),
    FOREIGN KEY(segment_right) REFERENCES segments (id)
);
CREATE TABLE comparisons (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, query_id INTEGER NOT NULL, judgement VARCHAR, undoes INTEGER,
    teacher VARCHAR NOT NULL, labeller VARCHAR, agent_step INTEGER NOT NULL, shown_left INTEGER NOT NULL,
    response_seconds FLOAT, created_at VARCHAR NOT NULL, FOREIGN KEY(query_id) REFERENCES queries (id),
    UNIQUE (undoes), FOREIGN KEY(undoes) REFERENCES comparisons (id),
    FOREIGN KEY(shown_left) REFERENCES segments (id)
);
CREATE INDEX ix_comparisons_query_id ON comparisons (query_id);
{_LABELS_VIEW};
"""
_RENDERED = """
CREATE TABLE rendered (
    segment_id INTEGER NOT NULL, frames INTEGER NOT NULL, problem VARCHAR, created_at VARCHAR NOT NULL,
    PRIMARY KEY (segment_id), FOREIGN KEY(segment_id) REFERENCES segments (id)
);
"""
_QUEUE = f"""
{_RENDERED}
CREATE TABLE leases (
    query_id INTEGER NOT NULL, viewer VARCHAR NOT NULL, expires_at FLOAT NOT NULL, PRIMARY KEY (query_id),
    FOREIGN KEY(query_id) REFERENCES queries (id)
);
CREATE TABLE withdrawn (
    query_id INTEGER NOT NULL, reason VARCHAR NOT NULL, created_at VARCHAR NOT NULL, PRIMARY KEY (query_id),
    FOREIGN KEY(query_id) REFERENCES queries (id)
);
"""
_REPEATS = """
CREATE TABLE repeats (
    query_id INTEGER NOT NULL, original_id INTEGER NOT NULL, PRIMARY KEY (query_id),
    FOREIGN KEY(query_id) REFERENCES queries (id), UNIQUE (original_id),
    FOREIGN KEY(original_id) REFERENCES queries (id)
);
"""
_WITHDRAWALS = f"""
CREATE TABLE withdrawals (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, query_id INTEGER NOT NULL, reason VARCHAR, undoes INTEGER,
    labeller VARCHAR, after_answer INTEGER NOT NULL, created_at VARCHAR NOT NULL,
    FOREIGN KEY(query_id) REFERENCES queries (id), UNIQUE (undoes),
    FOREIGN KEY(undoes) REFERENCES withdrawals (id)
);
CREATE INDEX ix_withdrawals_query_id ON withdrawals (query_id);
{WITHDRAWN_VIEW};
"""
_FOURTH = f"""
{_RENDERED}
CREATE TABLE leases (
    query_id INTEGER NOT NULL, viewer VARCHAR NOT NULL, boot VARCHAR NOT NULL, expires_at FLOAT NOT NULL,
    PRIMARY KEY (query_id), FOREIGN KEY(query_id) REFERENCES queries (id)
);
{_WITHDRAWALS}
CREATE TABLE checksums (
    comparison_id INTEGER NOT NULL, crc32 INTEGER NOT NULL, PRIMARY KEY (comparison_id),
    FOREIGN KEY(comparison_id) REFERENCES comparisons (id)
);
CREATE TABLE late_answers (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, query_id INTEGER NOT NULL, judgement VARCHAR NOT NULL,
    teacher VARCHAR NOT NULL, labeller VARCHAR, agent_step INTEGER NOT NULL, shown_left INTEGER NOT NULL,
    response_seconds FLOAT, created_at VARCHAR NOT NULL, FOREIGN KEY(query_id) REFERENCES queries (id),
    FOREIGN KEY(shown_left) REFERENCES segments (id)
);
"""
_PRESENT = f"""
{_META};
CREATE TABLE sqlite_sequence(name,seq);
{_SEGMENTS}
CREATE TABLE queries (
    id INTEGER NOT NULL, kind VARCHAR NOT NULL, round INTEGER NOT NULL, rank INTEGER NOT NULL,
    agent_step INTEGER NOT NULL, wanted INTEGER NOT NULL, created_at VARCHAR NOT NULL, PRIMARY KEY (id),
    UNIQUE (round, rank)
);
CREATE TABLE query_segments (
    query_id INTEGER NOT NULL, place INTEGER NOT NULL, segment_id INTEGER NOT NULL, PRIMARY KEY (query_id, place),
    FOREIGN KEY(query_id) REFERENCES queries (id), FOREIGN KEY(segment_id) REFERENCES segments (id)
);
CREATE INDEX ix_query_segments_segment_id ON query_segments (segment_id);
CREATE TABLE answers (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, query_id INTEGER NOT NULL, value VARCHAR, undoes INTEGER,
    teacher VARCHAR NOT NULL, labeller VARCHAR, agent_step INTEGER NOT NULL, shown VARCHAR NOT NULL,
    response_seconds FLOAT, created_at VARCHAR NOT NULL, late INTEGER NOT NULL,
    FOREIGN KEY(query_id) REFERENCES queries (id), UNIQUE (undoes), FOREIGN KEY(undoes) REFERENCES answers (id)
);
CREATE INDEX ix_answers_query_id ON answers (query_id);
{STANDING_VIEW};
{LABELS_VIEW};
{_RENDERED}
CREATE TABLE leases (
    query_id INTEGER NOT NULL, viewer VARCHAR NOT NULL, boot VARCHAR NOT NULL, expires_at FLOAT NOT NULL,
    PRIMARY KEY (query_id, viewer), FOREIGN KEY(query_id) REFERENCES queries (id)
);
{_WITHDRAWALS}
{_REPEATS}
CREATE TABLE checksums (
    answer_id INTEGER NOT NULL, crc32 INTEGER NOT NULL, PRIMARY KEY (answer_id),
    FOREIGN KEY(answer_id) REFERENCES answers (id)
);
"""
VIEWS = (STANDING_VIEW, LABELS_VIEW, WITHDRAWN_VIEW)
_LONGEST, _MOST = 4000, 100
"""Limits for the characters of a statement and the number of statements; above those of every version."""


def canonical(statement: str) -> str:
    """Normalise a statement: remove spaces and quotes, and sort the parts of a table."""
    text = re.sub(r"\s*([(),])\s*", r"\1", " ".join(statement.replace('"', "").split()))
    head, _, rest = text.partition("(")
    if not head.startswith("CREATE TABLE"):
        return text
    parts = re.split(r",(?![^()]*\))", rest.removesuffix(")"))
    return f"{head}({','.join(sorted(parts))})"


def _statements(script: str) -> frozenset[str]:
    return frozenset(canonical(statement) for statement in script.split(";") if statement.strip())


SCRIPTS = {
    1: _FIRST,
    2: _FIRST + _QUEUE,
    3: _FIRST + _QUEUE + _REPEATS,
    4: _FIRST + _REPEATS + _FOURTH,
    5: _PRESENT,
}
"""The SQL script of each version's schema."""
SCHEMAS = {version: _statements(script) for version, script in SCRIPTS.items()}
"""The normalised statements of each version."""


def admit(path: Path) -> int:
    """Check that a store's schema is that of one of the store's versions. Call this before any other use of the file.

    Returns:
        The store's version.

    Raises:
        UsageError: if it was made by a newer version.
        PrefrlError: if it is damaged, or not a label store.
    """
    found: list[int] = []
    inspect(path, lambda connection: found.append(_version(connection, path)))
    return found[0]


def _version(connection: sqlite3.Connection, path: Path) -> int:
    # Read one character and one row beyond the limits, to detect a schema that exceeds them.
    shortened = f"SELECT name, substr(sql, 1, {_LONGEST + 1}) FROM sqlite_master LIMIT {_MOST + 1}"
    rows = connection.execute(shortened).fetchall()
    if len(rows) > _MOST or any(len(sql or "") > _LONGEST for _, sql in rows):
        raise PrefrlError(f"{path} is not a store of prefrl's, or damaged: its schema is larger than can be right")
    # An index that a table's constraint creates has no statement.
    there = {canonical(sql or f"CREATE INDEX {name}"): name for name, sql in rows if not _automatic(name, sql)}
    if canonical(_META) not in there:
        raise PrefrlError(f"{path} is damaged: it has no version")
    query = "SELECT substr(value, 1, 20) FROM meta WHERE key = 'version'"
    told = str((connection.execute(query).fetchone() or [""])[0])
    if not re.fullmatch("[0-9]{1,9}", told):
        raise PrefrlError(f"{path} is damaged: it has no version")
    version = int(told)
    if version > STORE_VERSION:
        raise UsageError(f"{path} was made by a newer version of prefrl (store version {version})")
    own = SCHEMAS.get(version, frozenset())
    if strange := sorted(there[statement] for statement in there.keys() - own):
        raise PrefrlError(f"{path} is not a store of prefrl's, or damaged: it holds {strange[0]!a:.60}")
    if own - there.keys():
        raise PrefrlError(f"{path} is damaged: tables are missing")
    return version


def _automatic(name: str, sql: str | None) -> bool:
    return sql is None and name.startswith("sqlite_autoindex_")
