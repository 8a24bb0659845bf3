"""Power cuts during a run: every committed label can still be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from power import NoDisksError, cut_power

pytestmark = pytest.mark.slow


def test_every_committed_label_can_be_used_after_a_power_cut(tmp_path: Path) -> None:
    try:
        cuts = list(cut_power(5, tmp_path))
    except NoDisksError as error:
        pytest.skip(f"no file system can be made here: {error}")
    assert [cut.unusable for cut in cuts] == [0] * 5
    assert all(cut.labels for cut in cuts[1:])
    assert [cut.labels for cut in cuts] == sorted(cut.labels for cut in cuts)
