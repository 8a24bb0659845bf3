"""Stores of versions 1 to 4, which knew only comparisons, become stores of the present version.

Ids stay as they are. Answers that came late had a table of their own; they follow all others. An answer that had been
damaged stays damaged: its checksum does not match here either.
"""

from __future__ import annotations

from collections import defaultdict

import sqlalchemy as sa

from prefrl.feedback.checksums import checksum
from prefrl.safety.store_schema import STORE_VERSION, VIEWS, WITHDRAWN_VIEW

_OLD = ("queries", "comparisons", "checksums", "late_answers")
"""Tables that are read into new ones."""
_QUERIES = (
    "INSERT INTO queries (id, kind, round, rank, agent_step, wanted, created_at) "
    "SELECT id, 'comparison', round, rank, agent_step, 1, created_at FROM old_queries ORDER BY id",
    "INSERT INTO query_segments SELECT id, 0, segment_left FROM old_queries ORDER BY id",
    "INSERT INTO query_segments SELECT id, 1, segment_right FROM old_queries ORDER BY id",
)
_SHOWN = """CASE typeof(shown_left) WHEN 'integer' THEN '[' || shown_left || ', ' ||
    coalesce((SELECT segment_right FROM old_queries AS asked WHERE asked.id = query_id), 'null') || ']'
    ELSE CAST(shown_left AS BLOB) END"""
"""The left side was always that of the query; what has rotted stays illegible."""
_VALUE = "CASE typeof(judgement) WHEN 'text' THEN '\"' || judgement || '\"' ELSE judgement END"
_ANSWERS = f"""
INSERT INTO answers
    (id, query_id, value, undoes, teacher, labeller, agent_step, shown, response_seconds, created_at, late)
SELECT id, query_id, {_VALUE}, undoes, teacher, labeller, agent_step, {_SHOWN}, response_seconds, created_at, 0
FROM old_comparisons ORDER BY id
"""
_LATE = f"""
INSERT INTO answers (query_id, value, teacher, labeller, agent_step, shown, response_seconds, created_at, late)
SELECT query_id, {_VALUE}, teacher, labeller, agent_step, {_SHOWN}, response_seconds, created_at, 1
FROM old_late_answers ORDER BY id
"""
_WITHDRAWN = """
INSERT INTO withdrawals (query_id, reason, after_answer, created_at)
SELECT query_id, reason, (SELECT coalesce(max(id), 0) FROM old_comparisons), created_at FROM old_withdrawn
"""


def upgrade(connection: sa.Connection, metadata: sa.MetaData) -> None:
    """Bring a store up to date, within a transaction of a connection that enforces no foreign keys.

    Args:
        connection: The transaction.
        metadata: The present tables.
    """
    run = connection.exec_driver_sql
    version = run("SELECT value FROM meta WHERE key = 'version'").scalar_one()
    if version == str(STORE_VERSION):
        return  # another process has done so meanwhile
    there = {row[0]: row[1] for row in run("SELECT name, type FROM sqlite_master")}
    run("DROP VIEW labels")
    if "leases" in there:  # whoever has a query in hand takes it again
        run("DROP TABLE leases")
    moved = [name for name in _OLD if name in there]
    if there.get("withdrawn") == "table":  # a table without a history, before version 4
        moved.append("withdrawn")
    for name in moved:
        run(f"CREATE TEMP TABLE old_{name} AS SELECT * FROM main.{name}")
        run(f"DROP TABLE main.{name}")
    metadata.create_all(connection)
    for statement in (*_QUERIES, _ANSWERS, *([_LATE] if "late_answers" in moved else [])):
        run(statement)
    if "withdrawn" in moved:
        run(_WITHDRAWN)
    for view in VIEWS:
        if view is not WITHDRAWN_VIEW or there.get("withdrawn") != "view":
            run(view)
    if "checksums" in moved:
        _renew_checksums(connection)
    for name in moved:
        run(f"DROP TABLE temp.old_{name}")
    run(f"UPDATE meta SET value = '{STORE_VERSION}' WHERE key = 'version'")


def _renew_checksums(connection: sa.Connection) -> None:
    """A checksum for each row that had one; a wrong one where it was wrong."""
    run = connection.exec_driver_sql
    before = run(
        "SELECT said.*, asked.segment_left, asked.segment_right, crc32 FROM old_comparisons AS said "
        "JOIN old_queries AS asked ON asked.id = said.query_id JOIN old_checksums ON comparison_id = said.id"
    )
    whole = {row[0]: row[-1] == checksum(row[:-1]) for row in before}
    segments = defaultdict(list)
    for query, segment in run("SELECT query_id, segment_id FROM query_segments ORDER BY query_id, place"):
        segments[query].append(segment)
    now = run("SELECT said.*, asked.kind FROM answers AS said JOIN queries AS asked ON asked.id = said.query_id")
    crcs = ((row[0], checksum((*row, *segments[row[1]]))) for row in now.all() if row[0] in whole)
    for answer, crc in crcs:
        run("INSERT INTO checksums VALUES (?, ?)", (answer, crc if whole[answer] else crc ^ 1))
