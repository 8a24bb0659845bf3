"""Policies on a grid, learned from labels of single actions: good ones, bad ones, or both.

`G` is the goal, with a reward of 1; `P` are pits, with -1; both end the episode. `#` are walls. A policy is an array
(S, 4) of probabilities of the moves up, down, left and right; a move into a wall or off the grid stays in place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from prefrl.arrays import Array
from prefrl.seeding import stream
from prefrl_benchmarks.studies.study import Row

LEARNERS = ("good", "bad", "both")
TEACHERS = ("open", "withholding")
_MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
_ENDS = {"G": 1.0, "P": -1.0}


class Grid(NamedTuple):
    """A grid's states, which are its free cells."""

    following: Array
    """(S, 4) state after each move; S for an end."""
    rewards: Array
    """(S, 4)."""
    near_pits: Array
    """(S,) whether a move leads into a pit."""


class Labels(NamedTuple):
    """Labels of actions, each (N,)."""

    states: Array
    actions: Array
    good: Array


def read_grid(lines: Sequence[str]) -> Grid:
    """Read a grid from its drawing."""
    cells = {(row, column): sign for row, line in enumerate(lines) for column, sign in enumerate(line)}
    free = [place for place, sign in cells.items() if sign == "."]
    following, rewards = np.zeros((len(free), 4), int), np.zeros((len(free), 4))
    for state, (row, column) in enumerate(free):
        for move, (down, right) in enumerate(_MOVES):
            place = (row + down, column + right)
            sign = cells.get(place, "#")
            rewards[state, move] = _ENDS.get(sign, 0.0)
            following[state, move] = len(free) if sign in _ENDS else free.index(place) if sign == "." else state
    return Grid(following, rewards, np.asarray((rewards < 0).any(axis=1)))


def action_values(grid: Grid, discount: float) -> Array:
    """Return the values, (S, 4), of the moves under the best policy, by value iteration."""
    values = np.zeros(len(grid.following) + 1)
    for _ in range(200):
        values[:-1] = (grid.rewards + discount * values[grid.following]).max(axis=1)
    return np.asarray(grid.rewards + discount * values[grid.following])


def mean_value(grid: Grid, policy: Array, discount: float) -> float:
    """Return the discounted return of a policy, averaged over all states to start in."""
    count = len(policy)
    moves = np.zeros((count, count + 1))
    np.add.at(moves, (np.arange(count)[:, None], grid.following), policy)
    return float(np.linalg.solve(np.eye(count) - discount * moves[:, :-1], (policy * grid.rewards).sum(axis=1)).mean())


def label(grid: Grid, values: Array, count: int, rng: np.random.Generator) -> Labels:
    """Label random moves in random states: good if no move is better."""
    states, actions = rng.integers(len(values), size=count), rng.integers(4, size=count)
    return Labels(states, actions, values[states, actions] >= values[states].max(axis=1) - 1e-9)


def withhold(grid: Grid, labels: Labels) -> Labels:
    """Leave out the good labels of states next to pits."""
    kept = ~(labels.good & grid.near_pits[labels.states])
    return Labels(*(part[kept] for part in labels))


def learn(labels: Labels, learner: str, states: int, settings: dict[str, Any]) -> Array:
    """Maximise the likelihood of the good actions, or of not taking the bad ones, or both, with a penalty on logits."""
    logits = np.zeros((states, 4))
    used = labels.good if learner == "good" else ~labels.good if learner == "bad" else np.ones(len(labels.good), bool)
    chosen = Labels(*(part[used] for part in labels))
    one = np.eye(4)[chosen.actions]
    for _ in range(settings["steps"]):
        policy = _softmax(logits)[chosen.states]
        taken = policy[np.arange(len(policy)), chosen.actions]
        # d log p = e - p; d log (1 - p) = -p / (1 - p) (e - p)
        weight = np.where(chosen.good, 1.0, -taken / np.maximum(1 - taken, 1e-6))
        gradient = np.zeros_like(logits)
        np.add.at(gradient, chosen.states, weight[:, None] * (one - policy))
        logits += settings["rate"] * (gradient - settings["penalty"] * logits)
    return _softmax(logits)


def measure(settings: dict[str, Any]) -> list[Row]:
    """Return a row for each number of labels, seed, teacher and learner: the score between random (0) and best (1)."""
    grid = read_grid(settings["grid"])
    discount = settings["discount"]
    values = action_values(grid, discount)
    best, random = values.max(axis=1).mean(), mean_value(grid, np.full(values.shape, 0.25), discount)
    rows: list[Row] = []
    for count in settings["labels"]:
        for seed in range(settings["seeds"]):
            given = label(grid, values, count, stream(seed, "study", count))
            for teacher, labels in zip(TEACHERS, (given, withhold(grid, given)), strict=True):
                for learner in LEARNERS:
                    policy = learn(labels, learner, len(values), settings)
                    score = (mean_value(grid, policy, discount) - random) / (best - random)
                    rows.append(
                        {"labels": count, "seed": seed, "teacher": teacher, "learner": learner, "score": float(score)}
                    )
    return rows


def _softmax(logits: Array) -> Array:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
