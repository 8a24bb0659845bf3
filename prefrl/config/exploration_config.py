"""The settings of exploration."""

from __future__ import annotations

from dataclasses import dataclass

from prefrl.config.checks import require


@dataclass(frozen=True)
class ExplorationConfig:
    """Rewards for exploring, before there are labels and besides the predicted reward."""

    steps: int = 0
    """Agent steps, from the start of the run, in which the agent trains on the entropy of its states before the first
    labels (PEBBLE, Lee et al., 2021, section 4.1); 0 for none."""
    neighbours: int = 5
    """k of the k-NN estimate of that entropy."""
    state_entropy: float = 0.0
    """Coefficient of the entropy of states in the agent's reward afterwards."""
    disagreement: float = 0.0
    """Initial coefficient of the deviation of the reward models in the agent's reward (RUNE, Liang et al., 2022)."""
    disagreement_decay: float = 0.0
    """Relative decrease of that coefficient per agent step."""

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
        require(self.steps >= 0, "exploration.steps must not be negative")
        require(self.neighbours >= 1, "exploration.neighbours must be at least 1")
        for name in ("state_entropy", "disagreement"):
            require(getattr(self, name) >= 0, f"exploration.{name} must not be negative")
        require(0 <= self.disagreement_decay < 1, "exploration.disagreement_decay must be in [0, 1)")

    @property
    def rewards_states(self) -> bool:
        """Whether the entropy of states is a reward at any time."""
        return self.steps > 0 or self.state_entropy > 0
