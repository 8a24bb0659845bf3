"""The settings of evaluations."""

from __future__ import annotations

from dataclasses import dataclass

from prefrl.config.checks import require


@dataclass(frozen=True)
class EvaluationConfig:
    """Evaluation of the policy: full episodes of its mean action, in separate environments."""

    episodes: int = 10
    """Episodes at the end of the run; 0 for no evaluation."""
    every: int | None = None
    """Minimum number of agent steps between two evaluations during training; null to evaluate only at the end."""
    every_episodes: int = 3
    """Episodes of each evaluation during training."""
    max_steps: int = 27_000
    """Largest number of steps in an episode: 30 minutes of an Atari game. No episode is longer than the run either."""

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
        require(self.episodes >= 0, "evaluation.episodes must not be negative")
        require(self.every is None or self.every >= 1, "evaluation.every must be at least 1, or null")
        for name in ("every_episodes", "max_steps"):
            require(getattr(self, name) >= 1, f"evaluation.{name} must be at least 1")
