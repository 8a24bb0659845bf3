"""Failures and new kinds of failures per 50 labels, of what a fresh agent finds and of normal queries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes

from prefrl.arrays import Array
from prefrl_benchmarks.report.style import COLOURS, Draw, finish
from prefrl_benchmarks.studies.label_what_it_finds.experiment import ARMS
from prefrl_benchmarks.studies.study import Measured, Outcome, Row, judged
from prefrl_benchmarks.studies.trained import Trained, spread

WHAT = ("failures", "kinds")
_PER = 50


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    trained = Trained(measured)
    rate = {
        (task, arm, what): _rates(measured, task, arm, what) for task in trained.tasks for arm in ARMS for what in WHAT
    }
    more = [
        bool(rate[task, "found", "failures"].mean() > rate[task, "usual", "failures"].mean()) for task in trained.tasks
    ]
    same = [bool(rate[task, "found", "kinds"].mean() <= rate[task, "usual", "kinds"].mean()) for task in trained.tasks]
    said = "; ".join(
        f"{task}: failures {spread(rate[task, 'found', 'failures'], 1)} against "
        f"{spread(rate[task, 'usual', 'failures'], 1)}, new kinds {spread(rate[task, 'found', 'kinds'], 1)} against "
        f"{spread(rate[task, 'usual', 'kinds'], 1)}"
        for task in trained.tasks
    )
    findings = f"Per {_PER} labels, what the agent finds against normal queries, means of the seeds: {said}."
    panels = [_panel(measured, task, what) for task in trained.tasks for what in WHAT]
    return Outcome(judged(*more, *same), findings, _table(measured, trained), panels)


def _rates(
    measured: Measured, task: str, arm: str, what: str, chosen: Callable[[Row], bool] = lambda row: True
) -> Array:
    """Return how many per 50 labels, over the chosen rounds of each seed: (N,)."""
    rows = [row for row in measured.rows if (row["task"], row["arm"]) == (task, arm) and chosen(row)]
    seeds = sorted({int(row["seed"]) for row in rows})
    sums = {
        name: [sum(int(row[name]) for row in rows if int(row["seed"]) == seed) for seed in seeds]
        for name in (what, "labels")
    }
    return np.asarray(_PER * np.array(sums[what], float) / np.array(sums["labels"], float))


def _of_round(number: int) -> Callable[[Row], bool]:
    return lambda row: int(row["round"]) == number


def _table(measured: Measured, trained: Trained) -> list[Row]:
    last = measured.settings["rounds"] - 1
    rows: list[Row] = []
    for task in trained.tasks:
        for arm in ARMS:
            row: Row = {"task": task, "arm": arm}
            for number in range(last + 1):
                failures, kinds = (_rates(measured, task, arm, what, _of_round(number)).mean() for what in WHAT)
                row[f"round {number + 1}: failures, new kinds per {_PER}"] = f"{failures:.1f}, {kinds:.1f}"
            ends = [r["return"] for r in measured.rows if (r["task"], r["arm"], int(r["round"])) == (task, arm, last)]
            rows.append(row | {"returns at the end": ", ".join(f"{float(end):,.0f}" for end in ends)})
    return rows


def _panel(measured: Measured, task: str, what: str) -> Draw:
    def draw(axes: Axes) -> None:
        rounds = range(measured.settings["rounds"])
        axes.set_xticks([number + 1 for number in rounds])
        for colour, arm in zip(COLOURS, ARMS, strict=False):
            found = [_rates(measured, task, arm, what, _of_round(number)) for number in rounds]
            axes.plot([number + 1 for number in rounds], [each.mean() for each in found], "o-", color=colour, label=arm)
            for number, rates in zip(rounds, found, strict=True):
                axes.plot(np.full(len(rates), number + 1), rates, ".", color=colour, alpha=0.6)
        finish(
            axes,
            f"{task}: {'failures' if what == 'failures' else 'new kinds of failures'}",
            f"per {_PER} labels",
            "round",
        )

    return draw
