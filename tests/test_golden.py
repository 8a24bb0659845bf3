"""Results of synchronous runs are equal to stored ones to the last digit."""

from __future__ import annotations

from pathlib import Path

import pytest
from golden import DATA, RUNS, rows, run


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_synchronous_run_gives_the_figures_that_it_gave(name: str, tmp_path: Path) -> None:
    before, now = rows(DATA / f"{name}.csv"), run(name, tmp_path)
    assert len(before) > 1
    columns = before[0].keys()
    assert [{column: row[column] for column in columns} for row in now] == before
