"""Figures of the report. Each `draw_` function fills one pair of axes; see `style`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from prefrl_benchmarks.report.analysis import Aggregate, Group, TaskScore
from prefrl_benchmarks.report.games import GOOD
from prefrl_benchmarks.report.paper import POINTS, paper_scores
from prefrl_benchmarks.report.style import COLOURS, finish
from prefrl_benchmarks.report.tables import Row
from prefrl_benchmarks.run_statistics import Array, interval, iqm, mean, performance_profile

MARKERS = ("o", "s", "^", "v", "P", "X")
_PAPER: dict[str, Any] = {"color": "0.45", "marker": "D", "markerfacecolor": "none", "linestyle": "--", "linewidth": 1}


def draw_budget(axes: Axes, title: str, scores: Sequence[TaskScore]) -> None:
    """Plot the return against the number of labels on one task, with the paper's points.

    Args:
        axes: Axes to fill.
        title: Name of the task.
        scores: Scores of the task's variants, including the true reward.
    """
    learned = [score for score in scores if not score.group.is_baseline]
    _baselines(axes, scores)
    values = [score.returns[:, None] for score in learned]
    _points(axes, [(score.group.labels, score.group.variant) for score in learned], values, mean)
    if (point := POINTS.get(title)) and _by_labels([score.group.labels for score in learned]):
        after = f", {point.steps // 1_000_000} M steps" if point.steps else ""
        axes.plot(list(point.labels), list(point.labels.values()), **_PAPER, label=f"the paper's{after}")
        axes.axhline(point.true, color="0.45", linestyle="--", linewidth=1, label=f"the paper's true reward{after}")
    of = {score.group.of for score in scores}
    finish(axes, title, f"true return, {', '.join(of)}")


def draw_minutes(axes: Axes, title: str, scores: Sequence[TaskScore]) -> None:
    """Plot the return against a labeller's minutes on one task, with a line for each choice of feedback kinds.

    Args:
        axes: Axes to fill.
        title: Name of the task.
        scores: Scores of the task's variants, including the true reward.
    """
    _baselines(axes, scores)
    timed = [score for score in scores if has_minutes(score)]
    for place, kinds in enumerate(dict.fromkeys(score.group.feedback for score in timed)):
        own = sorted((score for score in timed if score.group.feedback == kinds), key=lambda each: each.group.minutes)
        middle = np.array([score.returns.mean() for score in own])
        ends = np.array([interval(mean, score.returns[:, None]) for score in own])
        spread = np.nan_to_num(np.abs(ends.T - middle))
        style: dict[str, Any] = {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        axes.errorbar([score.group.minutes for score in own], middle, spread, capsize=3, label=kinds, **style)
    finish(axes, title, f"true return, {', '.join({score.group.of for score in scores})}", "a labeller's minutes")


def has_minutes(score: TaskScore) -> bool:
    """Whether a variant learns from labels, and it is known how long they take."""
    return not score.group.is_baseline and bool(np.isfinite(score.group.minutes))


def _baselines(axes: Axes, scores: Sequence[TaskScore]) -> None:
    """Plot the returns of the true-reward agent and of the random policy as lines."""
    for score in scores:
        if score.group.is_baseline:
            axes.axhline(score.true_baseline, color="black", label="true reward")
            axes.axhspan(*interval(mean, score.returns[:, None]), color="black", alpha=0.1, linewidth=0)
            axes.axhline(score.random_baseline, color="0.6", linestyle=":", label="random policy")


def draw_scores(axes: Axes, found: Sequence[Aggregate]) -> None:
    """Plot the IQM of the normalised scores against the number of labels, with the paper's points."""
    learned = [each for each in found if each.labels]
    axes.axhline(1, color="black", label="true reward")
    axes.axhline(0, color="0.6", linestyle=":", label="random policy")
    differ = len({each.tasks for each in learned}) > 1
    names = [f"{each.variant} (tasks: {len(each.tasks)})" if differ else each.variant for each in learned]
    labels = [each.labels for each in learned]
    _points(axes, list(zip(labels, names, strict=True)), [each.scores for each in learned], iqm)
    papers = [(each.labels, paper_scores(each.tasks, each.labels)) for each in learned]
    known = sorted((labels, float(iqm(scores))) for labels, scores in papers if scores is not None)
    if known and _by_labels([each.labels for each in learned]):
        axes.plot(*zip(*known, strict=True), **_PAPER, label="the paper's, by its own baselines")
    finish(axes, "all tasks", "IQM of the normalised score")


def draw_gains(axes: Axes, rows: Sequence[Row]) -> None:
    """Plot the gain of each variant over the random policy, relative to the true-reward agent's, game by game.

    Args:
        axes: Axes to fill.
        rows: Rows of `games.game_rows`.
    """
    known = [row for row in rows if row["gain"] is not None]
    games = list(dict.fromkeys(row["task"] for row in known))
    variants = list(dict.fromkeys(row["variant"] for row in known if row["labels"]))
    axes.axhline(1, color="black", label="true reward")
    axes.axhline(GOOD, color="0.6", linestyle="--", linewidth=1)
    axes.axhline(0, color="0.6", linestyle=":", label="random policy")
    for place, variant in enumerate(variants):
        gains = {row["task"]: row["gain"] for row in known if row["variant"] == variant}
        shift = 0.15 * (place - (len(variants) - 1) / 2)
        label = f"{variant} labels" if variant.isdigit() else variant
        at = [games.index(game) + shift for game in gains]
        colour = COLOURS[place % len(COLOURS)]
        axes.plot(
            at, list(gains.values()), marker=MARKERS[place % len(MARKERS)], color=colour, linestyle="", label=label
        )
    axes.set_xticks(range(len(games)), games, rotation=35, ha="right")
    axes.set_xlim(-0.5, len(games) - 0.5)
    finish(axes, "each game", "gain relative to the true reward's")


def draw_curves(axes: Axes, title: str, found: Sequence[Group], variants: Sequence[str]) -> None:
    """Plot the mean true training return of each variant on one task against steps, with intervals.

    Args:
        axes: Axes to fill.
        title: Name of the task.
        found: The task's runs, by variant.
        variants: Variants of all tasks that learn from labels, each of which has a colour.
    """
    for group, colour in zip(found, _colours(found, variants), strict=True):
        steps, curves = group.curve
        if len(steps):
            axes.plot(steps, curves.mean(axis=0), color=colour, label=f"{group.variant} ({len(curves)})", linewidth=1.3)
            axes.fill_between(steps, *group.band, color=colour, alpha=0.15, linewidth=0)
    finish(axes, title, "true return, training", "agent steps")


def draw_profiles(axes: Axes, found: Sequence[Aggregate]) -> None:
    """Plot the share of runs above each normalised score, for each variant."""
    finite = [each.scores[np.isfinite(each.scores)] for each in found]
    highest = max([1.25, *(values.max() for values in finite if values.size)])
    thresholds = np.linspace(0, highest, 200)
    for each, colour in zip(found, _colours(found, learned_variants(found)), strict=True):
        axes.step(
            thresholds, performance_profile(each.scores, thresholds), color=colour, label=each.variant, where="post"
        )
    finish(axes, "performance profiles", "share of runs above", "normalised score")


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
    axes.errorbar(at, middle, spread, color=COLOURS[0], marker="o", linestyle=line, capsize=3, label="from labels")
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


def learned_variants(found: Sequence[Group] | Sequence[Aggregate]) -> list[str]:
    """The variants that learn from labels, each once."""
    return list(dict.fromkeys(each.variant for each in found if each.labels))


def _colours(found: Sequence[Group] | Sequence[Aggregate], variants: Sequence[str]) -> list[str]:
    return [COLOURS[variants.index(each.variant) % len(COLOURS)] if each.labels else "black" for each in found]
