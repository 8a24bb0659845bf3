"""Tabular methods on a graph of five states: s1 leads to s2 or s4, s2 to s3 or s5; the rewards are 1, 0.5 and 0.

A policy is an array (2, 2): the probabilities of the two actions in s1 and in s2. The first action of s1 leads to s2
and the second to s4; those of s2 lead to s3 and to s5.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from prefrl.arrays import Array

Step = tuple[int, int]
"""State (0 for s1, 1 for s2) and action."""
Episode = tuple[tuple[Step, ...], float]
"""Steps and return."""

REWARDS = {(0, 1): 0.5, (1, 0): 1.0, (1, 1): 0.0}
"""Rewards of the steps that end an episode; the step from s1 to s2 has none."""
SEEN: tuple[Episode, ...] = ((((1, 0),), 1.0), (((0, 1),), 0.5), (((0, 0), (1, 1)), 0.0))
"""The episodes that are given: s2→s3, s1→s4 and s1→s2→s5."""


def value(policy: Array) -> float:
    """Return the expected return of a policy from s1."""
    return float(policy[0, 1] * 0.5 + policy[0, 0] * policy[1, 0])


def softmax(logits: Array) -> Array:
    """Return the policy, (2, 2), of logits."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def greedy(values: Array) -> Array:
    """Return the policy that takes the best action, and either of two equal ones."""
    best = values == values.max(axis=1, keepdims=True)
    return np.asarray(best / best.sum(axis=1, keepdims=True))


def gradient(policy: Array, episode: Episode, weights: Sequence[float]) -> Array:
    """Return the gradient, (2, 2), of the weighted log-likelihood of an episode's actions by the logits."""
    total = np.zeros((2, 2))
    for (state, action), weight in zip(episode[0], weights, strict=True):
        total[state] -= weight * policy[state]
        total[state, action] += weight
    return total


def q_update(values: Array, episode: Episode, rate: float) -> None:
    """Update the values of an episode's steps, last step first (Q-learning, Watkins 1989)."""
    for state, action in reversed(episode[0]):
        goal = REWARDS.get((state, action), values[1].max())
        values[state, action] += rate * (goal - values[state, action])


# -- offline: from the episodes seen, until nothing changes any more ---------------------------------------------------


def q_learning(settings: dict[str, Any]) -> Array:
    """Learn values from the episodes seen."""
    values = np.zeros((2, 2))
    for _ in range(settings["sweeps"]):
        for episode in SEEN:
            q_update(values, episode, settings["sweep_rate"])
    return greedy(values)


def reinforce(settings: dict[str, Any]) -> Array:
    """Weight every step by its episode's return (Williams, 1992)."""
    return _climbed(settings, lambda episode, _: [episode[1]] * len(episode[0]))


def imitation(settings: dict[str, Any], best: int) -> Array:
    """Imitate the best episodes."""
    return _climbed(settings, lambda episode, _: [float(episode in SEEN[:best])] * len(episode[0]))


def actor_critic_of_batch(settings: dict[str, Any]) -> Array:
    """Weight steps by their advantage over values that are the batch's mean returns of each state."""
    means = np.array([np.mean([total for steps, total in SEEN if (state in dict(steps))]) for state in (0, 1)])
    return _climbed(settings, lambda episode, _: _advantages(episode, means))


def actor_critic(settings: dict[str, Any]) -> Array:
    """Weight steps by their advantage over the values of the present policy."""

    def weigh(episode: Episode, policy: Array) -> list[float]:
        return _advantages(episode, np.array([value(policy), policy[1, 0]]))

    return _climbed(settings, weigh)


def _advantages(episode: Episode, values: Array) -> list[float]:
    return [REWARDS.get(step, values[1]) - values[step[0]] for step in episode[0]]


def _climbed(settings: dict[str, Any], weigh: Callable[[Episode, Array], list[float]]) -> Array:
    logits = np.zeros((2, 2))
    for _ in range(settings["sweeps"]):
        policy = softmax(logits)
        logits += settings["sweep_rate"] * sum(gradient(policy, each, weigh(each, policy)) for each in SEEN)
    return softmax(logits)


# -- online: the episodes seen, then episodes of the own policy --------------------------------------------------------


def online_q_learning(settings: dict[str, Any], rng: np.random.Generator) -> int:
    """Count the episodes of Q-learning, which replays all episodes after each, to a value of `good`."""
    values, memory = np.zeros((2, 2)), list(SEEN)
    for count in range(settings["longest"]):
        for episode in memory:
            q_update(values, episode, settings["q_rate"])
        if count and value(greedy(values)) > settings["good"]:
            return count
        behaviour = (1 - settings["exploration"]) * greedy(values) + settings["exploration"] / 2
        memory.append(_roll(behaviour, rng))
    return int(settings["longest"])


def online_reinforce(settings: dict[str, Any], rng: np.random.Generator) -> int:
    """Count the episodes of REINFORCE without a baseline."""
    return _online(settings, rng, settings["reinforce_rate"], lambda total: total)


def online_imitation(settings: dict[str, Any], rng: np.random.Generator) -> int:
    """Count the episodes of imitating each episode that is as good as the best one seen."""
    best = max(total for _, total in SEEN)
    return _online(settings, rng, settings["imitation_rate"], lambda total: float(total >= best))


def _online(settings: dict[str, Any], rng: np.random.Generator, rate: float, weigh: Callable[[float], float]) -> int:
    logits, queue = np.zeros((2, 2)), list(SEEN)
    for count in range(1 - len(SEEN), settings["longest"]):
        policy = softmax(logits)
        episode = queue.pop(0) if queue else _roll(policy, rng)
        logits += rate * gradient(policy, episode, [weigh(episode[1])] * len(episode[0]))
        if count >= 1 and value(softmax(logits)) > settings["good"]:
            return count
    return int(settings["longest"])


def _roll(policy: Array, rng: np.random.Generator) -> Episode:
    steps: list[Step] = []
    state = 0
    while not steps or steps[-1] not in REWARDS:
        steps.append((state, int(rng.random() >= policy[state, 0])))
        state = 1
    return tuple(steps), REWARDS[steps[-1]]
