"""The paper's results, which reports show for comparison (Christiano et al., 2017, figures 2 and 3).

Values are read off the figures: the median of the last few percent of each curve, after 20 M or 50 M steps. They are
accurate to one or two percent of the axis range. The paper's reward functions differ from ours in details, so compare
the shapes of curves rather than absolute values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefrl_benchmarks.run_statistics import Array, normalised

ATARI_STEPS = 50_000_000
"""Agent steps of the paper's games."""


@dataclass(frozen=True)
class PaperPoint:
    """One task of the paper's figure 2 or 3."""

    true: float
    """Return of the true-reward agent."""
    labels: dict[int, float]
    """Return for each number of synthetic labels."""
    start: float
    """Start of the curves (MuJoCo), or the return of a random policy from the literature (Atari)."""
    steps: int | None = None
    """Agent steps, where they are many more than here, so that figures say them."""

    def scores(self) -> dict[int, float]:
        """Scores normalised between start and true reward, for each number of labels."""
        values = normalised([list(self.labels.values())], [self.start], [self.true])[0]
        return dict(zip(self.labels, map(float, values), strict=True))


def _mujoco(true: float, *returns: float, start: float) -> PaperPoint:
    return PaperPoint(true, dict(zip((1400, 700, 350), returns, strict=True)), start)


def _atari(true: float, *returns: float, start: float) -> PaperPoint:
    return PaperPoint(true, dict(zip((10_000, 5600, 3300), returns, strict=True)), start, ATARI_STEPS)


POINTS = {
    "walker": _mujoco(5220, 5900, 4860, 3410, start=-750),
    "hopper": _mujoco(4180, 4420, 4480, 3460, start=250),
    "swimmer": _mujoco(173, 175, 166, 105, start=0),
    "cheetah": _mujoco(4200, 5310, 4620, 3730, start=-80),
    "ant": _mujoco(50, 90, -200, -170, start=-860),
    "reacher": _mujoco(-1.8, -2.4, -3.1, -6.3, start=-10),
    "double-pendulum": _mujoco(7420, 8600, 7990, 940, start=-8500),
    "pendulum": _mujoco(1372, 780, 1372, 1372, start=-1760),
    # The curves of beamrider (about 8,000) and breakout (10 to 17) overlap in the figure.
    "beamrider": _atari(8000, 11_200, 8000, 10_000, start=363.9),
    "breakout": _atari(640, 72, 13.5, 10, start=1.7),
    "pong": _atari(20.7, 20.3, 20.9, 20.7, start=-20.7),
    "qbert": _atari(16_000, 11_300, 12_300, 4500, start=163.9),
    "seaquest": _atari(1785, 2310, 1160, 850, start=68.4),
    "spaceinvaders": _atari(2790, 955, 890, 810, start=148.0),
}
"""Enduro is omitted: only the runs with human labels got above zero, so scores cannot be normalised."""


def paper_scores(tasks: tuple[str, ...], labels: int) -> Array | None:
    """The paper's normalised scores for a number of labels, shape (1, M); None if a task is missing."""
    points = [POINTS[task].scores().get(labels) if task in POINTS else None for task in tasks]
    return None if None in points or not points else np.array([points], dtype=float)
