"""Where an agent ends that starts from the reference, with labels before training or online, with and without KL."""

from __future__ import annotations

from functools import partial

from matplotlib.axes import Axes

from prefrl_benchmarks.report.style import COLOURS, finish
from prefrl_benchmarks.studies.study import Measured, Outcome, judged
from prefrl_benchmarks.studies.trained import Trained, column, score_rows, spread

LEARNED = ("online", "online-kl", "offline", "offline-kl")
VARIANTS = ("reference", *LEARNED)


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    trained, margin = Trained(measured, baseline="reference"), measured.settings["margin"]
    below = {
        (task, name): bool(trained.scores(task, name).mean() < 1 - margin) for task in trained.tasks for name in LEARNED
    }
    collapses = [below[task, "offline"] for task in trained.tasks]
    others = [not below[task, name] for task in trained.tasks for name in LEARNED if name != "offline"]
    said = "; ".join(
        f"{task}: {', '.join(f'{name} {spread(trained.scores(task, name))}' for name in LEARNED)}"
        for task in trained.tasks
    )
    findings = (
        "Returns at the end, as scores between a random policy (0) and the reference from which the agents started "
        f"(1): {said}. Below {1 - margin:g} is {_named(below) or 'none'}."
    )
    panels = [partial(_draw, trained=trained, task=task) for task in trained.tasks]
    return Outcome(judged(*collapses, *others), findings, score_rows(trained, VARIANTS), panels)


def _named(below: dict[tuple[str, str], bool]) -> str:
    return ", ".join(f"{name} on {task}" for (task, name), is_below in below.items() if is_below)


def _draw(axes: Axes, trained: Trained, task: str) -> None:
    for colour, name in zip(COLOURS, LEARNED, strict=False):
        curves = [column(run, "true_return_mean") for run in trained.runs(task, name)]
        for place, curve in enumerate(curves):
            axes.plot(*curve.T, color=colour, alpha=0.6, label=name if not place else None)
    finish(axes, f"{task}: return of training episodes", "true return", "agent steps")
