"""Returns against labels, with and without demonstrations."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from prefrl_benchmarks.report.style import COLOURS, finish
from prefrl_benchmarks.studies.study import Measured, Outcome, judged
from prefrl_benchmarks.studies.trained import Trained, score_rows, spread

STARTS = {"": "comparisons", "shown-": "with demonstrations", "expert-": "with an expert's"}
"""What the names of variants begin with, before the number of labels."""


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    trained, settings = Trained(measured), measured.settings
    budgets = {"": settings["budgets"], "shown-": settings["budgets"], "expert-": settings["expert_budgets"]}
    pairs = [
        (task, f"{start}{few}", many)
        for task in trained.tasks
        for start in ("shown-", "expert-")
        for few, many in pairwise(settings["budgets"])
        if few in budgets[start]
    ]
    held = [_mean(trained, task, few) >= _mean(trained, task, str(many)) for task, few, many in pairs]
    said = "; ".join(
        f"{task}: "
        + ", ".join(f"{labels} labels {_scores(trained, task, labels, budgets)}" for labels in settings["budgets"])
        + f"; the demonstrator {spread(trained.scores(task, 'demonstrator'))}, "
        f"a clone of the expert {spread(trained.scores(task, 'cloned'))}"
        for task in trained.tasks
    )
    counts = " and ".join(
        f"{sum(kept)} of {len(kept)} cases with the {name}'s"
        for start, name in (("shown-", "demonstrator"), ("expert-", "expert"))
        if (kept := [good for (_, few, _), good in zip(pairs, held, strict=True) if few.startswith(start)])
    )
    missed = ", ".join(
        f"{few} against {many} on {task}" for (task, few, many), good in zip(pairs, held, strict=True) if not good
    )
    failed = f"; not {missed}" if missed else ""
    findings = (
        f"Scores without demonstrations, with the demonstrator's and with the expert's: {said}. In {counts} "
        f"demonstrations, about half of the labels give at least the return of all labels without{failed}."
    )
    variants = [
        "demonstrator",
        "cloned",
        *(f"{start}{n}" for n in budgets[""] for start in budgets if n in budgets[start]),
    ]
    panels = [partial(_draw, trained=trained, task=task, budgets=budgets) for task in trained.tasks]
    return Outcome(judged(*map(bool, held)), findings, score_rows(trained, variants), panels)


def _mean(trained: Trained, task: str, variant: str) -> float:
    """Mean score; NaN, which is no less and no more than anything, without a finished run."""
    scores = trained.scores(task, variant)
    return float(scores.mean()) if len(scores) else np.nan


def _scores(trained: Trained, task: str, labels: int, budgets: dict[str, list[int]]) -> str:
    return " / ".join(
        f"{_mean(trained, task, f'{start}{labels}'):.2f}" for start in budgets if labels in budgets[start]
    )


def _draw(axes: Axes, trained: Trained, task: str, budgets: dict[str, list[int]]) -> None:
    for colour, (start, name) in zip(COLOURS, STARTS.items(), strict=False):
        found = [trained.scores(task, f"{start}{labels}") for labels in budgets[start]]
        means = [_mean(trained, task, f"{start}{labels}") for labels in budgets[start]]
        axes.plot(budgets[start], means, "o-", color=colour, label=name)
        for labels, scores in zip(budgets[start], found, strict=True):
            axes.plot(np.full(len(scores), labels), scores, ".", color=colour, alpha=0.6)
    axes.set_xscale("log", base=2)
    axes.set_xticks(budgets[""], [str(labels) for labels in budgets[""]])
    finish(axes, f"{task}: score by labels", "score", "labels")
