"""Compare the offline values with those expected, and the order of the methods online."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from prefrl_benchmarks.report.style import COLOURS, finish
from prefrl_benchmarks.studies.graph.experiment import OFFLINE, ONLINE
from prefrl_benchmarks.studies.study import Measured, Outcome, Row, judged

EXPECTED = {
    "Q-learning": 1.0,
    "REINFORCE": 0.5,
    "imitation of the best two": 0.5,
    "imitation of the best one": 0.75,
    "actor-critic, values of the policy": 1.0,
}
"""Values offline. The actor-critic with the batch's values is judged by its indifference at s1."""
EPISODES = {"Q-learning": 1, "imitation of the best": 94, "REINFORCE": 157}
"""Median episodes online."""
_TOLERANCE = 0.02


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    offline = {row["method"]: row for row in measured.rows if row["part"] == "offline"}
    medians = {name: np.median(_episodes(measured, name)) for name in ONLINE}
    exact = all(abs(float(offline[name]["value"]) - value) <= _TOLERANCE for name, value in EXPECTED.items())
    indifferent = abs(float(offline["actor-critic, values of the batch"]["to s2"]) - 0.5) <= _TOLERANCE
    order = medians["Q-learning"] < medians["imitation of the best"] < medians["REINFORCE"]
    near = all(0.5 <= medians[name] / count <= 2 for name, count in EPISODES.items())
    online = ", ".join(f"{name} {median:.0f}" for name, median in medians.items())
    right = exact and indifferent
    findings = (
        f"Offline, every value is {'' if right else 'not '}within {_TOLERANCE} of the expected one. Median episodes "
        f"online to a value above {measured.settings['good']}, over {measured.settings['seeds']} seeds: {online}. Only "
        "methods that assign credit to states join the first step of the worst episode to the last one of the best."
    )
    return Outcome(
        judged(right, bool(order and near)),
        findings,
        _table(offline, measured),
        [lambda axes: _draw(axes, measured)],
    )


def _episodes(measured: Measured, method: str) -> list[float]:
    return [float(row["value"]) for row in measured.rows if row["part"] == "online" and row["method"] == method]


def _table(offline: dict[str, Row], measured: Measured) -> list[Row]:
    rows: list[Row] = [
        {
            "method": name,
            "value offline": f"{float(offline[name]['value']):.2f}",
            "P(s1→s2) offline": f"{float(offline[name]['to s2']):.2f}",
            "episodes online (5th to 95th percentile)": "",
        }
        for name in OFFLINE
    ]
    for name in ONLINE:
        low, middle, high = np.percentile(_episodes(measured, name), [5, 50, 95])
        shown = f"{middle:.0f} ({low:.0f} to {high:.0f})"
        same = [row for row in rows if row["method"] == name]
        if not same:
            same = [dict.fromkeys(rows[0], "") | {"method": name}]
            rows += same
        same[0]["episodes online (5th to 95th percentile)"] = shown
    return rows


def _draw(axes: Axes, measured: Measured) -> None:
    for colour, name in zip(COLOURS, ONLINE, strict=False):
        episodes = np.sort(_episodes(measured, name))
        axes.step(episodes, np.arange(1, len(episodes) + 1) / len(episodes), where="post", color=colour, label=name)
    axes.set_xscale("log")
    finish(axes, "Online", "share of seeds with a good policy", "episodes")
