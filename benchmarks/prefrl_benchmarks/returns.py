"""Which return of a run is reported: that of its evaluation, or that of its training episodes. They are never mixed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

Returns = Literal["evaluation", "training"]
KEYS: dict[Returns, str] = {"evaluation": "evaluation_return_mean", "training": "true_return_mean"}
"""Where a run's summary has them; runs of older versions were not evaluated."""

Summary = dict[str, Any]


def return_of(summary: Summary, returns: Returns) -> float | None:
    """One of a run's returns; None where it has none."""
    value: float | None = summary.get(KEYS[returns])
    return value


def common_returns(summaries: Sequence[Summary]) -> Returns:
    """Those of the evaluation where every run that has a return was evaluated, else those of training."""
    known = [summary for summary in summaries if any(return_of(summary, returns) is not None for returns in KEYS)]
    evaluated = [summary for summary in known if return_of(summary, "evaluation") is not None]
    return "evaluation" if known and len(evaluated) == len(known) else "training"


def returns_text(returns: Returns, summaries: Iterable[Summary]) -> str:
    """What the returns are of, in words."""
    if returns == "training":
        return "last 100 training episodes"
    counts = sorted({int(summary.get("evaluation_episodes") or 0) for summary in summaries})
    return f"evaluation: {' or '.join(map(str, counts))} episodes of the mean action"
