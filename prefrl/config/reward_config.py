"""The settings of the reward model and its training."""

from __future__ import annotations

import math
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
    reads_actions: bool | None = None
    """Whether the reward model reads the action beside the observation; null as in the paper: yes for vectors (appendix
    A.1), no for images (appendix A.2). Either is from before the action. Images get it as one more channel; the frames
    of a stack are then kept once for each step that has them, and labels take about four times the memory."""
    hidden: tuple[int, ...] = (64, 64)
    """Hidden units of each MLP (appendix A.1)."""
    dropout: float = 0.5
    """Dropout probability of the convolutions (appendix A.2)."""
    negative_slope: float = 0.01
    """Negative slope of the leaky ReLU (appendix A.1)."""
    output: Literal["identity", "tanh"] = "identity"
    """Function of a network's output, a name in `ensemble.OUTPUTS`. PEBBLE's `tanh` bounds a step's reward to
    (-1, 1)."""
    normalise_inputs: bool = True
    """Whether input vectors are normalised by statistics of the labelled clips. PEBBLE's are not."""
    learning_rate: float = 2e-3
    """Learning rate of Adam; the paper gives none."""
    batch_size: int = 16
    """Minibatch size in comparisons, which each member draws from its own bootstrap sample."""
    bootstrap: bool = True
    """Whether each member trains on its own bootstrap sample, and the labels outside of it are its validation set. If
    not, every member trains on all labels, as in PEBBLE, and the L2 penalty does not adapt."""
    error: float = 0.1
    """Assumed probability that a teacher answers at random (section 2.2.3)."""
    loss: str = "bradley-terry"
    """A name in `registry.LOSSES`; recipes use the feedback kind's own, and for several kinds their names, joined by
    commas. `true-reward` fits the true reward instead: the paper's ablation `target`."""
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
    normalise_over: Literal["comparisons", "rollouts", "aligned-rollouts", "memory", "none"] = "comparisons"
    """Data on which the reward is normalised to mean zero and `target_std` (the paper does not specify it): the clips
    of the newest comparisons, as in older versions; the agent's newest rollouts, as in recipes for vectors; those
    rollouts without the offset that a fit adds to all rewards, as in recipes for images; or the replay memory, as in
    recipes of off-policy agents. `none`: the mean of the members' outputs as they are, as in PEBBLE; `target_std` then
    has no effect."""
    comparisons_per_step: float = 0.1
    """Comparisons that each member fits per agent step. The paper uses about 0.1 for Atari."""
    pretrain_comparisons: int = 3200
    """Comparisons that each member fits before the agent trains."""
    epochs: int | None = None
    """Most passes over all labels after each session of queries, the first of which is the pretraining, as in PEBBLE
    (50); null for `pretrain_comparisons` and `comparisons_per_step`, or `session_steps`."""
    session_steps: float | None = None
    """Most gradient steps after each session of queries for each label that there is, as in QPA's code (2000 / 128),
    rounded up to whole passes; null for one of the other measures of work."""
    stop_accuracy: float = 0.97
    """With `epochs` or `session_steps`, training accuracy above which a session's passes stop early, as in PEBBLE; 1
    to run all."""
    stop_over: Literal["pass", "session"] = "pass"
    """Whether this is the accuracy of the last pass, as in PEBBLE, or of the whole session so far, as in QPA."""
    crop: tuple[int, ...] | None = None
    """[low, high]: each comparison that is fitted is cropped to a random number of steps in this range, from a random
    place in each segment. QPA: [35, 45] of 50 steps; SURF: [45, 55] of 60. null for whole segments."""
    crop_copies: int = 1
    """Random crops of each comparison in a batch (QPA: 20)."""
    pseudo_threshold: float | None = None
    """Predicted probability above which a preference for one of two unlabelled segments of the pool is fitted as if it
    were a label, as in SURF (0.99); null for labels only."""
    pseudo_weight: float = 1.0
    """Weight of the loss of these pseudo-labels (SURF: lambda = 1)."""
    pseudo_ratio: int = 4
    """Unlabelled pairs in a batch for each labelled one (SURF: mu = 4)."""
    trust_filter: bool = False
    """Whether labels that contradict the reward model too much are left out, and the worst reversed, as in RIME."""
    trust_passes: int = 30
    """With `trust_filter`, passes over the labels until the filter is as strict as it becomes."""
    buffer: int = 3000
    """Number of newest comparisons that are trained on (appendix A.2)."""

    def session_passes(self, labels: int) -> int:
        """Return the most passes of a session over so many labels; 0 without labels, or if the work has no sessions."""
        if not labels or self.session_steps is None:
            return (self.epochs or 0) if labels else 0
        return math.ceil(self.session_steps * labels / math.ceil(labels / self.batch_size))

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
        for name in ("members", "batch_size", "buffer", "pretrain_comparisons"):
            require(getattr(self, name) >= 1, f"reward.{name} must be at least 1")
        require(self.buffer >= self.batch_size, "reward.buffer must hold at least one batch (reward.batch_size)")
        require(0 <= self.error < 1, "reward.error must be in [0, 1)")
        require(0 <= self.dropout < 1, "reward.dropout must be in [0, 1)")
        self._validate_augmentation()
        require(self.epochs is None or self.epochs >= 1, "reward.epochs must be at least 1, or null")
        steps = self.session_steps
        require(steps is None or 0 < steps <= 10**6, "reward.session_steps must be in (0, 1e6], or null")
        require(None in (steps, self.epochs), "reward.epochs and reward.session_steps exclude each other; set one null")
        require(0 < self.stop_accuracy <= 1, "reward.stop_accuracy must be in (0, 1]")
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

    def _validate_augmentation(self) -> None:
        """Check the crops and the pseudo-labels."""
        crop, threshold = self.crop, self.pseudo_threshold
        require(
            crop is None or (len(crop) == 2 and 1 <= crop[0] <= crop[1]),
            "reward.crop must be two numbers of steps, the smaller first, e.g. [35, 45], or null",
        )
        require(self.crop_copies >= 1, "reward.crop_copies must be at least 1")
        require(crop is not None or self.crop_copies == 1, "reward.crop_copies needs reward.crop")
        at_most("reward.crop_copies", self.crop_copies, 1000)
        require(threshold is None or 0.5 <= threshold < 1, "reward.pseudo_threshold must be in [0.5, 1), or null")
        require(self.pseudo_weight >= 0, "reward.pseudo_weight must not be negative")
        require(self.trust_passes >= 1, "reward.trust_passes must be at least 1")
        require(self.pseudo_ratio >= 1, "reward.pseudo_ratio must be at least 1")
        at_most("reward.pseudo_ratio", self.pseudo_ratio, 1000)
