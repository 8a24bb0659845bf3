"""A chain of states. In each, the agent moves forward or stays; the end of the chain pays a prize of 1.

A policy is an array of log-odds of moving forward, one for each state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from prefrl.arrays import Array
from prefrl.seeding import stream
from prefrl_benchmarks.studies.study import Row


class Episode(NamedTuple):
    """Steps of an episode, each (T,)."""

    states: Array
    forward: Array
    """1 for a step forward, 0 for staying."""
    prizes: Array
    """1 for the step that reaches the end, 0 otherwise."""


Marker = Callable[[Episode, dict[str, Any]], Array]
"""Marks of an episode's steps, (T,)."""
Method = Callable[[Array, Episode, Array, dict[str, Any]], None]
"""Updates a policy from an episode and its marks."""

MARKS: dict[str, Marker] = {
    "sign of the advantage": lambda episode, settings: np.where(episode.forward == 1, 1.0, -1.0),
    "sign of the reward": lambda episode, settings: episode.prizes,
    "sign of the reward minus a cost": lambda episode, settings: np.sign(
        episode.prizes - settings["cost"] * episode.forward
    ),
}


def coach(logits: Array, episode: Episode, marks: Array, settings: dict[str, Any]) -> None:
    """Use marks as advantages."""
    _ascend(logits, episode, marks, settings)


def with_discount(discount: float | None) -> Method:
    """Use marks as rewards of REINFORCE: each step is weighted by the discounted sum of the marks from it on."""

    def method(logits: Array, episode: Episode, marks: Array, settings: dict[str, Any]) -> None:
        gamma = settings["discount"] if discount is None else discount
        sums, total = np.zeros(len(marks)), 0.0
        for step in reversed(range(len(marks))):
            total = marks[step] + gamma * total
            sums[step] = total
        _ascend(logits, episode, sums, settings)

    return method


class Tamer:
    """Learns the mean mark of every state and action, and acts on the larger one."""

    def __init__(self, states: int) -> None:
        self._sums, self._counts = np.zeros((states, 2)), np.zeros((states, 2))

    def __call__(self, logits: Array, episode: Episode, marks: Array, settings: dict[str, Any]) -> None:
        """Update the means, and make the policy nearly greedy with respect to them."""
        np.add.at(self._sums, (episode.states, episode.forward), marks)
        np.add.at(self._counts, (episode.states, episode.forward), 1)
        means = self._sums / np.maximum(self._counts, 1)
        logits[:] = 3 * np.sign(means[:, 1] - means[:, 0])


METHODS: dict[str, Callable[[int], Method]] = {
    "COACH": lambda states: coach,
    "TAMER": Tamer,
    "reward, γ = 0": lambda states: with_discount(0.0),
    "reward, γ = 0.99": lambda states: with_discount(None),
}


def measure(settings: dict[str, Any]) -> list[Row]:
    """Return a row for each kind of marks, method, seed and state, with the final probability of moving forward."""
    return [
        {"marks": marks, "method": name, "seed": seed, "state": state, "forward": chance}
        for marks, marker in MARKS.items()
        for name, make in METHODS.items()
        for seed in range(settings["seeds"])
        for state, chance in enumerate(_trained(marker, make(settings["states"]), settings, seed).tolist())
    ]


def reaches_the_end(forward: Array, longest: int) -> float:
    """Return the probability of reaching the end in time, from the probabilities of moving forward, (S,)."""
    at = np.zeros(len(forward) + 1)
    at[0] = 1.0
    for _ in range(longest):
        moved = at[:-1] * forward
        at[:-1] -= moved
        at[1:] += moved
    return float(at[-1])


def _trained(marker: Marker, method: Method, settings: dict[str, Any], seed: int) -> Array:
    rng, logits = stream(seed, "study"), np.zeros(settings["states"])
    for _ in range(settings["episodes"]):
        episode = _roll(logits, settings, rng)
        method(logits, episode, marker(episode, settings), settings)
    return _forward(logits)


def _forward(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -500, 500))))


def _ascend(logits: Array, episode: Episode, weights: Array, settings: dict[str, Any]) -> None:
    gradient = weights * (episode.forward - _forward(logits)[episode.states])
    np.add.at(logits, episode.states, settings["rate"] * gradient)


def _roll(logits: Array, settings: dict[str, Any], rng: np.random.Generator) -> Episode:
    chances, state = _forward(logits), 0
    steps: list[tuple[int, int, float]] = []
    while state < settings["states"] and len(steps) < settings["longest"]:
        forward = int(rng.random() < chances[state])
        steps.append((state, forward, float(state + forward == settings["states"])))
        state += forward
    states, moves, prizes = zip(*steps, strict=True)
    return Episode(np.array(states), np.array(moves), np.array(prizes))
