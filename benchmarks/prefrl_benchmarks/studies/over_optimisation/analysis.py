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

_FALL = 0.1
"""A fall of the score that is larger than the true reward's agents' by this is over-optimisation."""
_FEWEST, _MOST, _CLEAN, _NOISY = "50", "1400", "500", "noisy-500"


class Climb(NamedTuple):
    """What one fresh agent reaches, at its evaluations: each (T,)."""

    distance: Array
    """Square root of the divergence from the initial policy per step, in nats."""
    predicted: Array
    """Mean predicted reward of a step."""
    true: Array
    """True return of the mean action, as a score between a random policy (0) and the true reward's agent (1)."""

    @property
    def rise(self) -> float:
        """How much the predicted reward rises from where the true score is best to the end."""
        best = int(np.argmax(self.true[1:] + self.true[:-1])) + 1
        return float(self.predicted[-1] - self.predicted[best])


def fall(true: Array) -> float:
    """Return how far the mean of the last two scores is below the best mean of two that follow each other, (T,)."""
    pairs = (true[1:] + true[:-1]) / 2
    return float(pairs.max() - pairs[-1])


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    trained, models = Trained(measured), measured.settings["models"]
    climbs = {
        (task, model): [climb(trained, run, task) for run in trained.runs(task, f"fresh-{model}")]
        for task in trained.tasks
        for model in models
    }
    falls = {case: np.array([fall(each.true) for each in found]) for case, found in climbs.items()}
    usual = {
        task: np.array([fall(_scores(trained, run, task)[1]) for run in trained.runs(task, "true")])
        for task in trained.tasks
    }
    over = {
        model: [task for task in trained.tasks if falls[task, model].mean() - usual[task].mean() > _FALL]
        for model in models
    }
    means = {model: np.concatenate([falls[task, model] for task in trained.tasks]) for model in models}
    noisier = bool(means[_NOISY].mean() > means[_CLEAN].mean())
    findings = (
        f"Mean fall of the true score from its best to the end, by the labels of the reward model: "
        f"{', '.join(f'{model} {spread(means[model])}' for model in models)}. The true reward's agents fall by "
        f"{spread(np.concatenate(list(usual.values())))}, since the best of noisy scores is a lucky one. The fall "
        f"exceeds theirs by {_FALL:g} with {_FEWEST} labels on {', '.join(over[_FEWEST]) or 'no task'}, and with "
        f"{_MOST} on {', '.join(over[_MOST]) or 'no task'}."
    )
    panels = [partial(_draw, task=task, climbs=climbs) for task in trained.tasks]
    verdict = judged(len(over[_FEWEST]) >= 2, not over[_MOST], noisier)
    return Outcome(verdict, findings, _table(trained, climbs), panels)


def climb(trained: Trained, run: Result, task: str) -> Climb:
    """Return what a fresh agent reaches at each of its evaluations."""
    at, true = _scores(trained, run, task)
    kl, predicted = (np.interp(at, *column(run, name).T) for name in ("kl_to_reference", "predicted_reward_mean"))
    return Climb(np.sqrt(np.maximum(kl, 0.0)), predicted, true)


def _scores(trained: Trained, run: Result, task: str) -> tuple[Array, Array]:
    """Return the steps of a run's evaluations, and their scores."""
    at, returns = column(run, "evaluation_return_mean").T
    low, high = trained.random[task], trained.returns(task, "true").mean()
    return at, (returns - low) / (high - low)


def _table(trained: Trained, climbs: dict[tuple[str, str], list[Climb]]) -> list[Row]:
    return [
        {
            "task": task,
            "labels": model,
            "best true score": spread(np.array([(each.true[1:] + each.true[:-1]).max() / 2 for each in found])),
            "at the end": spread(np.array([(each.true[-1] + each.true[-2]) / 2 for each in found])),
            "fall": spread(np.array([fall(each.true) for each in found])),
            "rise of the prediction since": spread(np.array([each.rise for each in found])),
            "√KL at the end": f"{np.mean([each.distance[-1] for each in found]):.1f}",
            "beside its own agent": spread(trained.scores(task, model)),
        }
        for (task, model), found in climbs.items()
    ]


def _draw(axes: Axes, task: str, climbs: dict[tuple[str, str], list[Climb]]) -> None:
    own = [(model, found) for (of, model), found in climbs.items() if of == task]
    for colour, (model, found) in zip(COLOURS, own, strict=False):
        for place, each in enumerate(found):
            name = None if place else f"{model} labels"
            axes.plot(each.distance, each.true, "-", color=colour, alpha=0.7, label=name)
    finish(axes, f"{task}: true score of fresh agents", "score", "√KL from the initial policy")
