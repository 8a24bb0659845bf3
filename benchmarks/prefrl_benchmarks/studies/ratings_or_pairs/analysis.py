"""Scores of ratings and of comparisons that take a labeller the same time."""

from __future__ import annotations

import numpy as np

from prefrl_benchmarks.studies.study import Measured, Outcome, Row, judged
from prefrl_benchmarks.studies.trained import Trained, bars, overlap, score_rows, spread

VARIANTS = ("pairs", "ratings", "pairs-quarter", "ratings-quarter")


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    trained = Trained(measured)
    scores = {variant: _all(trained, variant) for variant in VARIANTS}
    whole = [bool(trained.scores(task, "ratings").mean() >= measured.settings["bound"]) for task in trained.tasks]
    quarter = bool(scores["pairs-quarter"].mean() > scores["ratings-quarter"].mean())
    better = "ratings" if scores["ratings"].mean() > scores["pairs"].mean() else "comparisons"
    also = ", but the intervals overlap" if overlap(scores["pairs"], scores["ratings"]) else ""
    said = {variant: spread(found) for variant, found in scores.items()}
    findings = (
        f"Means over {' and '.join(trained.tasks)} of the score (random policy 0, true reward 1): in the "
        f"time of 700 comparisons, comparisons {said['pairs']} and ratings {said['ratings']}; in a quarter of it, "
        f"{said['pairs-quarter']} and {said['ratings-quarter']}. In the whole time, {better} have the higher "
        f"mean{also}."
    )

    def minutes(task: str, variant: str) -> Row:
        seconds = measured.settings["seconds"][variant.removesuffix("-quarter")]
        labels = trained.groups[task, variant].labels if trained.returns(task, variant).size else 0
        return {"labels": labels, "minutes": f"{labels * seconds / 60:.1f}"}

    panels = [
        bars(f"{task}: score", "score", {name: trained.scores(task, name) for name in VARIANTS}, line=1.0)
        for task in trained.tasks
    ]
    return Outcome(judged(*whole, quarter), findings, score_rows(trained, VARIANTS, minutes), panels)


def _all(trained: Trained, variant: str) -> np.ndarray:
    return np.concatenate([trained.scores(task, variant) for task in trained.tasks])
