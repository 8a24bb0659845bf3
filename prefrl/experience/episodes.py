"""Statistics of the agent's newest episodes, from which simulated teachers derive their thresholds."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from prefrl.arrays import Floats
from prefrl.storage.files import Tree

_NEWEST = 10
"""Number of episodes in the statistics, as in B-Pref (Lee et al., 2021)."""


class Episodes(NamedTuple):
    """Means over the agent's last ten episodes."""

    mean_return: float
    """Mean sum of the rewards recorded in clips; rewards of Atari games are clipped."""
    mean_length: float
    """Mean number of steps."""


class EpisodeSums:
    """Sums the true rewards of each environment's episode, and keeps the newest sums."""

    def __init__(self, envs: int) -> None:
        """Initialise the sums.

        Args:
            envs: E, the number of environments.
        """
        self._ended: deque[tuple[float, int]] = deque(maxlen=_NEWEST)
        self._envs = envs
        self.reset()

    def reset(self) -> None:
        """Discard unfinished episodes, after all environments were reset."""
        self._sums, self._lengths = np.zeros(self._envs), np.zeros(self._envs, np.int64)

    def step(self, rewards: Floats, over: Sequence[bool]) -> None:
        """Add one step.

        Args:
            rewards: (E,) true rewards.
            over: (E,) whether an episode or a game ended with the step.
        """
        self._sums += rewards
        self._lengths += 1
        for env in np.flatnonzero(over):
            self._ended.append((float(self._sums[env]), int(self._lengths[env])))
            self._sums[env] = self._lengths[env] = 0

    @property
    def newest(self) -> Episodes | None:
        """Means over the newest episodes; None before the first episode has ended."""
        if not self._ended:
            return None
        returns, lengths = zip(*self._ended, strict=True)
        return Episodes(float(np.mean(returns)), float(np.mean(lengths)))

    def state_dict(self) -> Tree:
        """Return the sums of unfinished episodes and of the newest episodes."""
        ended = np.array(list(self._ended), np.float64).reshape(-1, 2)
        begun = {"sums": self._sums.copy(), "lengths": self._lengths.copy()}
        return begun | {"returns": ended[:, 0], "steps": ended[:, 1]}

    def load_state_dict(self, state: Tree) -> None:
        """Restore a saved state."""
        self._sums, self._lengths = state["sums"].copy(), state["lengths"].copy()
        self._ended.clear()
        self._ended.extend(zip(state["returns"].tolist(), map(int, state["steps"]), strict=True))
