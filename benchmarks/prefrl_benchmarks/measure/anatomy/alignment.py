"""How a predicted reward lies along games, next to the true reward, as pure functions.

The predicted reward of a game is an array (T,), normalised to mean zero and deviation one over all games together.
Windows and sums never cross the end of a game.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from prefrl.arrays import Array
from prefrl.runs.metrics import correlation

WINDOWS = (10, 25, 100)
"""Lengths of the windows over which rewards are summed, in steps."""
BEFORE, AFTER = 30, 15
"""Steps before and after a reward that count as close to it."""
OFFSETS = range(-BEFORE, AFTER + 1)


class Scored(NamedTuple):
    """A game with its predicted and its true rewards, (T,) each."""

    predicted: Array
    true: Array


def window_sums(rewards: Array, length: int) -> Array:
    """Sum over each window of consecutive steps: (T,) to (T - length + 1,), or (0,) for a shorter game."""
    sums = np.concatenate([[0.0], np.cumsum(rewards, dtype=np.float64)])
    return sums[length:] - sums[:-length] if length < len(sums) else np.zeros(0)


def discounted_sums(rewards: Array, gamma: float) -> Array:
    """Sum the discounted rewards from each step to the end of the game: (T,) to (T,), s_t = r_t + gamma s_{t+1}."""
    sums = np.zeros(len(rewards))
    following = 0.0
    for step in range(len(rewards) - 1, -1, -1):
        sums[step] = following = rewards[step] + gamma * following
    return sums


def agreement(predicted: Array, true: Array) -> float | None:
    """Share of the non-zero true rewards that are on the same side of their mean as their prediction is of its mean.

    The mean counts as below. A predicted reward is known only up to a constant, so that its sign alone says nothing.

    Returns:
        None if all true rewards are zero.
    """
    told = true != 0
    if not told.any():
        return None
    one, other = (values[told] > values.mean() for values in (predicted, true))
    return float((one == other).mean())


def relations(games: Sequence[Scored], gamma: float) -> dict[str, dict[str, Any]]:
    """Relate predicted and true rewards over all games: by step, by window, and as discounted sums.

    Args:
        games: The games.
        gamma: Discount factor.

    Returns:
        For each scale, the number of pairs, their `correlation` (None if one side does not vary) and their `agreement`.
    """
    found = {"step": _related(games, np.asarray)}
    for length in WINDOWS:
        found[f"window {length}"] = _related(games, partial(window_sums, length=length))
    return found | {"discounted": _related(games, partial(discounted_sums, gamma=gamma))}


def _related(games: Sequence[Scored], of: Callable[[Array], Array]) -> dict[str, Any]:
    predicted, true = (np.concatenate([of(rewards) for rewards in each]) for each in zip(*games, strict=True))
    return {
        "pairs": len(true),
        "correlation": correlation(predicted, true),
        "agreement": agreement(predicted, true),
    }


def around(games: Sequence[Scored], sign: int) -> dict[str, Any]:
    """Average the predicted reward around steps whose true reward has a sign.

    Args:
        games: The games.
        sign: 1 or -1.

    Returns:
        The number of such steps, and for each of `OFFSETS` the mean predicted reward at this distance from them (None
        if there is none) and the number of steps in the mean. Steps outside a game are left out.
    """
    totals, counts, events = np.zeros(len(OFFSETS)), np.zeros(len(OFFSETS), np.int64), 0
    for predicted, true in games:
        at = np.flatnonzero(np.sign(true) == sign)
        events += len(at)
        for place, offset in enumerate(OFFSETS):
            steps = at + offset
            steps = steps[(steps >= 0) & (steps < len(true))]
            totals[place] += predicted[steps].sum()
            counts[place] += len(steps)
    means = [float(total / count) if count else None for total, count in zip(totals, counts, strict=True)]
    return {"steps": events, "offsets": list(OFFSETS), "mean": means, "counts": counts.tolist()}


def far(true: Array) -> Array:
    """Return whether each step is at none of `OFFSETS` from any non-zero reward: (T,) to (T,)."""
    close = np.zeros(len(true), bool)
    for step in np.flatnonzero(true):
        close[max(0, step - BEFORE) : step + AFTER + 1] = True
    return ~close


def deviation_far(games: Sequence[Scored]) -> dict[str, Any]:
    """Return the number of steps far from any reward, and the standard deviation of the predicted reward there."""
    values = np.concatenate([game.predicted[far(game.true)] for game in games])
    return {"steps": len(values), "std": float(values.std()) if len(values) else None}


def resolution(outputs: Array) -> list[dict[str, Any]]:
    """Describe each member's outputs: a constant far above the deviation leaves few values in low precision.

    Args:
        outputs: (K, N) outputs before output normalisation.

    Returns:
        The mean, the standard deviation and the number of distinct values (`levels`) of each member.
    """
    return [{"mean": float(one.mean()), "std": float(one.std()), "levels": len(np.unique(one))} for one in outputs]
