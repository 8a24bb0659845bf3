"""The settings of the reward model and its training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prefrl.config.checks import at_most, check_widths, require


@dataclass(frozen=True)
class RewardConfig:
    """The reward model and its training (paper, sections 2.2.1 and 2.2.3)."""

    members: int = 3
    """K, the number of predictors in the ensemble."""
    network: str = "mlp"
    """A name in `registry.NETWORKS`: `mlp` for vectors (appendix A.1), `cnn` for images (appendix A.2);
    `small-cnn` is faster."""
    hidden: tuple[int, ...] = (64, 64)
    """Hidden units of each MLP (appendix A.1)."""
    dropout: float = 0.5
    """Dropout probability of the convolutions (appendix A.2)."""
    negative_slope: float = 0.01
    """Negative slope of the leaky ReLU (appendix A.1)."""
    learning_rate: float = 2e-3
    """Learning rate of Adam; the paper gives none."""
    batch_size: int = 16
    """Minibatch size in comparisons, which each member draws from its own bootstrap sample."""
    error: float = 0.1
    """Assumed probability that a teacher answers at random (section 2.2.3)."""
    loss: str = "bradley-terry"
    """A name in `registry.LOSSES`; recipes use the feedback kind's own. `true-reward` fits the true reward instead: the
    paper's ablation `target`."""
    l2: float = 1e-4
    """Initial coefficient of each member's L2 penalty."""
    l2_rate: float = 0.016
    """Relative change of the coefficient each time the validation loss is measured (every 4 gradient steps)."""
    validation_low: float = 1.1
    """Ratio of validation loss to training loss below which the penalty is lowered."""
    validation_high: float = 1.5
    """Ratio above which it is raised."""
    target_std: float = 1.0
    """Standard deviation of the normalised reward (1 for MuJoCo)."""
    normalise_over: Literal["comparisons", "rollouts", "aligned-rollouts"] = "comparisons"
    """Data on which the reward is normalised to mean zero and `target_std` (the paper does not specify it): the clips
    of the newest comparisons, as in older versions; the agent's newest rollouts, as in all recipes for vectors; or
    those rollouts without the offset that a fit adds to all rewards, as in all recipes for images."""
    comparisons_per_step: float = 0.1
    """Comparisons that each member fits per agent step. The paper uses about 0.1 for Atari."""
    pretrain_comparisons: int = 3200
    """Comparisons that each member fits before the agent trains."""
    buffer: int = 3000
    """Number of newest comparisons that are trained on (appendix A.2)."""

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
        for name in ("members", "batch_size", "buffer", "pretrain_comparisons"):
            require(getattr(self, name) >= 1, f"reward.{name} must be at least 1")
        require(self.buffer >= self.batch_size, "reward.buffer must hold at least one batch (reward.batch_size)")
        require(0 <= self.error < 1, "reward.error must be in [0, 1)")
        require(0 <= self.dropout < 1, "reward.dropout must be in [0, 1)")
        require(self.learning_rate > 0, "reward.learning_rate must be positive")
        require(self.target_std > 0, "reward.target_std must be positive")
        require(self.comparisons_per_step >= 0, "reward.comparisons_per_step must not be negative")
        require(self.l2 >= 0 and 0 <= self.l2_rate < 1, "reward.l2 must not be negative, l2_rate in [0, 1)")
        require(
            1 <= self.validation_low <= self.validation_high, "reward.validation_low/high must be 1 or more, in order"
        )
        at_most("reward.members", self.members, 1000)
        at_most("reward.buffer", self.buffer, 10**6)
        at_most("reward.batch_size", self.batch_size, 2**16)
        check_widths("reward.hidden", self.hidden, copies=self.members)
