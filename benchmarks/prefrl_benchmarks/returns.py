"""Choose which returns are reported: evaluation or training returns, never a mixture of both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

Returns = Literal["evaluation", "training"]
KEYS: dict[Returns, str] = {"evaluation": "evaluation_return_mean", "training": "true_return_mean"}
"""Field of `summary.json` for each kind; runs of older versions have no evaluation."""

SUCCESS_KEYS: dict[Returns, str] = {"evaluation": "evaluation_success_rate", "training": "success_rate"}
"""Field of `summary.json` for the share of successful episodes; tasks without successes have none."""

Summary = dict[str, Any]


def return_of(summary: Summary, returns: Returns) -> float | None:
    """A run's return of one kind; None if it has none."""
    value: float | None = summary.get(KEYS[returns])
    return value


def common_returns(summaries: Sequence[Summary]) -> Returns:
    """Evaluation returns if every run with a return was evaluated, training returns otherwise."""
    known = [summary for summary in summaries if any(return_of(summary, returns) is not None for returns in KEYS)]
    evaluated = [summary for summary in known if return_of(summary, "evaluation") is not None]
    return "evaluation" if known and len(evaluated) == len(known) else "training"


def returns_text(returns: Returns, summaries: Iterable[Summary]) -> str:
    """Description of the returns."""
    if returns == "training":
        return "last 100 training episodes"
    counts = sorted({int(summary.get("evaluation_episodes") or 0) for summary in summaries})
    return f"evaluation: {' or '.join(map(str, counts))} episodes of the mean action"
