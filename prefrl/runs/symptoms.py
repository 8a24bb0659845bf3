"""What tells early that a run does not learn what it was asked to: its reward model guesses, or its labels say nothing.

The limits were set on every run published under `benchmarks/results`, 97 that learn a reward. One guesses: a pendulum,
whose held-out loss was that of a guess from step 20,000 to 470,000 of 500,000. The other 95 on vectors had such a loss
for at most 2.4 % of their steps (three rows), and Pong, whose network reads images, for its first 23 %. The most ties
among the labels of a run that learned: 94 % after 4,000 of 500,000 steps, 73 % after 22,000, 55 % at the end.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prefrl.config import RunConfig
from prefrl.registry import LOSSES
from prefrl.runs.metrics import Row

GUESS_LOSS = math.log(2)
"""Nats: the loss of a model that gives both clips of a pair the same chance, whatever the label."""
_LEARNED = 0.1
"""The share of what can be learned from which on a model does not guess."""
_LONG, _LONG_FOR_IMAGES = 0.1, 0.25
"""Shares of a run's steps after which a guess is no slow start."""
_FEWEST_ROWS = 8
_FEWEST_LABELS, _NOTHING_ELSE = 50, 8
"""Labels (or a smaller budget) of which a share of ties can be told; fewer are enough where all are ties."""
_MOST_TIES, _SETTLED = 0.8, 0.1
"""Ties that are too many, as a share of the labels, once this share of the steps is behind; before, more are usual."""


class Symptom(NamedTuple):
    """One reason not to trust what a run has learned."""

    kind: str
    """`ties`, `guesses` or `guessed`: the same as long as it says the same of a run."""
    line: str
    """What it is, and what helps."""


class Stretch(NamedTuple):
    """Rows of a run's metrics, one after the other."""

    first: int
    """Agent step."""
    last: int
    """Agent step."""
    rows: int
    open: bool
    """Whether its last row is the newest."""


def symptoms(config: RunConfig, rows: Sequence[Row], counts: Mapping[str, int]) -> list[Symptom]:
    """What is wrong with a run as far as its figures tell; nothing for one that trains on the true reward.

    Args:
        config: The run.
        rows: Of its `metrics.csv`.
        counts: Its labels by judgement: `answered` and `equal`.
    """
    if not config.learns_reward or not rows:
        return []
    step = int(rows[-1]["step"] or 0)
    answered, equal = counts["answered"], counts["equal"]
    enough = min(_FEWEST_LABELS, config.queries.labels) if equal < answered else _NOTHING_ELSE
    if answered >= enough and equal / answered > most_ties(step / config.steps):
        return [Symptom("ties", _ties_line(config, answered, equal))]
    if not LOSSES[config.reward.loss].log_loss:
        return []
    ties = equal / answered if answered else 0.0
    found = longest_guess(rows, guess_limit(config.reward.error, ties))
    share = _LONG_FOR_IMAGES if config.images else _LONG
    if found is None or found.rows < _FEWEST_ROWS or found.last - found.first < share * config.steps:
        return []
    return [Symptom("guesses" if found.open else "guessed", _guess_line(found))]


def most_ties(done: float) -> float:
    """The largest share of ties among the labels that is still usual when this share of a run is done."""
    return 1 - (1 - _MOST_TIES) * min(1.0, done / _SETTLED)


def guess_limit(error: float, ties: float) -> float:
    """The loss, in nats, from which on a model is taken to guess.

    A guess loses ln 2 on every label. A model that is sure and right loses -ln(1 - error / 2) on a preference, since
    the loss takes a teacher to answer at random with the probability `error`, and ln 2 on a tie all the same. The limit
    is a tenth of the way from the one to the other.

    Args:
        error: The probability with which the loss takes a teacher to answer at random.
        ties: The share of the labels that are ties.
    """
    return GUESS_LOSS - _LEARNED * (1 - ties) * (GUESS_LOSS + math.log(1 - error / 2))


def longest_guess(rows: Sequence[Row], limit: float) -> Stretch | None:
    """The longest stretch of rows whose held-out loss is at the limit or above; None where there is none.

    Rows without one (of a run that holds nothing out) count by their training loss.
    """
    longest, first = None, None
    for place, row in enumerate(rows):
        if not _loss(row) >= limit:
            first = None
            continue
        first = place if first is None else first
        begun, step = int(rows[first]["step"] or 0), int(row["step"] or 0)
        if longest is None or step - begun >= longest.last - longest.first:
            longest = Stretch(begun, step, place - first + 1, place == len(rows) - 1)
    return longest


def _loss(row: Row) -> float:
    """NaN where there is none."""
    known = (row.get(name) for name in ("validation_loss", "training_loss"))
    return next((loss for loss in known if loss is not None and math.isfinite(loss)), math.nan)


def _ties_line(config: RunConfig, answered: int, equal: int) -> str:
    return (
        f"{equal} of {answered} labels are ties, from which little can be learned: the reward may be the same on most "
        f"clips of {config.queries.segment_length} steps; in a new run, longer clips (--set queries.segment_length=N) "
        "or another teacher may help"
    )


def _guess_line(found: Stretch) -> str:
    when = f"since step {found.first:,}" if found.open else f"from step {found.first:,} to {found.last:,}"
    return (
        f"the reward model predicted held-out labels no better than a guess {when}: look at some clips; in a new run, "
        "longer clips (--set queries.segment_length=N), more labels before training (queries.initial_fraction), more "
        "candidates (queries.candidate_factor) or another reward.error may help"
    )
