"""The files of `prefrl bench anatomy`: the whole result as JSON, the fits as CSV, and the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prefrl.storage.files import write_json
from prefrl_benchmarks.measure.anatomy.figures import write_accuracy, write_around, write_games
from prefrl_benchmarks.measure.anatomy.fits import Fit
from prefrl_benchmarks.measure.anatomy.folder import RESULT
from prefrl_benchmarks.measure.anatomy.measure import Anatomy
from prefrl_benchmarks.report.tables import write_table


def write_fits(out: Path, fits: Sequence[Fit]) -> None:
    """Write the table of the fits."""
    write_table(out / "anatomy.csv", [_row(fit) for fit in fits])


def _row(fit: Fit) -> dict[str, Any]:
    return {
        "variant": fit.variant,
        "labels": fit.labels,
        "seed": fit.seed,
        "tie_share": fit.tie_share,
        "comparisons": fit.comparisons,
        "accuracy": fit.accuracy,
        "member_accuracy": fit.member_accuracy,
        "unseen": fit.unseen,
        "unseen_accuracy": fit.unseen_accuracy,
        "log_loss": fit.log_loss,
        "time_cpu_seconds": fit.cpu_seconds,
    }


def write_anatomy(out: Path, result: Anatomy) -> None:
    """Write the whole result, its table and its figures to a folder."""
    write_fits(out, result.fits)
    write_accuracy(out / "accuracy", result.fits, result.about["labels"]["held_out_decided"])
    if result.scored:
        write_games(out / "game", result.games, result.scored)
        if any(found["far"]["steps"] for found in result.models.values()):  # otherwise every step has a reward
            write_around(out / "around", result.models)
    write_json(out / RESULT, result.to_json())
