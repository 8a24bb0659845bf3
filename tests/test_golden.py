"""Results of synchronous runs are equal to stored ones to the last digit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mujoco
import pytest
from golden import DATA, RUNS, Program, rows, run

RECORDED = "4.0.0"
"""The version of MuJoCo with which the figures were recorded."""
CONTACTS = ("cheetah", "hopper", "walker")
"""Tasks that differ in the seventh digit with other versions."""


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    """The command, for one run after the other: what a run gives does not depend on those before it."""
    with Program() as opened:
        yield opened


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_a_synchronous_run_gives_the_figures_that_it_gave(name: str, tmp_path: Path, program: Program) -> None:
    if RUNS[name][0][1] in CONTACTS and mujoco.__version__ != RECORDED:
        pytest.skip(f"recorded with MuJoCo {RECORDED}, and contacts differ with {mujoco.__version__}")
    before, now = rows(DATA / f"{name}.csv"), run(name, tmp_path, program)
    assert len(before) > 1
    columns = before[0].keys()
    assert [{column: row[column] for column in columns} for row in now] == before
