"""Compare the means after some rounds with those expected, and imitation with a reward model on cheetah."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from prefrl_benchmarks.report.style import COLOURS, finish
from prefrl_benchmarks.studies.imitation_of_the_best.experiment import RULES
from prefrl_benchmarks.studies.study import Measured, Outcome, Row, judged
from prefrl_benchmarks.studies.trained import Trained, bars, spread

EXPECTED = {"fixed bucket": (1.7, 1.6, 1.9), "rising probability": (2.2, 2.4, 2.6), "top share": (2.8, 3.0, 3.0)}
_TOLERANCE = 0.15
_LEARNERS = ("reward-model", "share", "bucket", "chance")
"""Variants on cheetah: with a reward model, and the three rules of imitation."""


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    means = {rule: [_means(measured, rule, number).mean() for number in measured.settings["rounds"]] for rule in RULES}
    apart = max(
        abs(mean - expected) for rule in RULES for mean, expected in zip(means[rule], EXPECTED[rule], strict=True)
    )
    stalls = means["fixed bucket"][-1] - means["fixed bucket"][0] < _TOLERANCE
    climbs = all(np.all(np.diff(means[rule]) > -0.01) for rule in ("rising probability", "top share"))
    said = "; ".join(f"{rule}: {', '.join(f'{mean:.2f}' for mean in means[rule])}" for rule in RULES)
    rounds = ", ".join(map(str, measured.settings["rounds"]))
    findings = (
        f"Means of {measured.settings['seeds']} seeds after {rounds} rounds: {said}. The largest distance to the "
        f"expected values is {apart:.2f}. Above a fixed threshold, the rating no longer distinguishes samples, and "
        "imitation stops improving; a threshold that moves with the policy keeps it climbing."
    )
    cheetah = Trained(measured)
    below, said_of_cheetah = _on_cheetah(cheetah)
    return Outcome(
        judged(bool(apart <= _TOLERANCE), bool(stalls and climbs), below),
        f"{findings} {said_of_cheetah}",
        _table(measured),
        [
            lambda axes: _draw(axes, measured),
            bars("Cheetah from 700 ratings", "score", {name: cheetah.scores("cheetah", name) for name in _LEARNERS}),
        ],
    )


def _on_cheetah(trained: Trained) -> tuple[bool, str]:
    """Return whether imitation ends below the reward model, and the figures in words."""
    scores = {name: trained.scores("cheetah", name) for name in _LEARNERS}
    said = ", ".join(f"{name} {spread(found)}" for name, found in scores.items())
    return (
        all(bool(scores[name].mean() < scores["reward-model"].mean()) for name in _LEARNERS[1:]),
        f"On cheetah, from the same number of ratings, with a random policy at 0 and the true reward at 1: {said}.",
    )


def _means(measured: Measured, rule: str, number: int) -> np.ndarray:
    rows = [row for row in measured.rows if row["rule"] == rule and int(row["round"]) == number]
    return np.array([float(row["mean"]) for row in rows])


def _table(measured: Measured) -> list[Row]:
    rows: list[Row] = []
    for rule in RULES:
        row: Row = {"rule": rule}
        for number in measured.settings["rounds"]:
            means = _means(measured, rule, number)
            row[f"mean after {number} rounds (deviation over seeds)"] = f"{means.mean():.2f} ({means.std():.2f})"
        rows.append(row)
    return rows


def _draw(axes: Axes, measured: Measured) -> None:
    rounds = measured.settings["rounds"]
    for colour, rule in zip(COLOURS, RULES, strict=False):
        found = np.array([_means(measured, rule, number) for number in rounds])
        axes.plot(rounds, found.mean(axis=1), "o-", color=colour, label=rule)
        axes.fill_between(rounds, found.min(axis=1), found.max(axis=1), color=colour, alpha=0.2)
    axes.axhline(measured.settings["optimum"], color="black", linestyle="--", linewidth=1, label="optimum")
    axes.set_xscale("log")
    axes.set_xticks(rounds, [str(number) for number in rounds])
    axes.set_xticks([], minor=True)
    finish(axes, "Gaussian policy", "mean", "rounds")
