"""Clone answers, with and without abstentions among them, and train each clone by REINFORCE.

A policy is a logit for each level of knowledge: the log-odds of abstaining. It knows which level a question has, as a
model knows how sure it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from prefrl.arrays import Array
from prefrl.seeding import stream
from prefrl_benchmarks.studies.study import Row

RL = "RL from the seeded clone"
POLICIES = ("clone", "seeded clone", "RL from the clone", RL)


def levels(settings: dict[str, Any]) -> Array:
    """Return the probability of being right at each level."""
    return np.asarray((np.arange(settings["levels"]) + 0.5) / settings["levels"])


def threshold(cost: float) -> float:
    """Return the probability of being right below which abstaining pays."""
    return cost / (1 + cost)


def measure(settings: dict[str, Any]) -> list[Row]:
    """Return a row for each cost, policy, seed and level: the probability of abstaining."""
    return [
        {"cost": cost, "policy": name, "seed": seed, "right": right, "abstains": abstains}
        for cost in settings["costs"]
        for seed in range(settings["seeds"])
        for name, policy in policies(settings, cost, stream(seed, "study")).items()
        for right, abstains in zip(levels(settings).tolist(), policy.tolist(), strict=True)
    ]


def policies(settings: dict[str, Any], cost: float, rng: np.random.Generator) -> dict[str, Array]:
    """Train each of `POLICIES`; return its probabilities of abstaining at the levels."""
    clones = [_clone(settings, share, rng) for share in (0.0, settings["abstentions"])]
    made = [*clones, *(_reinforced(clone, settings, cost, rng) for clone in clones)]
    return {name: 1 / (1 + np.exp(-logits)) for name, logits in zip(POLICIES, made, strict=True)}


def _clone(settings: dict[str, Any], share: float, rng: np.random.Generator) -> Array:
    """Return the maximum-likelihood logits of demonstrations that abstain regardless of what the agent knows."""
    count = settings["demonstrations"]
    abstained = rng.binomial(count, share, settings["levels"])
    return np.asarray(np.log((abstained + settings["smoothing"]) / (count - abstained + settings["smoothing"])))


def _reinforced(start: Array, settings: dict[str, Any], cost: float, rng: np.random.Generator) -> Array:
    """Train by REINFORCE with the mean reward of each level as the baseline."""
    logits, baseline, right = start.copy(), np.zeros(len(start)), levels(settings)
    for _ in range(settings["rounds"]):
        abstaining = 1 / (1 + np.exp(-logits))
        abstains = rng.random(len(logits)) < abstaining
        answered = np.where(rng.random(len(logits)) < right, 1.0, -cost)
        rewards = np.where(abstains, 0.0, answered)
        logits += settings["rate"] * (rewards - baseline) * (abstains - abstaining)
        baseline += 0.05 * (rewards - baseline)
    return logits
