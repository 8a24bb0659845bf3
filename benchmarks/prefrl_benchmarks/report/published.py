"""Published scores of the paper's seven games, which reports show beside those that were measured here.

Those of the paper are read off its figure 3 after 50 M agent steps, see `paper`. Those of RL Baselines3 Zoo are of one
trained agent per game, evaluated with sampled actions
(https://github.com/DLR-RM/rl-baselines3-zoo/blob/master/benchmark.md). All are raw scores of the games.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from prefrl_benchmarks.report.paper import ATARI_STEPS, POINTS


class Source(NamedTuple):
    """One published column."""

    title: str
    steps: int
    """Agent steps of training."""
    scores: Mapping[str, float]
    """Score of each game."""


GAMES = ("beamrider", "breakout", "enduro", "pong", "qbert", "seaquest", "spaceinvaders")
JUDGED_OTHERWISE = {"enduro-effort": "enduro"}
"""Tasks in which teachers judge something other than the score that is reported, and their games."""
_ZOO_STEPS = 10_000_000

_ZOO = (3397.0, 398.033, 996.364, 20.989, 15627.108, 1783.636, 960.331)
_PEOPLE = (8600.0, 17.0, 690.0, 20.8, 850.0, 1000.0, 670.0)
"""Space Invaders' run with people's labels ends at 39 M steps."""
_PAPER = {game: POINTS[game] for game in GAMES if game in POINTS}
"""All but Enduro, in which both the true reward and the oracle's labels left the score near zero."""

SOURCES = (
    Source("PPO of RL Baselines3 Zoo", _ZOO_STEPS, dict(zip(GAMES, _ZOO, strict=True))),
    Source("the paper's RL", ATARI_STEPS, {game: point.true for game, point in _PAPER.items()} | {"enduro": 0.0}),
    *(
        Source(
            f"the paper's {labels:,} labels",
            ATARI_STEPS,
            {game: point.labels[labels] for game, point in _PAPER.items()} | {"enduro": 0.0},
        )
        for labels in (5600, 3300)
    ),
    Source("the paper's people", ATARI_STEPS, dict(zip(GAMES, _PEOPLE, strict=True))),
)


def game_of(task: str) -> str | None:
    """The game that a task is played on; None for other tasks."""
    return task if task in GAMES else JUDGED_OTHERWISE.get(task)


def published_scores(task: str) -> dict[str, float]:
    """The published scores of a task's game, by column; empty for other tasks."""
    game = game_of(task)
    return {f"{source.title}, {source.steps // 1_000_000} M steps": source.scores[game] for source in SOURCES if game}
