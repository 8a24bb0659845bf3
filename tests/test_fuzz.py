"""A short fuzzing run with fixed seeds; `tests/fuzz.py` runs longer ones."""

from pathlib import Path

import pytest
from fuzz import Specimens, fuzz


@pytest.fixture(scope="module")
def specimens(tmp_path_factory: pytest.TempPathFactory) -> Specimens:
    return Specimens(tmp_path_factory.mktemp("specimens"))


@pytest.mark.parametrize("seed", range(0, 60, 10))
def test_whatever_is_broken_ends_in_one_line(seed: int, specimens: Specimens, tmp_path: Path) -> None:
    assert [broken for each in range(seed, seed + 10) if (broken := fuzz(specimens, tmp_path, each))] == []
