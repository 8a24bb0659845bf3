"""Scores of the learners by number of labels, with both teachers."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

import numpy as np
from matplotlib.axes import Axes

from prefrl.arrays import Array
from prefrl_benchmarks.report.style import COLOURS, finish
from prefrl_benchmarks.studies.negative_feedback.experiment import LEARNERS, TEACHERS
from prefrl_benchmarks.studies.study import Measured, Outcome, Row, judged


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    counts, at = measured.settings["labels"], measured.settings["withheld_at"]
    gaps = [_scores(measured, count, "open", "both") - _scores(measured, count, "open", "good") for count in counts]
    better = all(gap.mean() - 1.96 * gap.std() / np.sqrt(len(gap)) > 0 for gap in gaps)
    losses = {
        learner: _scores(measured, at, "open", learner) - _scores(measured, at, "withholding", learner)
        for learner in LEARNERS
    }
    score = _scores(measured, at, "open", "good").mean()
    fooled = losses["good"].mean() > 0.5 * score and losses["both"].mean() < 0.5 * losses["good"].mean()
    bad = [_scores(measured, count, "open", "bad").mean() for count in counts]
    good = [_scores(measured, count, "open", "good").mean() for count in counts]
    findings = (
        f"Scores (0 random, 1 best) from {_listed(counts)} labels: both kinds minus the good ones alone "
        f"{_listed(gap.mean() for gap in gaps)}; the good ones {_listed(good)}; the bad ones, of which there are more, "
        f"{_listed(bad)}. If the good labels near pits are withheld, {at} labels are worth "
        f"{losses['good'].mean():.2f} less to the learner of good labels, and {losses['both'].mean():.2f} less to the "
        "one of both."
    )
    panels = [partial(_draw, measured=measured, teacher=teacher) for teacher in TEACHERS]
    return Outcome(judged(better, bool(fooled)), findings, _table(measured), panels)


def _listed(values: Iterable[float]) -> str:
    return ", ".join(str(value) if isinstance(value, int) else f"{value:.2f}" for value in values)


def _scores(measured: Measured, count: int, teacher: str, learner: str) -> Array:
    return np.array(
        [
            float(row["score"])
            for row in measured.rows
            if int(row["labels"]) == count and row["teacher"] == teacher and row["learner"] == learner
        ]
    )


def _table(measured: Measured) -> list[Row]:
    return [
        {"teacher": teacher, "learner": learner}
        | {
            f"{count} labels": f"{_scores(measured, count, teacher, learner).mean():.2f}"
            for count in measured.settings["labels"]
        }
        for teacher in TEACHERS
        for learner in LEARNERS
    ]


def _draw(axes: Axes, measured: Measured, teacher: str) -> None:
    counts = measured.settings["labels"]
    for colour, learner in zip(COLOURS, LEARNERS, strict=False):
        scores = np.array([_scores(measured, count, teacher, learner) for count in counts])
        error = 1.96 * scores.std(axis=1) / np.sqrt(scores.shape[1])
        axes.plot(counts, scores.mean(axis=1), "o-", color=colour, label=learner)
        axes.fill_between(counts, scores.mean(axis=1) - error, scores.mean(axis=1) + error, color=colour, alpha=0.2)
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xticks([], minor=True)
    finish(axes, f"Teacher: {teacher}", "score", "labels")
