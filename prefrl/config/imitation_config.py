"""The settings of imitation of the best."""

from __future__ import annotations

from dataclasses import dataclass

from prefrl.config.checks import at_most, require


@dataclass(frozen=True)
class ImitationConfig:
    """Which rated segments are imitated, and how; see `--learner imitation`."""

    rule: str = "share"
    """How the best are chosen, a name in `prefrl.registry.IMITATION_RULES`."""
    share: float = 0.1
    """Share of the newest labels that the rule `share` chooses, those with the highest ratings."""
    bucket: int | None = None
    """Lowest rating that the rule `bucket` chooses; null for the highest step of the scale."""
    power: float = 2.0
    """The rule `chance` chooses a segment with a probability of (its place on the scale, from 0 to 1) to this power."""
    newest: int = 200
    """Number of newest labels to choose from."""
    batches: int = 200
    """Gradient steps of behaviour cloning after each round of labels."""
    batch_size: int = 64
    """Steps in a batch."""
    learning_rate: float = 1e-3
    """Learning rate of behaviour cloning."""
    log_std_min: float = -1.0
    """Lower bound of the logarithm of the policy's standard deviation, so that the agent keeps trying other actions
    (on-policy algorithms with continuous actions; the deviations of others are not cloned)."""

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
        require(0 < self.share <= 1, "imitation.share must be in (0, 1]")
        require(self.bucket is None or self.bucket >= 1, "imitation.bucket must be at least 1, or null")
        require(self.power > 0, "imitation.power must be positive")
        for name, most in (("newest", 10**6), ("batches", 10**6), ("batch_size", 2**16)):
            require(getattr(self, name) >= 1, f"imitation.{name} must be at least 1")
            at_most(f"imitation.{name}", getattr(self, name), most)
        require(self.learning_rate > 0, "imitation.learning_rate must be positive")
        require(-20 <= self.log_std_min <= 2, "imitation.log_std_min must be in [-20, 2]")
