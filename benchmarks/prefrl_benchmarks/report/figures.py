"""Figures of the report. Each `draw_` function fills one pair of axes, so panels can be combined or shown alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from prefrl_benchmarks.report.analysis import Aggregate, Group, TaskScore
from prefrl_benchmarks.report.paper import POINTS, paper_scores
from prefrl_benchmarks.run_statistics import Array, interval, iqm, mean, performance_profile

Draw = Callable[[Axes], None]

_PANEL = (4.2, 3.1)
"""Width and height in inches; readable on a phone."""
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31", "#7f3fbf")
"""Colour-blind-safe palette (Okabe and Ito); the true reward is black."""
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "prefrl",
}
_PAPER: dict[str, Any] = {"color": "0.45", "marker": "D", "markerfacecolor": "none", "linestyle": "--", "linewidth": 1}


def panel(draw: Draw) -> bytes:
    """Render one panel as SVG."""
    return _render(_figure([draw], 1), "svg")


def write_figure(path: Path, draws: Sequence[Draw], columns: int = 4) -> None:
    """Write panels to one figure as SVG and PNG; `path` has no suffix."""
    figure = _figure(draws, min(columns, len(draws)))
    for kind in ("svg", "png"):
        path.with_suffix(f".{kind}").write_bytes(_render(figure, kind))


def draw_budget(axes: Axes, title: str, scores: Sequence[TaskScore]) -> None:
    """Plot the return against the number of labels on one task, with the paper's points.

    Args:
        axes: Axes to fill.
        title: Name of the task.
        scores: Scores of the task's variants, including the true reward.
    """
    learned = [score for score in scores if not score.group.is_baseline]
    for score in scores:
        if score.group.is_baseline:
            axes.axhline(score.true_baseline, color="black", label="true reward")
            axes.axhspan(*interval(mean, score.returns[:, None]), color="black", alpha=0.1, linewidth=0)
            axes.axhline(score.random_baseline, color="0.6", linestyle=":", label="random policy")
    values = [score.returns[:, None] for score in learned]
    _points(axes, [(score.group.labels, score.group.variant) for score in learned], values, mean)
    if (point := POINTS.get(title)) and _by_labels([score.group.labels for score in learned]):
        axes.plot(list(point.labels), list(point.labels.values()), **_PAPER, label="the paper's")
        axes.axhline(point.true, color="0.45", linestyle="--", linewidth=1, label="the paper's true reward")
    of = {score.group.of for score in scores}
    _finish(axes, title, f"true return, {', '.join(of)}")


def draw_scores(axes: Axes, found: Sequence[Aggregate]) -> None:
    """Plot the IQM of the normalised scores against the number of labels, with the paper's points."""
    learned = [each for each in found if each.labels]
    axes.axhline(1, color="black", label="true reward")
    axes.axhline(0, color="0.6", linestyle=":", label="random policy")
    _points(axes, [(each.labels, each.variant) for each in learned], [each.scores for each in learned], iqm)
    papers = [(each.labels, paper_scores(each.tasks, each.labels)) for each in learned]
    known = sorted((labels, float(iqm(scores))) for labels, scores in papers if scores is not None)
    if known and _by_labels([each.labels for each in learned]):
        axes.plot(*zip(*known, strict=True), **_PAPER, label="the paper's, by its own baselines")
    _finish(axes, "all tasks", "IQM of the normalised score")


def draw_curves(axes: Axes, title: str, found: Sequence[Group]) -> None:
    """Plot the mean true training return of each variant on one task against steps, with intervals."""
    for group, colour in zip(found, _colours(found), strict=True):
        steps, curves = group.curve
        if len(steps):
            axes.plot(steps, curves.mean(axis=0), color=colour, label=f"{group.variant} ({len(curves)})", linewidth=1.3)
            axes.fill_between(steps, *group.band, color=colour, alpha=0.15, linewidth=0)
    _finish(axes, title, "true return, training", "agent steps")


def draw_profiles(axes: Axes, found: Sequence[Aggregate]) -> None:
    """Plot the share of runs above each normalised score, for each variant."""
    finite = [each.scores[np.isfinite(each.scores)] for each in found]
    highest = max([1.25, *(values.max() for values in finite if values.size)])
    thresholds = np.linspace(0, highest, 200)
    for each, colour in zip(found, _colours(found), strict=True):
        axes.step(
            thresholds, performance_profile(each.scores, thresholds), color=colour, label=each.variant, where="post"
        )
    _finish(axes, "performance profiles", "share of runs above", "normalised score")


def _points(
    axes: Axes, names: Sequence[tuple[int, str]], values: Sequence[Array], statistic: Callable[[Array], Array]
) -> None:
    """Plot one point with its interval per variant, connected if the variants are label budgets."""
    by_labels = _by_labels([labels for labels, _ in names])
    order = sorted(range(len(names)), key=lambda index: names[index][0] if by_labels else index)
    at = [names[index][0] if by_labels else index for index in order]
    middle = np.array([float(statistic(values[index])) for index in order])
    ends = np.array([interval(statistic, values[index]) for index in order]).reshape(-1, 2)
    spread = np.nan_to_num(np.abs(ends.T - middle))
    line = "-" if by_labels else "none"
    axes.errorbar(at, middle, spread, color=_COLOURS[0], marker="o", linestyle=line, capsize=3, label="from labels")
    if by_labels:
        axes.set_xscale("log")
        axes.set_xticks(at, [f"{labels:,}" for labels in at])
        axes.minorticks_off()
        axes.set_xlabel("labels")
    else:
        axes.set_xticks(at, [names[index][1] for index in order], rotation=35, ha="right")


def _by_labels(labels: Sequence[int]) -> bool:
    """Whether the variants differ in their label budgets, which then form the x axis."""
    return len(labels) > 1 and len(set(labels)) == len(labels)


def _colours(found: Sequence[Group] | Sequence[Aggregate]) -> list[str]:
    learned = [each.variant for each in found if each.labels]
    return [_COLOURS[learned.index(each.variant) % len(_COLOURS)] if each.labels else "black" for each in found]


def _finish(axes: Axes, title: str, vertical: str, horizontal: str | None = None) -> None:
    axes.set_title(title, fontsize=10, loc="left", fontweight="bold")
    axes.set_ylabel(vertical)
    if horizontal:
        axes.set_xlabel(horizontal)
        if horizontal == "agent steps":
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc="best")


def _figure(draws: Sequence[Draw], columns: int) -> Figure:
    rows = math.ceil(len(draws) / columns)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows), layout="constrained")
        for index, draw in enumerate(draws):
            draw(figure.add_subplot(rows, columns, index + 1))
    return figure


def _render(figure: Figure, kind: str) -> bytes:
    stream = BytesIO()
    metadata = {"Date": None} if kind == "svg" else {}
    with mpl.rc_context(_STYLE):
        figure.savefig(stream, format=kind, dpi=150, metadata=metadata)
    return stream.getvalue()
