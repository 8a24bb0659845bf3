"""The tables of suites in the README and in the documentation are what the report makes of the published results.

Run as a program, this file makes the reports and the tables again: python tests/test_readme.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from prefrl_benchmarks.report.page import analyse, write_report
from prefrl_benchmarks.report.texts import summary_table

ROOT = Path(__file__).resolve().parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
RESULTS = ROOT / "benchmarks" / "results"
_TABLE = re.compile(r"<!-- table: ([\w-]+) -->\n(.*?)<!-- end -->\n", re.DOTALL)
KEPT = ("*.csv", "summary.md", "scores.png", "returns.png", "curves.png")
"""Of a report, in the repository: the page is large, and made from the same files."""


def shown() -> list[tuple[str, str, str]]:
    """The pages' tables: page, suite, table."""
    return [(page.name, match[1], match[2]) for page in PAGES for match in _TABLE.finditer(page.read_text())]


@pytest.mark.parametrize(("page", "suite", "table"), shown(), ids=lambda text: text if len(text) < 20 else "")
def test_a_table_is_the_published_results(page, suite, table):
    found = analyse([RESULTS / suite])
    assert table == summary_table(found.scores, found.aggregates, found.results.returns_text(suite)), page
    assert (RESULTS / suite / "report" / "summary.md").read_text() == table


def test_the_tables_are_where_readers_look():
    assert [(page, suite) for page, suite, _ in shown()] == [
        ("README.md", "mujoco"),
        ("results.md", "mujoco"),
        ("results.md", "quick"),
        ("results.md", "bpref-small"),
    ]


def write() -> None:
    """Make every report and table again."""
    for suite in {suite for _, suite, _ in shown()}:
        out = RESULTS / suite / "report"
        write_report([RESULTS / suite], out)
        for path in out.iterdir():
            if not any(path.match(kept) for kept in KEPT):
                path.unlink()
    for page in PAGES:
        page.write_text(_TABLE.sub(_current, page.read_text()))


def _current(match: re.Match[str]) -> str:
    table = (RESULTS / match[1] / "report" / "summary.md").read_text()
    return f"<!-- table: {match[1]} -->\n{table}<!-- end -->\n"


if __name__ == "__main__":
    sys.exit(write())
