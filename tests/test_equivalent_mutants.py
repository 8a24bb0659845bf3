"""The list of mutants that make no difference is about the code as it is."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LISTED = tomllib.loads((ROOT / "tests" / "equivalent_mutants.toml").read_text())


@pytest.mark.parametrize("file", LISTED)
def test_every_line_with_an_equivalent_mutant_is_there(file):
    lines = {line.strip() for line in (ROOT / file).read_text().splitlines()}
    assert not LISTED[file].keys() - lines
