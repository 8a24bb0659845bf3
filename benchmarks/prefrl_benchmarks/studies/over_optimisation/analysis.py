"""Predicted and true return of fresh agents on frozen reward models, against their distance from the initial policy."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from prefrl.arrays import Array
from prefrl_benchmarks.report.style import COLOURS, finish
from prefrl_benchmarks.results import Result
from prefrl_benchmarks.studies.study import Measured, Outcome, Row, judged
from prefrl_benchmarks.studies.trained import Trained, column, spread


class Climb(NamedTuple):
    """What one fresh agent reaches, at its evaluations: each (T,)."""

    distance: Array
    """Square root of the divergence from the initial policy per step, in nats."""
    predicted: Array
    """Mean predicted reward of a step."""
    true: Array
    """True return of the mean action, as a score between a random policy (0) and the true reward's agent (1)."""

    @property
    def fall(self) -> float:
        """How far the mean of the last two scores is below the best mean of two that follow each other."""
        pairs = (self.true[1:] + self.true[:-1]) / 2
        return float(pairs.max() - pairs[-1])

    @property
    def rise(self) -> float:
        """How much the predicted reward rises from where the true score is best to the end."""
        best = int(np.argmax(self.true[1:] + self.true[:-1])) + 1
        return float(self.predicted[-1] - self.predicted[best])


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    trained, settings = Trained(measured), measured.settings
    climbs = {
        (task, labels): [climb(trained, run, task) for run in trained.runs(task, f"fresh-{labels}")]
        for task in trained.tasks
        for labels in settings["budgets"]
    }
    falls = {case: np.array([each.fall for each in found]) for case, found in climbs.items() if found}
    fewest, most = min(settings["budgets"]), max(settings["budgets"])
    over = {case: bool(fall.mean() > settings["fall"]) for case, fall in falls.items()}
    few = [task for task in trained.tasks if over.get((task, fewest))]
    many = [task for task in trained.tasks if over.get((task, most))]
    means = ", ".join(
        f"{labels} labels {spread(np.concatenate([falls[case] for case in falls if case[1] == labels]))}"
        for labels in settings["budgets"]
        if any(case[1] == labels for case in falls)
    )
    findings = (
        f"Mean fall of the true score from its best to the end: {means}. It exceeds {settings['fall']:g} with {fewest} "
        f"labels on {', '.join(few) or 'no task'}, and with {most} on {', '.join(many) or 'no task'}."
    )
    panels = [partial(_draw, task=task, climbs=climbs) for task in trained.tasks]
    return Outcome(judged(len(few) >= 2, not many), findings, _table(trained, climbs), panels)


def climb(trained: Trained, run: Result, task: str) -> Climb:
    """Return what a fresh agent reaches at each of its evaluations."""
    at, true = column(run, "evaluation_return_mean").T
    kl, predicted = (np.interp(at, *column(run, name).T) for name in ("kl_to_reference", "predicted_reward_mean"))
    low, high = trained.random[task], trained.returns(task, "true").mean()
    return Climb(np.sqrt(np.maximum(kl, 0.0)), predicted, (true - low) / (high - low))


def _table(trained: Trained, climbs: dict[tuple[str, int], list[Climb]]) -> list[Row]:
    return [
        {
            "task": task,
            "labels": labels,
            "best true score": spread(np.array([(each.true[1:] + each.true[:-1]).max() / 2 for each in found])),
            "at the end": spread(np.array([(each.true[-1] + each.true[-2]) / 2 for each in found])),
            "fall": spread(np.array([each.fall for each in found])),
            "rise of the prediction since": spread(np.array([each.rise for each in found])),
            "√KL at the end": f"{np.mean([each.distance[-1] for each in found]):.1f}",
            "beside its own agent": spread(trained.scores(task, str(labels))),
        }
        for (task, labels), found in climbs.items()
        if found
    ]


def _draw(axes: Axes, task: str, climbs: dict[tuple[str, int], list[Climb]]) -> None:
    for colour, ((_, labels), found) in zip(COLOURS, ((k, v) for k, v in climbs.items() if k[0] == task), strict=False):
        for place, each in enumerate(found):
            name = None if place else f"{labels} labels"
            axes.plot(each.distance, each.true, "-", color=colour, alpha=0.7, label=name)
    finish(axes, f"{task}: true score of fresh agents", "score", "√KL from the initial policy")
