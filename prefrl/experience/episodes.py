"""The agent's newest episodes, by the rewards that clips are judged by."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prefrl.arrays import Floats
from prefrl.storage.files import Tree

_NEWEST = 10
"""Episodes that count, as in B-Pref (Lee et al., 2021)."""


class Episodes(NamedTuple):
    """The agent's newest episodes: what a simulated teacher's thresholds are relative to."""

    mean_return: float
    """Of the last ten, by the rewards that clips have: a game's are clipped."""
    mean_length: float
    """Steps."""


class EpisodeSums:
    """Adds up the true rewards of each environment's episode, and keeps the newest sums."""

    def __init__(self, envs: int) -> None:
        """Begin.

        Args:
            envs: E.
        """
        self._ended: deque[tuple[float, int]] = deque(maxlen=_NEWEST)
        self._envs = envs
        self.reset()

    def reset(self) -> None:
        """Every environment was reset: the episodes that were under way count for nothing."""
        self._sums, self._lengths = np.zeros(self._envs), np.zeros(self._envs, np.int64)

    def step(self, rewards: Floats, over: Sequence[bool]) -> None:
        """Add a step's (E,) true rewards; `over` says whose episode, or game, ended with it."""
        self._sums += rewards
        self._lengths += 1
        for env in np.flatnonzero(over):
            self._ended.append((float(self._sums[env]), int(self._lengths[env])))
            self._sums[env] = self._lengths[env] = 0

    @property
    def newest(self) -> Episodes | None:
        """The newest episodes; None before the first has ended."""
        if not self._ended:
            return None
        returns, lengths = zip(*self._ended, strict=True)
        return Episodes(float(np.mean(returns)), float(np.mean(lengths)))

    def state_dict(self) -> Tree:
        """The sums so far, and those of the newest episodes."""
        ended = np.array(list(self._ended), np.float64).reshape(-1, 2)
        begun = {"sums": self._sums.copy(), "lengths": self._lengths.copy()}
        return begun | {"returns": ended[:, 0], "steps": ended[:, 1]}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self._sums, self._lengths = state["sums"].copy(), state["lengths"].copy()
        self._ended.clear()
        self._ended.extend(zip(state["returns"].tolist(), map(int, state["steps"]), strict=True))
