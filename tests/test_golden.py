"""Results of synchronous runs are equal to stored ones to the last digit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from golden import DATA, RUNS, Program, rows, run


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """The command, for one run after the other: what a run gives does not depend on those before it."""
    with Program() as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_synchronous_run_gives_the_figures_that_it_gave(name: str, tmp_path: Path, program: Program) -> None:
    before, now = rows(DATA / f"{name}.csv"), run(name, tmp_path, program)
    assert len(before) > 1
    columns = before[0].keys()
    assert [{column: row[column] for column in columns} for row in now] == before
