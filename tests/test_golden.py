"""Results of synchronous runs are equal to stored ones: to the last digit on a processor of a kind that has some."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mujoco
import pytest
from golden import DATA, RUNS, Program, processor, rows, run

RECORDED = "4.0.0"
"""The version of MuJoCo with which the figures were recorded."""
CONTACTS = ("cheetah", "hopper", "walker")
"""Tasks that differ in the seventh digit with other versions."""
NEAR = {"rel": 0.01, "abs": 0.001}
"""What rounding makes of the first row on other kinds of processors. Later rows part, since training is chaotic."""


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
    recorded = {file.parent.name: rows(file) for file in DATA.glob(f"*/{name}.csv")}
    now = run(name, tmp_path, program)
    assert recorded
    assert all(len(before) == len(now) > 1 for before in recorded.values())
    if any([shared(row, before[0]) for row in now] == before for before in recorded.values()):
        return
    assert processor() not in recorded, "this kind of processor has other results"
    assert any(shared(now[0], before[0]) == near(before[0]) for before in recorded.values())


def shared(row: dict[str, str], before: dict[str, str]) -> dict[str, str]:
    """The columns that were recorded: files may have more now."""
    return {column: row[column] for column in before}


def near(row: dict[str, str]) -> dict[str, object]:
    return {name: Near(value) if value else value for name, value in row.items()}


class Near:
    """Equal to the text of a number that differs by rounding."""

    __hash__ = None  # type: ignore[assignment]

    def __init__(self, value: str) -> None:
        self.value = float(value)

    def __eq__(self, other: object) -> bool:
        return bool(other) and float(str(other)) == pytest.approx(self.value, **NEAR)
