"""The label schedule (paper, section 2.2.4 and appendix A)."""

from __future__ import annotations

import math


def labels_due(step: float, *, budget: int, initial: int, constant: float, horizon: float, bins: int = 0) -> int:
    """Return the number of labels due at an agent step.

    The rate of labels is proportional to c / (T + c). Integrated, with N0 labels due at T = 0 and N at the horizon:
    N(T) = N0 + (N - N0) ln(1 + T/c) / ln(1 + T_max/c). With bins, the rate in each bin is that at its start.

    Args:
        step: T, agent steps taken.
        budget: N, the total number of labels.
        initial: N0, the number of labels before training.
        constant: c, in steps.
        horizon: T_max, the total number of agent steps.
        bins: Number of equal parts of the run with a constant rate each; 0 for a continuously falling rate.

    Returns:
        An integer from `initial` to `budget`.
    """
    if step >= horizon:
        return budget
    if bins:
        share = _binned(step, constant, horizon, bins)
    else:
        share = math.log1p(step / constant) / math.log1p(horizon / constant)
    return initial + math.floor((budget - initial) * share + 1e-9)


def _binned(step: float, constant: float, horizon: float, bins: int) -> float:
    """Return the share of the labels after `initial` that are due, with a constant rate in each bin."""
    width = horizon / bins
    rates = [constant / (index * width + constant) for index in range(bins)]
    whole, part = divmod(step / width, 1.0)
    return (sum(rates[: int(whole)]) + part * rates[int(whole)]) / sum(rates)
