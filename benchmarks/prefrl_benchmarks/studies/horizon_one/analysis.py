"""Which method reaches the end from which marks, and what a horizon of one changes, there and on tasks."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes

from prefrl.arrays import Array
from prefrl_benchmarks.report.style import COLOURS, finish
from prefrl_benchmarks.studies.horizon_one.experiment import MARKS, METHODS, reaches_the_end
from prefrl_benchmarks.studies.study import Measured, Outcome, Row, judged
from prefrl_benchmarks.studies.trained import Trained, bars, spread

_SHORT = ("COACH", "TAMER", "reward, γ = 0")
"""Methods that look no step ahead."""
_ADVANTAGE, _REWARD, _COSTS = MARKS
_VARIANTS = (
    "true",
    "true-one",
    "marks",
    "marks-one",
    "advantage-one",
    "advantage-late-one",
    "marks-read-one",
    "advantage-unread-one",
    "advantage-read-one",
)
_BOUND, _FAILS = 0.8, 0.5
"""Scores from which a task is learned, and below which it is not."""


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    settings = measured.settings
    forward = {(marks, name): _forward(measured, marks, name) for marks in MARKS for name in METHODS}
    reached = {
        case: float(np.mean([reaches_the_end(seed, settings["longest"]) for seed in chances]))
        for case, chances in forward.items()
    }
    start = reaches_the_end(np.full(settings["states"], 0.5), settings["longest"])
    learned = all(reached[_ADVANTAGE, name] > 0.95 for name in METHODS)
    ahead = reached[_REWARD, "reward, γ = 0.99"] > 0.95
    same = max(float(np.abs(forward[_REWARD, name].mean(axis=0)[:-1] - 0.5).max()) for name in _SHORT)
    last = min(float(forward[_REWARD, name].mean(axis=0)[-1]) for name in _SHORT)
    said = "; ".join(
        f"{marks}: {', '.join(f'{name} {reached[marks, name]:.2f}' for name in METHODS)}" for marks in MARKS
    )
    findings = (
        f"Probability of reaching the end ({start:.2f} at the start, means of {settings['seeds']} seeds): {said}. "
        "From the sign of the reward, methods without foresight change no state but the last: their probabilities of "
        f"moving forward stay within {same:.2f} of the initial 0.50 there, and become {last:.2f} or more in the last."
    )
    trained = Trained(measured)
    parts, said_of_tasks = on_tasks(trained)
    panels = [partial(_draw, title=f"Marks: {marks}", marks=marks, forward=forward) for marks in MARKS]
    return Outcome(
        judged(learned, ahead, same < 0.05 < last - 0.5, *parts),
        f"{findings} {said_of_tasks}",
        _table(reached),
        [*panels, *(bars(_short(task), "score", _scores(trained, task), _BOUND) for task in trained.tasks)],
    )


def on_tasks(trained: Trained) -> tuple[list[bool], str]:
    """Return which expectations of the tasks came true, and the scores in words."""
    scores = {_short(task): _scores(trained, task) for task in trained.tasks}
    learns = {
        (task, name): bool(found.mean() >= _BOUND) for task, named in scores.items() for name, found in named.items()
    }
    fails = {
        (task, name): bool(found.mean() < _FAILS) for task, named in scores.items() for name, found in named.items()
    }
    parts = [
        learns["point", "true-one"],
        learns["point", "advantage-one"],
        fails["point", "marks-one"],
        fails["point", "advantage-late-one"],
        fails["reacher", "true-one"],
        fails["reacher", "marks-one"],
        learns["moving-dot", "true-one"],
        fails["moving-dot", "marks-one"],
        fails["moving-dot", "marks-read-one"],
        fails["moving-dot", "advantage-unread-one"],
        learns["moving-dot", "advantage-read-one"],
    ]
    said = "; ".join(
        f"{task}: {', '.join(f'{name} {spread(found)}' for name, found in named.items())}"
        for task, named in scores.items()
    )
    return parts, f"Scores of trained agents, with a random policy at 0 and the true reward at 1: {said}."


def _short(task: str) -> str:
    """Return the name of a task in texts."""
    return task.rpartition(":")[2].partition("-v")[0].lower()


def _scores(trained: Trained, task: str) -> dict[str, Array]:
    """Return the scores of a task by the variants that it has."""
    found = {name: trained.scores(task, name) for name in _VARIANTS}
    return {name: scores for name, scores in found.items() if len(scores)}


def _forward(measured: Measured, marks: str, method: str) -> Array:
    """Return the probabilities of moving forward: (seeds, states)."""
    rows = [row for row in measured.rows if row["marks"] == marks and row["method"] == method]
    return np.array([float(row["forward"]) for row in rows]).reshape(-1, measured.settings["states"])


def _table(reached: dict[tuple[str, str], float]) -> list[Row]:
    return [{"marks": marks, **{name: f"{reached[marks, name]:.2f}" for name in METHODS}} for marks in MARKS]


def _draw(axes: Axes, title: str, marks: str, forward: dict[tuple[str, str], Array]) -> None:
    for place, (colour, name) in enumerate(zip(COLOURS, METHODS, strict=False)):
        means = forward[marks, name].mean(axis=0)  # COACH and γ = 0 weight steps equally: the larger marks show both
        axes.plot(range(len(means)), means, "o-", color=colour, label=name, alpha=0.7, markersize=9 - 2 * place)
    axes.axhline(0.5, color="black", linestyle="--", linewidth=1)
    axes.set_ylim(-0.02, 1.02)
    finish(axes, title, "P(forward)", "state")
