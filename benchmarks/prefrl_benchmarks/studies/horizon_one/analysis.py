"""Which method reaches the end from which marks, and what a horizon of one changes."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes

from prefrl.arrays import Array
from prefrl_benchmarks.report.style import COLOURS, finish
from prefrl_benchmarks.studies.horizon_one.experiment import MARKS, METHODS, reaches_the_end
from prefrl_benchmarks.studies.study import Measured, Outcome, Row, judged

_SHORT = ("COACH", "TAMER", "reward, γ = 0")
"""Methods that look no step ahead."""
_ADVANTAGE, _REWARD, _COSTS = MARKS


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
    panels = [partial(_draw, title=f"Marks: {marks}", marks=marks, forward=forward) for marks in MARKS]
    return Outcome(judged(learned, ahead, same < 0.05 < last - 0.5), findings, _table(reached), panels)


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
