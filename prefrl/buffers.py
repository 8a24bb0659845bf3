"""Where the predicted reward enters the agent: a rollout buffer that scores the whole rollout in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from prefrl.types import Floats

ScoreRollout = Callable[[Floats], Floats]
"""(T, E) log-probabilities of the actions -> (T, E) predicted rewards of the steps since the last call"""


class ScoredRolloutBuffer(RolloutBuffer):
    """Adds the reward model's rewards just before advantages are computed.

    Rewards are then from the newest weights and cost one forward pass a rollout. They are added to what is there, so
    that the bootstrap at a time limit, which Stable-Baselines3 has put into the rewards by then, stays in.
    """

    def __init__(self, *args: Any, score: ScoreRollout, **kwargs: Any) -> None:
        """Make a buffer.

        Args:
            *args: As for `RolloutBuffer`.
            score: Gives the rollout's predicted rewards.
            **kwargs: As for `RolloutBuffer`.
        """
        self._score = score
        super().__init__(*args, **kwargs)

    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray[Any, Any]) -> None:
        """Score, then compute returns and advantages as usual."""
        self.rewards += self._score(self.log_probs)
        super().compute_returns_and_advantage(last_values, dones)
