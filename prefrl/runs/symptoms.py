"""Detect runs that do not learn the intended reward: the reward model guesses, or nearly all labels are ties.

The limits are based on the 121 published runs that learn a reward (`benchmarks/results`). Two of them guess: the
held-out loss of a pendulum was that of a guess from step 20,000 to 470,000 of 500,000, and the training loss of a run
with the recipe qpa, which holds nothing out, for a fifth of its steps. The other 118 runs on vectors had such a loss
for at most 6.6 % of their steps (nine rows), those with the recipes pebble and qpa for at most 15 % (seven rows of a
training loss); and Pong, which uses images, for its first 23 %. The highest
share of ties in a run on vectors that learned was 94 % after 4,000 of 500,000 steps, 73 % after 22,000 and 55 % at the
end. Pong was learned from 5,500 labels of which 85 % are ties; its reward model did not guess.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from prefrl.config import RunConfig
from prefrl.registry import LOSSES
from prefrl.runs.metrics import Row

GUESS_LOSS = math.log(2)
"""Loss in nats of a model that always predicts 0.5."""
_LEARNED = 0.1
"""A model guesses if it achieves less than this share of the possible reduction of the loss."""
_LONG, _LONG_FOR_IMAGES = 0.1, 0.25
"""Share of a run's steps after which guessing is no longer a slow start."""
_FEWEST_ROWS = 8
_FEWEST_LABELS, _NOTHING_ELSE = 50, 8
"""Minimum number of labels for judging the share of ties: in general (or the whole budget), and if all are ties."""
_MOST_TIES, _SETTLED = 0.8, 0.1
"""Limit for the share of ties while the model guesses, from this share of the steps on; before, the limit is higher."""


class Symptom(NamedTuple):
    """A sign that a run does not learn the intended reward."""

    kind: str
    """`ties`, `guesses` (now) or `guessed` (earlier)."""
    line: str
    """A warning for the user, with possible remedies."""


class Stretch(NamedTuple):
    """Consecutive rows of a run's metrics."""

    first: int
    """Agent step of the first row."""
    last: int
    """Agent step of the last row."""
    rows: int
    """Number of rows."""
    open: bool
    """Whether the last row is the newest of the run."""


def symptoms(config: RunConfig, rows: Sequence[Row], counts: Mapping[str, int]) -> list[Symptom]:
    """Return the symptoms of a run; none if it trains on the true reward.

    Args:
        config: The run.
        rows: The rows of its `metrics.csv`.
        counts: Its labels by judgement; `answered` and `equal` are used.
    """
    if not config.learns_reward or not rows:
        return []
    step = int(rows[-1]["step"] or 0)
    answered, equal = counts["answered"], counts["equal"]
    enough = min(_FEWEST_LABELS, config.queries.labels) if equal < answered else _NOTHING_ELSE
    ties = equal / answered if answered else 0.0
    nats = all(LOSSES[loss].log_loss for loss in config.losses.values())
    limit = guess_limit(config.reward.error, ties)
    learned = nats and equal < answered and _loss(rows[-1]) < limit
    if answered >= enough and ties > most_ties(step / config.steps) and not learned:
        return [Symptom("ties", _ties_line(config, answered, equal))]
    if not nats:
        return []
    found = longest_guess(rows, limit)
    share = _LONG_FOR_IMAGES if config.images else _LONG
    if found is None or found.rows < _FEWEST_ROWS or found.last - found.first < share * config.steps:
        return []
    return [Symptom("guesses" if found.open else "guessed", _guess_line(config, found))]


def most_ties(done: float) -> float:
    """Return the limit for the share of ties.

    Args:
        done: The share of the run's steps that are done.
    """
    return 1 - (1 - _MOST_TIES) * min(1.0, done / _SETTLED)


def guess_limit(error: float, ties: float) -> float:
    """Return the loss, in nats, above which a model is considered to guess.

    A guess has the loss ln 2 on every label. A perfect model has the loss -ln(1 - error / 2) on a preference, because
    the loss assumes random answers with probability `error`, and ln 2 on a tie. The limit is a tenth of the way from
    the guess to the perfect model.

    Args:
        error: The probability of a random answer that the loss assumes.
        ties: The share of ties among the labels.
    """
    return GUESS_LOSS - _LEARNED * (1 - ties) * (GUESS_LOSS + math.log(1 - error / 2))


def longest_guess(rows: Sequence[Row], limit: float) -> Stretch | None:
    """Return the longest stretch of rows whose validation loss is at or above the limit, or None.

    The training loss is used for rows without a validation loss.
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
    """Return the validation loss, else the training loss, else NaN."""
    known = (row.get(name) for name in ("validation_loss", "training_loss"))
    return next((loss for loss in known if loss is not None and math.isfinite(loss)), math.nan)


def _ties_line(config: RunConfig, answered: int, equal: int) -> str:
    return (
        f"{equal} of {answered} labels are ties, from which little can be learned: the reward may be the same on most "
        f"clips of {config.queries.segment_length} steps; in a new run, longer clips (--set queries.segment_length=N) "
        "or another teacher may help"
    )


def _guess_line(config: RunConfig, found: Stretch) -> str:
    seen = "held-out labels" if config.reward.bootstrap else "its labels"
    when = f"since step {found.first:,}" if found.open else f"from step {found.first:,} to {found.last:,}"
    return (
        f"the reward model predicted {seen} no better than a guess {when}: look at some clips; in a new run, "
        "longer clips (--set queries.segment_length=N), more labels before training (queries.initial_fraction), more "
        "candidates (queries.candidate_factor) or another reward.error may help"
    )
