"""Where each policy changes from abstaining to answering, against the threshold."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from prefrl.arrays import Array
from prefrl_benchmarks.report.style import COLOURS, finish
from prefrl_benchmarks.studies.abstaining.experiment import POLICIES, levels, threshold
from prefrl_benchmarks.studies.study import Measured, Outcome, Row, judged

_NEAR = 0.1


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    costs = measured.settings["costs"]
    means = {(cost, name): _abstains(measured, cost, name).mean(axis=0) for cost in costs for name in POLICIES}
    crossings = {cost: _crossing(levels(measured.settings), means[cost, POLICIES[3]]) for cost in costs}
    distance = max(abs(crossings[cost] - threshold(cost)) for cost in costs)
    everywhere = all(means[cost, "clone"].max() < 0.01 for cost in costs)
    share = measured.settings["abstentions"]
    equally = all(np.abs(means[cost, "seeded clone"] - share).max() < 0.03 for cost in costs)
    never = all(means[cost, "RL from the clone"].max() < 0.5 for cost in costs)
    said = ", ".join(f"{crossings[cost]:.2f} (threshold {threshold(cost):.2f}, c = {cost:g})" for cost in costs)
    seeded = np.mean([means[cost, "seeded clone"].mean() for cost in costs])
    most = {name: max(means[cost, name].max() for cost in costs) for name in ("clone", "RL from the clone")}
    findings = (
        f"Reinforcement learning from the seeded clone changes to answering at a probability of being right of {said}. "
        f"The clone abstains with a probability of {most['clone']:.4f} at most, the seeded one with {seeded:.2f} "
        "everywhere. Reinforcement learning from the clone that never abstains reaches "
        f"{most['RL from the clone']:.4f} at most: it never tries."
    )
    panels = [lambda axes, cost=cost: _draw(axes, measured, cost) for cost in costs]
    return Outcome(
        judged(bool(distance <= _NEAR), everywhere, equally, never), findings, _table(means, measured), panels
    )


def _abstains(measured: Measured, cost: float, policy: str) -> Array:
    """Return the probability of abstaining: (seeds, levels)."""
    rows = [row for row in measured.rows if float(row["cost"]) == cost and row["policy"] == policy]
    return np.array([float(row["abstains"]) for row in rows]).reshape(-1, measured.settings["levels"])


def _crossing(right: Array, abstains: Array) -> float:
    """Return the probability of being right at which abstaining and answering are equally likely."""
    return float(np.interp(0.5, abstains[::-1], right[::-1]))


def _table(means: dict[tuple[float, str], Array], measured: Measured) -> list[Row]:
    right = levels(measured.settings)
    rows: list[Row] = []
    for name in POLICIES:
        row: Row = {"policy": name}
        for cost in measured.settings["costs"]:
            chance = means[cost, name]
            value = ((1 - chance) * (right - (1 - right) * cost)).mean()
            best = np.maximum(right - (1 - right) * cost, 0).mean()
            row[f"mean reward, c = {cost:g} (best {best:.2f})"] = f"{value:.2f}"
        rows.append(row)
    return rows


def _draw(axes: Axes, measured: Measured, cost: float) -> None:
    for colour, name in zip(COLOURS, POLICIES, strict=False):
        axes.plot(levels(measured.settings), _abstains(measured, cost, name).mean(axis=0), color=colour, label=name)
    axes.axvline(threshold(cost), color="black", linestyle="--", linewidth=1, label="threshold")
    finish(axes, f"c = {cost:g}", "P(abstain)", "probability of being right")
