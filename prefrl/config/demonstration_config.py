"""The settings of demonstrations."""

from __future__ import annotations

from dataclasses import dataclass

from prefrl.config.checks import at_most, require

MINARI = "minari:"
"""Prefix of a source that is the name of a data set of Minari."""


@dataclass(frozen=True)
class DemonstrationConfig:
    """What is made of demonstrations: behaviour cloning first, and automatic labels (Ibarz et al., 2018)."""

    source: str | None = None
    """Where the demonstrations come from; see `Request.demonstrations`. The run keeps a copy; null for none."""
    episodes: int = 10
    """Number of episodes that a run's policy plays, or that are taken from a data set; a file is used whole."""
    steps: int = 20_000
    """Largest number of demonstrated steps that are used, the first ones."""
    batches: int = 2000
    """Gradient steps of behaviour cloning before the agent trains; 0 for none."""
    batch_size: int = 64
    """Steps in a batch of behaviour cloning."""
    learning_rate: float = 1e-3
    """Learning rate of behaviour cloning."""
    log_std_min: float = -1.0
    """Lower bound of the logarithm of the policy's standard deviation while it is cloned, so that the agent still
    explores afterwards (on-policy algorithms with continuous actions; the deviations of others are not cloned)."""
    labels: int | None = None
    """Automatic labels, which prefer a demonstrated clip to one of the agent's first clips. They are not part of the
    label budget. Null for as many as the teacher's labels before the agent trains; 0 for none."""

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
        for name, most in (("episodes", 10**5), ("steps", 10**7), ("batch_size", 2**16)):
            require(getattr(self, name) >= 1, f"demonstrations.{name} must be at least 1")
            at_most(f"demonstrations.{name}", getattr(self, name), most)
        require(self.batches >= 0, "demonstrations.batches must not be negative")
        require(self.learning_rate > 0, "demonstrations.learning_rate must be positive")
        require(-20 <= self.log_std_min <= 2, "demonstrations.log_std_min must be in [-20, 2]")
        require(self.labels is None or self.labels >= 0, "demonstrations.labels must not be negative")
        at_most("demonstrations.labels", self.labels or 0, 10**6)
