"""Returns from a judge's answers, with and without deferral, beside those from a person's."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes

from prefrl_benchmarks.report.style import COLOURS, finish
from prefrl_benchmarks.studies.study import Measured, Outcome, Row, judged
from prefrl_benchmarks.studies.trained import Trained, column, score_rows, spread

VARIANTS = ("person", "judge", "judge-alone", "person-383", "person-150")


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    trained, bound = Trained(measured, baseline="person"), measured.settings["bound"]
    scores = {name: np.concatenate([trained.scores(task, name) for task in trained.tasks]) for name in VARIANTS}
    reached = [bool(trained.scores(task, "judge").mean() >= bound) for task in trained.tasks]
    less = bool(scores["judge-alone"].mean() < scores["judge"].mean())
    said = ", ".join(f"{name} {spread(scores[name])}" for name in VARIANTS)
    findings = (
        f"Means over {' and '.join(trained.tasks)} of the score, with a random policy at 0 and 700 answers of the "
        f"person at 1: {said}."
    )

    def asked(task: str, variant: str) -> Row:
        answers = [answered_by_person(run.summary or {}) for run in trained.runs(task, variant)]
        before = 150 if variant.startswith("judge") else 0
        return {"answers of the person": f"{before + np.mean(answers):.0f}" if answers else "-"}

    panels = [partial(_draw, trained=trained, task=task) for task in trained.tasks]
    return Outcome(judged(*reached, less), findings, score_rows(trained, VARIANTS, asked), panels)


def answered_by_person(summary: dict[str, dict[str, int]]) -> int:
    """Return how many labels were not the judge's, from a run's summary."""
    return sum(count for name, count in summary.get("labels_by_teacher", {}).items() if name != "judge")


def _draw(axes: Axes, trained: Trained, task: str) -> None:
    for colour, name in zip(COLOURS, VARIANTS, strict=False):
        for place, run in enumerate(trained.runs(task, name)):
            axes.plot(*column(run, "true_return_mean").T, color=colour, alpha=0.6, label=None if place else name)
    finish(axes, f"{task}: return of training episodes", "true return", "agent steps")
