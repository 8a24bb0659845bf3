"""Figures of `prefrl bench anatomy`. Each `draw_` function fills one pair of axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from prefrl.arrays import Array
from prefrl_benchmarks.measure.anatomy.alignment import Scored
from prefrl_benchmarks.measure.anatomy.fits import Fit
from prefrl_benchmarks.measure.anatomy.games import Game
from prefrl_benchmarks.report.style import COLOURS, finish, write_figure

_GAME = (11.0, 2.5)
"""Width and height of a game's panel, in inches."""
_LONGEST = 1500
"""Steps of a game that are drawn; more would be unreadable."""
_SMOOTH = 5
"""Steps over which a drawn prediction is averaged."""
_POSITIVE, _NEGATIVE = COLOURS[2], COLOURS[1]
"""Colours of steps with positive and with negative true reward."""


def write_accuracy(path: Path, fits: Sequence[Fit], held_out: int) -> None:
    """Write the figure of the accuracy by number of labels; `path` has no suffix."""
    title = f"{held_out} held-out labels, no ties"
    write_figure(path, [partial(draw_accuracy, title=title, fits=fits)], size=(5.6, 3.8))


def write_games(path: Path, games: Sequence[Game], scored: Mapping[str, Sequence[Scored]]) -> None:
    """Write the figure of one game, with a panel for each reward model; `path` has no suffix."""
    which = most_told(next(iter(scored.values())))
    about = f"game with {games[which].noise:.0%} random actions"
    draws = [partial(draw_game, title=f"{name}: {about}", game=each[which]) for name, each in scored.items()]
    write_figure(path, draws, columns=1, size=_GAME)


def write_around(path: Path, models: Mapping[str, dict[str, Any]]) -> None:
    """Write the figure of the mean predictions around rewards; `path` has no suffix."""
    signs = {"around_positive": "positive true reward", "around_negative": "negative true reward"}
    told = {key: title for key, title in signs.items() if any(found[key]["steps"] for found in models.values())}
    draws = [partial(draw_around, title=title, key=key, models=models) for key, title in told.items()]
    if draws:
        write_figure(path, draws)


def draw_accuracy(axes: Axes, title: str, fits: Sequence[Fit]) -> None:
    """Plot the held-out accuracy by number of labels: of ensembles (with the range over seeds) and single members."""
    axes.axhline(0.5, color="0.6", linestyle=":", label="chance")
    counts = sorted({fit.labels for fit in fits})
    for index, name in enumerate(dict.fromkeys(fit.variant for fit in fits)):
        colour = COLOURS[index % len(COLOURS)]
        cells = [[fit for fit in fits if (fit.variant, fit.labels) == (name, count)] for count in counts]
        known = [(count, cell) for count, cell in zip(counts, cells, strict=True) if cell]
        at = [count for count, _ in known]
        values = [np.array([fit.accuracy for fit in cell]) for _, cell in known]
        middle = np.array([value.mean() for value in values])
        spread = np.abs([[value.min(), value.max()] for value in values] - middle[:, None]).T
        seeds = f"{name} ({len(values[0])} seeds)" if len(values[0]) > 1 else name
        axes.errorbar(at, middle, spread, color=colour, marker="o", capsize=3, label=seeds)
        members = [np.mean([fit.member_accuracy for fit in cell]) for _, cell in known]
        axes.plot(at, members, color=colour, marker="x", linestyle="--", linewidth=1, label=f"{name}, single members")
    axes.set_xscale("log")
    axes.set_xticks(counts, [f"{count:,}" for count in counts])
    axes.minorticks_off()
    finish(axes, title, "held-out accuracy", "labels")


def draw_game(axes: Axes, title: str, game: Scored) -> None:
    """Plot the predicted reward along a game, and mark the steps with a true reward."""
    predicted, true = game.predicted[:_LONGEST], game.true[:_LONGEST]
    kernel = np.ones(min(_SMOOTH, len(predicted)))
    smooth = np.convolve(predicted, kernel, "same") / np.convolve(np.ones(len(predicted)), kernel, "same")
    axes.plot(predicted, color=COLOURS[5], linewidth=0.5, label="predicted, normalised")
    axes.plot(smooth, color=COLOURS[0], linewidth=1.2, label=f"mean of {_SMOOTH} steps")
    if np.isin(true, (-1, 0, 1)).all():
        _mark(axes, true)
    else:
        scale = float(true.std()) or 1.0
        axes.plot((true - true.mean()) / scale, color="black", linewidth=0.8, label="true, normalised")
    axes.margins(x=0.01)
    finish(axes, title, "reward", "step of the game")
    if axes.get_legend():
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1))


def _mark(axes: Axes, true: Array) -> None:
    """Mark the few steps whose true reward is not zero."""
    shown: dict[str, Any] = {"linestyle": "none", "transform": axes.get_xaxis_transform()}
    for sign, name, colour, marker in ((1, "positive", _POSITIVE, "^"), (-1, "negative", _NEGATIVE, "v")):
        steps = np.flatnonzero(np.sign(true) == sign)
        for step in steps.tolist():
            axes.axvline(step, color=colour, linewidth=0.8, alpha=0.7, zorder=0)
        edge = np.full(len(steps), 0.97 if sign > 0 else 0.03)
        axes.plot(steps, edge, color=colour, marker=marker, label=f"{name} true reward ({len(steps)})", **shown)


def draw_around(axes: Axes, title: str, key: str, models: Mapping[str, dict[str, Any]]) -> None:
    """Plot the mean predicted reward at each offset from the steps with a reward."""
    axes.axvline(0, color="black", linewidth=0.8)
    axes.axhline(0, color="0.6", linestyle=":")
    for (name, found), colour in zip(models.items(), COLOURS * len(models), strict=False):
        around = found[key]
        means = [np.nan if mean is None else mean for mean in around["mean"]]
        axes.plot(around["offsets"], means, color=colour, label=f"{name} (n = {around['steps']})")
    finish(axes, title, "mean predicted reward", "steps after the reward")


def most_told(games: Sequence[Scored]) -> int:
    """Return the game that tells most: with the most of the rarer sign of reward, then with the most rewards."""

    def told(which: int) -> tuple[int, int]:
        true = games[which].true[:_LONGEST]
        signs = int((true > 0).sum()), int((true < 0).sum())
        return min(signs), sum(signs)

    return max(range(len(games)), key=told)
