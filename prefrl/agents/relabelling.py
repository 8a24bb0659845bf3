"""When the rewards of a replay memory are computed again: the entries of `RELABELLINGS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from prefrl.agents.replay import MemorySteps, ReplayMemory
from prefrl.agents.reward_terms import RewardTerm

SAMPLE = 10_000
"""Number of steps, evenly spaced in the memory, over which rewards are normalised if not all of them are scored."""


class Relabelling(NamedTuple):
    """A way to bring the rewards of a memory up to date."""

    renew: Callable[[RewardTerm, ReplayMemory, bool], None]
    """Called with a reward that has changed, the memory, and whether no step has a reward of these terms yet."""
    of_batches: bool = False
    """Whether the rewards of a batch are computed when it is drawn."""


def rewrite(reward: RewardTerm, memory: ReplayMemory, first: bool) -> None:
    """Compute the rewards of the whole memory (PEBBLE, Lee et al., 2021)."""
    steps = MemorySteps(memory)
    steps.write(reward.relabel(steps))


def normalise(reward: RewardTerm, memory: ReplayMemory, first: bool) -> None:
    """Fit the normalisation of the reward to a sample of the memory, and change none of its rewards."""
    reward.relabel(MemorySteps(memory, SAMPLE))


def rewrite_once(reward: RewardTerm, memory: ReplayMemory, first: bool) -> None:
    """Compute the rewards of the memory if it has none of these terms yet, and keep them afterwards."""
    (rewrite if first else normalise)(reward, memory, first)


RELABELLINGS: dict[str, Relabelling] = {
    "memory": Relabelling(rewrite),
    "batch": Relabelling(normalise, of_batches=True),
    "never": Relabelling(rewrite_once),
}
"""By `off_policy.relabel`."""
