"""Returns against labels, with and without demonstrations."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes

from prefrl_benchmarks.report.style import COLOURS, finish
from prefrl_benchmarks.studies.study import Measured, Outcome, judged
from prefrl_benchmarks.studies.trained import Trained, score_rows, spread


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    trained, budgets = Trained(measured), measured.settings["budgets"]
    pairs = [
        (task, few, many, bool(trained.scores(task, f"shown-{few}").mean() >= trained.scores(task, str(many)).mean()))
        for task in trained.tasks
        for few, many in pairwise(budgets)
    ]
    shifted = [task for task in trained.tasks if all(held for each, _, _, held in pairs if each == task)]
    missed = ", ".join(f"{few} against {many} on {task}" for task, few, many, held in pairs if not held)
    said = "; ".join(
        f"{task}: {', '.join(f'{n} labels {_pair(trained, task, n)}' for n in budgets)}; the demonstrator "
        f"{spread(trained.scores(task, 'demonstrator'))}"
        for task in trained.tasks
    )
    findings = (
        f"Scores without and with demonstrations: {said}. Half of the labels with demonstrations give at least the "
        f"return of all without at every budget on {', '.join(shifted) or 'no task'}"
        f"{f'; not with {missed}' if missed else ''}."
    )
    variants = ["demonstrator", *(f"{start}{n}" for n in budgets for start in ("", "shown-"))]
    panels = [partial(_draw, trained=trained, task=task) for task in trained.tasks]
    return Outcome(judged(*(held for *_, held in pairs)), findings, score_rows(trained, variants), panels)


def _pair(trained: Trained, task: str, labels: int) -> str:
    without, shown = (trained.scores(task, name) for name in (str(labels), f"shown-{labels}"))
    return f"{without.mean():.2f} and {shown.mean():.2f}" if len(without) and len(shown) else "-"


def _draw(axes: Axes, trained: Trained, task: str) -> None:
    budgets = trained.measured.settings["budgets"]
    for colour, start, name in zip(COLOURS, ("", "shown-"), ("comparisons", "with demonstrations"), strict=False):
        found = [trained.scores(task, f"{start}{labels}") for labels in budgets]
        axes.plot(budgets, [scores.mean() for scores in found], "o-", color=colour, label=name)
        for labels, scores in zip(budgets, found, strict=True):
            axes.plot(np.full(len(scores), labels), scores, ".", color=colour, alpha=0.6)
    axes.set_xscale("log", base=2)
    axes.set_xticks(budgets, [str(labels) for labels in budgets])
    finish(axes, f"{task}: score by labels", "score", "labels")
