"""A Gaussian policy that moves towards those of its samples that are chosen, by three rules.

The reward of a sample x is -(x - optimum)^2. The policy's mean and deviation move a part of the way to those of the
chosen samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from prefrl.arrays import Array
from prefrl.seeding import stream
from prefrl_benchmarks.studies.study import Row

Rule = Callable[[Array, dict[str, Any], np.random.Generator], Array]
"""(rewards, settings, rng) -> which samples are imitated."""


def top_bucket(rewards: Array, settings: dict[str, Any], rng: np.random.Generator) -> Array:
    """Choose the samples whose reward is above a fixed threshold, like those rated seven of seven."""
    return np.asarray(rewards >= settings["threshold"])


def rising(rewards: Array, settings: dict[str, Any], rng: np.random.Generator) -> Array:
    """Choose each sample with a probability that rises with its reward."""
    chance = 1 / (1 + np.exp(-(rewards - settings["midpoint"]) / settings["width"]))
    return np.asarray(rng.random(len(rewards)) < chance)


def top_share(rewards: Array, settings: dict[str, Any], rng: np.random.Generator) -> Array:
    """Choose the best samples of the round."""
    return np.asarray(rewards >= np.quantile(rewards, 1 - settings["share"]))


RULES: dict[str, Rule] = {"fixed bucket": top_bucket, "rising probability": rising, "top share": top_share}


def measure(settings: dict[str, Any]) -> list[Row]:
    """Return a row for each rule, seed and one of the rounds in `settings`."""
    return [
        {"rule": name, "seed": seed, "round": number, "mean": mean, "deviation": deviation}
        for name, rule in RULES.items()
        for seed in range(settings["seeds"])
        for number, mean, deviation in _trained(rule, settings, stream(seed, "study"))
    ]


def _trained(rule: Rule, settings: dict[str, Any], rng: np.random.Generator) -> list[tuple[int, float, float]]:
    mean, deviation, noted = 0.0, 1.0, []
    for number in range(1, max(settings["rounds"]) + 1):
        samples = rng.normal(mean, deviation, settings["samples"])
        chosen = samples[rule(-((samples - settings["optimum"]) ** 2), settings, rng)]
        if len(chosen):
            mean += settings["rate"] * (float(chosen.mean()) - mean)
            deviation += settings["rate"] * (float(chosen.std()) - deviation)
            deviation = max(deviation, settings["least_deviation"])
        if number in settings["rounds"]:
            noted.append((number, mean, deviation))
    return noted
