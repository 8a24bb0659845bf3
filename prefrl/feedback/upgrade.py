"""Upgrade stores of versions 1 to 4, which contained only comparisons.

Ids are kept. Late answers had a table of their own; they are appended to the others. Damaged answers stay detectable:
they get a wrong checksum again.
"""

from __future__ import annotations

from collections import defaultdict

import sqlalchemy as sa

from prefrl.feedback.checksums import checksum
from prefrl.safety.store_schema import STORE_VERSION, VIEWS, WITHDRAWN_VIEW

_OLD = ("queries", "comparisons", "checksums", "late_answers")
"""Tables that are converted to new ones."""
_QUERIES = (
    "INSERT INTO queries (id, kind, round, rank, agent_step, wanted, created_at) "
    "SELECT id, 'comparison', round, rank, agent_step, 1, created_at FROM old_queries ORDER BY id",
    "INSERT INTO query_segments SELECT id, 0, segment_left FROM old_queries ORDER BY id",
    "INSERT INTO query_segments SELECT id, 1, segment_right FROM old_queries ORDER BY id",
)
_SHOWN = """CASE typeof(shown_left) WHEN 'integer' THEN '[' || shown_left || ', ' ||
    coalesce((SELECT segment_right FROM old_queries AS asked WHERE asked.id = query_id), 'null') || ']'
    ELSE CAST(shown_left AS BLOB) END"""
"""The order shown. The left side was always that of the query; a damaged entry stays unreadable."""
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
    """Upgrade a store to the current version, in a transaction on a connection that does not enforce foreign keys.

    Args:
        connection: The transaction.
        metadata: The current tables.
    """
    run = connection.exec_driver_sql
    version = run("SELECT value FROM meta WHERE key = 'version'").scalar_one()
    if version == str(STORE_VERSION):
        return  # another process has upgraded it in the meantime
    there = {row[0]: row[1] for row in run("SELECT name, type FROM sqlite_master")}
    run("DROP VIEW labels")
    if "leases" in there:  # viewers lease their queries again
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
    """Store a checksum for each row that had one: a wrong one if the old one was wrong."""
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
