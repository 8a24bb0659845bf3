"""How many labels are due by when (paper, section 2.2.4 and appendix A)."""

from __future__ import annotations

import math


def labels_due(step: float, *, budget: int, initial: int, constant: float, horizon: float, bins: int = 0) -> int:
    """Labels that should have been asked for by an agent step.

    The rate is proportional to c / (T + c); integrated so that N0 are due at T = 0 and N at the horizon:
    N(T) = N0 + (N - N0) ln(1 + T/c) / ln(1 + T_max/c). With bins, the rate is held at its value at each bin's start.

    Args:
        step: T, agent steps taken.
        budget: N, labels in all.
        initial: N0, labels before training.
        constant: c, in steps.
        horizon: T_max, the run's steps.
        bins: Equal parts of the run with a constant rate each; 0 for a rate that falls continuously.

    Returns:
        Whole labels, from `initial` to `budget`.
    """
    if step >= horizon:
        return budget
    if bins:
        share = _binned(step, constant, horizon, bins)
    else:
        share = math.log1p(step / constant) / math.log1p(horizon / constant)
    return initial + math.floor((budget - initial) * share + 1e-9)


def _binned(step: float, constant: float, horizon: float, bins: int) -> float:
    """Share of the labels after `initial` that are due, with the rate of each bin that of its start."""
    width = horizon / bins
    rates = [constant / (index * width + constant) for index in range(bins)]
    whole, part = divmod(step / width, 1.0)
    return (sum(rates[: int(whole)]) + part * rates[int(whole)]) / sum(rates)
