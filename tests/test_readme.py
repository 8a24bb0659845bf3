"""What the README shows of the suites is what the report makes of the published results.

Run as a program, this file writes the report and the README's table anew: python tests/test_readme.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from prefrl_benchmarks.report import analyse, write_report
from prefrl_benchmarks.texts import summary_table

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
_TABLE = re.compile(r"<!-- table: (\w+) -->\n(.*?)<!-- end -->\n", re.DOTALL)
KEPT = ("*.csv", "summary.md", "scores.png", "returns.png", "curves.png")
"""Of a report, in the repository: the page is large, and made from the same files."""


def shown() -> dict[str, str]:
    """The README's tables by suite."""
    return {match[1]: match[2] for match in _TABLE.finditer(README.read_text())}


@pytest.mark.parametrize("suite", shown())
def test_a_table_is_the_published_results(suite):
    found = analyse([RESULTS / suite])
    assert shown()[suite] == summary_table(found.scores, found.aggregates, found.results.returns_text(suite))
    assert (RESULTS / suite / "report" / "summary.md").read_text() == shown()[suite]


def test_there_are_tables():
    assert shown()


def write() -> None:
    """Make every report and table anew."""
    for suite in shown():
        out = RESULTS / suite / "report"
        write_report([RESULTS / suite], out)
        for path in out.iterdir():
            if not any(path.match(kept) for kept in KEPT):
                path.unlink()
    README.write_text(_TABLE.sub(_anew, README.read_text()))


def _anew(match: re.Match[str]) -> str:
    table = (RESULTS / match[1] / "report" / "summary.md").read_text()
    return f"<!-- table: {match[1]} -->\n{table}<!-- end -->\n"


if __name__ == "__main__":
    sys.exit(write())
