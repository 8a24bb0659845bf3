"""When labels are due: at a falling rate (paper, section 2.2.4 and appendix A), or in sessions (PEBBLE, B-Pref)."""

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


def labels_due_in_sessions(step: float, *, budget: int, initial: int, steps: int, labels: int, horizon: float) -> int:
    """Return the number of labels due at an agent step if they are asked in sessions (PEBBLE: Lee et al., 2021).

    N(T) = min(N, N0 + n floor(T / s)), until the budget N is spent. At the horizon, all labels are due, as with the
    continuous schedule.

    Args:
        step: T, agent steps taken since the first session.
        budget: N, the total number of labels.
        initial: N0, the number of labels of the first session, before training.
        steps: s, agent steps from one session to the next.
        labels: n, the number of labels of each later session.
        horizon: Agent steps from the first session to the end of the run.

    Returns:
        An integer from `initial` to `budget`.
    """
    return budget if step >= horizon else min(budget, initial + labels * int(step // steps))


def _binned(step: float, constant: float, horizon: float, bins: int) -> float:
    """Return the share of the labels after `initial` that are due, with a constant rate in each bin."""
    width = horizon / bins
    rates = [constant / (index * width + constant) for index in range(bins)]
    whole, part = divmod(step / width, 1.0)
    return (sum(rates[: int(whole)]) + part * rates[int(whole)]) / sum(rates)
