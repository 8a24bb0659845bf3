"""The value of each method's policy offline, and the number of episodes that it needs online."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from prefrl.arrays import Array
from prefrl.seeding import stream
from prefrl_benchmarks.studies.graph import methods
from prefrl_benchmarks.studies.study import Row

OFFLINE: dict[str, Callable[[dict[str, Any]], Array]] = {
    "Q-learning": methods.q_learning,
    "REINFORCE": methods.reinforce,
    "imitation of the best two": partial(methods.imitation, best=2),
    "imitation of the best one": partial(methods.imitation, best=1),
    "actor-critic, values of the batch": methods.actor_critic_of_batch,
    "actor-critic, values of the policy": methods.actor_critic,
}
ONLINE: dict[str, Callable[[dict[str, Any], np.random.Generator], int]] = {
    "Q-learning": methods.online_q_learning,
    "imitation of the best": methods.online_imitation,
    "REINFORCE": methods.online_reinforce,
}


def measure(settings: dict[str, Any]) -> list[Row]:
    """Return a row for each method offline, and for each method and seed online."""
    rows: list[Row] = []
    for name, method in OFFLINE.items():
        policy = method(settings)
        rows.append(
            {"part": "offline", "method": name, "seed": 0, "value": methods.value(policy), "to s2": float(policy[0, 0])}
        )
    for name, count in ONLINE.items():
        for seed in range(settings["seeds"]):
            episodes = count(settings, stream(seed, "study"))
            rows.append({"part": "online", "method": name, "seed": seed, "value": float(episodes), "to s2": ""})
    return rows
