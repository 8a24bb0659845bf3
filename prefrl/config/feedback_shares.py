"""The feedback kinds that a run asks for: `comparison`, `comparison,rating` or `comparison:0.25,rating:0.75`."""

from __future__ import annotations

import math
from collections.abc import Mapping

from prefrl.errors import UsageError


def feedback_shares(text: str) -> dict[str, float]:
    """Parse `--feedback`.

    Args:
        text: Names of feedback kinds, joined by commas, each of which may have a share after a colon (default: 1).

    Returns:
        The share of each kind among the labels; they sum to one.

    Raises:
        UsageError: if a kind has no name or occurs twice, or a share is not a positive number.
    """
    weights: dict[str, float] = {}
    for part in text.split(","):
        name, colon, share = (word.strip() for word in part.partition(":"))
        if not name or name in weights:
            raise UsageError(f"--feedback {text}: write different kinds, joined by commas, e.g. comparison,rating")
        weights[name] = _weight(text, share) if colon else 1.0
    total = sum(weights.values())
    return {name: weight / total for name, weight in weights.items()}


def _weight(text: str, share: str) -> float:
    try:
        weight = float(share)
    except ValueError:
        weight = math.nan
    if not 0 < weight < math.inf:
        raise UsageError(f"--feedback {text}: a share must be a positive number, not {share or 'nothing'}")
    return weight


def losses_by_kind(kinds: Mapping[str, float], losses: str) -> dict[str, str]:
    """Return the name of each kind's loss.

    Args:
        kinds: The feedback kinds, in order.
        losses: `reward.loss`: a name for each kind, joined by commas, or one name for all kinds.

    Raises:
        UsageError: if the numbers differ.
    """
    names = losses.split(",")
    if len(names) == 1:
        names *= len(kinds)
    if len(names) != len(kinds):
        raise UsageError(f"reward.loss={losses} names {len(names)} losses for {len(kinds)} feedback kinds")
    return dict(zip(kinds, names, strict=True))


def allotted(count: int, shares: Mapping[str, float], given: Mapping[str, int]) -> dict[str, int]:
    """Divide queries among the kinds, one by one, each to the kind that is farthest below its share.

    Args:
        count: Number of queries to divide.
        shares: The share of each kind.
        given: Number of earlier queries of each kind.

    Returns:
        The number of the new queries of each kind.
    """
    totals = {name: given.get(name, 0) for name in shares}
    for _ in range(count):
        asked = sum(totals.values()) + 1
        totals[max(shares, key=lambda name: shares[name] * asked - totals[name])] += 1
    return {name: total - given.get(name, 0) for name, total in totals.items()}
