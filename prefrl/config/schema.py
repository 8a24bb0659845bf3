"""The whole configuration of a run as frozen dataclasses: what `config.json` holds.

Every number is checked once, here, so that the rest of the package can take a configuration at its word.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field
from typing import Any, Literal

from prefrl.config.typed import conform
from prefrl.errors import UsageError
from prefrl.registry import ALGORITHMS, LOSSES, NETWORKS

Mode = Literal["async", "sync"]
ASYNC: Mode = "async"
SYNC: Mode = "sync"
NO_TEACHER = "none"
"""The teacher of the baseline, whose agent trains on the true reward."""
HUMAN = "human"
"""The teacher that stands for people, who answer in `prefrl label`."""
Device = Literal["auto", "cpu", "cuda"]
_MOST_UNITS = 2**16
"""Of a hidden layer."""
_MOST_WEIGHTS = 10**8
"""Between hidden layers, of all copies of a network: 1.6 GB with what an optimiser keeps."""


@dataclass(frozen=True)
class AgentConfig:
    """The Stable-Baselines3 agent and the environments it steps."""

    n_envs: int = 8
    """Environments stepped together."""
    n_steps: int = 256
    """Steps of each environment in a rollout."""
    learning_rate: float = 3e-4
    learning_rate_decay: bool = False
    """Whether the learning rate falls linearly over the run."""
    learning_rate_end: float = 0.0
    """The share of it that is left at the end, where it falls."""
    batch_size: int = 256
    """Steps in a minibatch (PPO; TRPO's value network)."""
    n_epochs: int = 10
    """Passes over a rollout (PPO); of the value network's fit alone (TRPO)."""
    target_kl: float | None = None
    """How far a rollout's update may take the policy, as a KL divergence; null: Stable-Baselines3's default. TRPO: the
    bound of a step, by default 0.01. PPO: the update ends at 1.5 times this, estimated over a minibatch; by default it
    does not."""
    clip_range: float = 0.2
    """PPO's clipping."""
    gamma: float = 0.99
    gae_lambda: float = 0.95
    ent_coef: float = 0.0
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5
    net_arch: tuple[int, ...] = (64, 64)
    """Hidden units of policy and value network."""
    activation: Literal["tanh", "relu"] = "tanh"
    image_network: Literal["nature", "small"] = "nature"
    """Of images, under `net_arch`: a name in `vision.NETWORKS`."""
    log_std_init: float = 0.0
    """Logarithm of the initial standard deviation of continuous actions."""
    optimiser: Literal["rmsprop", "adam"] = "rmsprop"
    """A2C's; PPO always takes Adam."""
    normalise_advantage: bool = True
    normalise_observations: bool = True
    """Running normalisation of what the policy sees; the reward model has its own."""
    normalise_reward: bool = True
    """Division of the reward, true or predicted, by the running deviation of its discounted sum: the scale of the value
    function, on which gradient clipping depends. It leaves the reward model's own normalisation alone."""

    def validate(self) -> None:
        """Raise UsageError for numbers that cannot work."""
        for name in ("n_envs", "n_steps", "batch_size", "n_epochs"):
            _require(getattr(self, name) >= 1, f"agent.{name} must be at least 1")
        _at_most("agent.n_envs", self.n_envs, 4096)
        _at_most("agent.n_envs times agent.n_steps", self.n_envs * self.n_steps, 2**22)
        _at_most("agent.n_epochs", self.n_epochs, 10_000)
        _at_most("agent.batch_size", self.batch_size, 2**22)
        for name in ("learning_rate", "clip_range", "max_grad_norm"):
            _require(getattr(self, name) > 0, f"agent.{name} must be positive")
        _require(self.target_kl is None or self.target_kl > 0, "agent.target_kl must be positive, or null")
        _require(self.batch_size >= 2, "agent.batch_size must be at least 2")
        _require(self.n_envs * self.n_steps >= 2, "agent.n_envs times agent.n_steps must be at least 2")
        _require(0 <= self.learning_rate_end <= 1, "agent.learning_rate_end must be in [0, 1]")
        _require(0 < self.gamma <= 1 and 0 <= self.gae_lambda <= 1, "agent.gamma and gae_lambda must be in [0, 1]")
        _check_widths("agent.net_arch", self.net_arch, copies=2)


@dataclass(frozen=True)
class RewardConfig:
    """The reward model and how it is fitted (paper, sections 2.2.1 and 2.2.3)."""

    members: int = 3
    """K, the predictors in the ensemble."""
    network: str = "mlp"
    """A name in `registry.NETWORKS`: `mlp` for vectors (appendix A.1), `cnn` for images (appendix A.2)."""
    hidden: tuple[int, ...] = (64, 64)
    """Hidden units of each MLP (appendix A.1)."""
    dropout: float = 0.5
    """Of the convolutions (appendix A.2)."""
    negative_slope: float = 0.01
    """Of the leaky ReLU (appendix A.1)."""
    learning_rate: float = 2e-3
    """Adam's; the paper does not give one."""
    batch_size: int = 16
    """Comparisons of each member in a gradient step, drawn from its own bootstrap."""
    error: float = 0.1
    """The probability that a teacher answers at random, assumed in the loss (section 2.2.3)."""
    loss: str = "bradley-terry"
    """A name in `registry.LOSSES`. `true-reward` regresses the task's reward instead: the paper's ablation `target`."""
    l2: float = 1e-4
    """Initial coefficient of each member's L2 penalty."""
    l2_rate: float = 0.016
    """Relative change of the coefficient each time the validation loss is measured (every 4 gradient steps)."""
    validation_low: float = 1.1
    """Validation loss over training loss under which the penalty is lowered."""
    validation_high: float = 1.5
    """... and over which it is raised."""
    target_std: float = 1.0
    """Standard deviation of the reward that the agent gets (1 for MuJoCo)."""
    normalise_over: Literal["comparisons", "rollouts"] = "comparisons"
    """Over what that reward has this deviation and mean zero (the paper does not say): the newest comparisons' clips,
    as runs of older versions had it, or the agent's newest rollouts, as the recipes have it."""
    comparisons_per_step: float = 0.1
    """Gradient work: comparisons that each member fits for an agent step. The paper's figure, for Atari, is about
    0.1."""
    pretrain_comparisons: int = 3200
    """Comparisons fitted before the agent trains."""
    buffer: int = 3000
    """The newest comparisons that are trained on (appendix A.2)."""

    def validate(self) -> None:
        """Raise UsageError for numbers that cannot work."""
        for name in ("members", "batch_size", "buffer", "pretrain_comparisons"):
            _require(getattr(self, name) >= 1, f"reward.{name} must be at least 1")
        _require(self.buffer >= self.batch_size, "reward.buffer must hold at least one batch (reward.batch_size)")
        _require(0 <= self.error < 1, "reward.error must be in [0, 1)")
        _require(0 <= self.dropout < 1, "reward.dropout must be in [0, 1)")
        _require(self.learning_rate > 0, "reward.learning_rate must be positive")
        _require(self.target_std > 0, "reward.target_std must be positive")
        _require(self.comparisons_per_step >= 0, "reward.comparisons_per_step must not be negative")
        _require(self.l2 >= 0 and 0 <= self.l2_rate < 1, "reward.l2 must not be negative, l2_rate in [0, 1)")
        _require(
            1 <= self.validation_low <= self.validation_high, "reward.validation_low/high must be 1 or more, in order"
        )
        _at_most("reward.members", self.members, 1000)
        _at_most("reward.buffer", self.buffer, 10**6)
        _at_most("reward.batch_size", self.batch_size, 2**16)
        _check_widths("reward.hidden", self.hidden, copies=self.members)


@dataclass(frozen=True)
class QueryConfig:
    """Which segments are compared, and when (paper, sections 2.2.2 and 2.2.4)."""

    labels: int = 700
    """The label budget N: comparisons answered left, right or equal."""
    initial_fraction: float = 0.25
    """Share of the budget asked before the agent trains (appendix A.1)."""
    schedule_constant: float | None = None
    """c of the label rate c / (T + c), in agent steps; None: a tenth of the run's."""
    schedule_bins: int = 0
    """The rate is held constant within each of this many equal parts of the run; 0: it falls continuously."""
    segment_length: int = 30
    """L, steps."""
    selection: Literal["variance", "entropy", "random"] = "variance"
    """`variance`: highest variance between members in the predicted preference; `entropy`: highest entropy of it, as in
    B-Pref; `random`: uniform."""
    candidate_clips: int | None = None
    """Clips of the pool, for each query wanted, among which the candidates are drawn; null for all. Predicting them is
    what selection costs where they are images."""
    candidate_factor: int = 10
    """Candidates drawn for each query that is asked (appendix A)."""
    pool: int = 1000
    """The newest segments that candidates are drawn from."""
    lead: int = 25
    """How many labels people may be behind the schedule before the agent waits for them (asynchronous mode)."""
    repeats: float = 0.05
    """How often people are asked again, with the sides swapped: for each answer, beside the budget."""

    initial_limit: int | None = None
    """... and no more than this."""

    @property
    def initial_labels(self) -> int:
        """Labels asked before training starts."""
        wanted = max(1, round(self.labels * self.initial_fraction))
        return min(wanted, self.initial_limit or wanted)

    def validate(self) -> None:
        """Raise UsageError for numbers that cannot work."""
        for name in ("labels", "segment_length", "candidate_factor"):
            _require(getattr(self, name) >= 1, f"queries.{name} must be at least 1")
        _require((self.candidate_clips or 2) >= 2, "queries.candidate_clips must be at least 2, or null")
        _require(self.pool >= 2, "queries.pool must hold at least 2 segments")
        for name, most in (("labels", 10**7), ("segment_length", 10**5), ("candidate_factor", 10**6), ("pool", 10**6)):
            _at_most(f"queries.{name}", getattr(self, name), most)
        _require(self.lead >= 0, "queries.lead must not be negative")
        _require(0 <= self.repeats <= 1, "queries.repeats must be in [0, 1]")
        _require(0 < self.initial_fraction <= 1, "queries.initial_fraction must be in (0, 1]")
        _require(self.initial_limit is None or self.initial_limit >= 1, "queries.initial_limit must be at least 1")
        _require(
            self.schedule_constant is None or self.schedule_constant > 0, "queries.schedule_constant must be positive"
        )
        _require(self.schedule_bins >= 0, "queries.schedule_bins must not be negative")


@dataclass(frozen=True)
class EvaluationConfig:
    """How the policy is evaluated: whole episodes of its mean action, on environments of their own."""

    episodes: int = 10
    """At the end of the run; 0: none."""
    every: int | None = None
    """Agent steps between two evaluations while the agent trains, at least; null: only at the end."""
    every_episodes: int = 3
    """Episodes of each of these."""
    max_steps: int = 27_000
    """Where an episode is cut that does not end by itself: 30 minutes of a game. No episode is longer than the run."""

    def validate(self) -> None:
        """Raise UsageError for numbers that cannot work."""
        _require(self.episodes >= 0, "evaluation.episodes must not be negative")
        _require(self.every is None or self.every >= 1, "evaluation.every must be at least 1, or null")
        for name in ("every_episodes", "max_steps"):
            _require(getattr(self, name) >= 1, f"evaluation.{name} must be at least 1")


@dataclass(frozen=True)
class RunConfig:
    """One run: everything that decides what it computes."""

    task: str
    """What the user called it."""
    env_id: str
    """The Gymnasium id."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """The arguments of the environment's constructor, as JSON values."""
    true_reward: bool = True
    """Whether the environment gives a reward of its own; where not, only people can say what is better."""
    horizon: int | None = None
    """Steps in an episode, where the task has one length."""
    frame_stack: int = 1
    """How many of the newest frames an observation is a stack of; 1: it is none."""
    native_engine: bool = False
    """Whether one engine steps all environments: fast, but without snapshots and a screen to show."""
    hide_endings: bool = False
    """Whether endings other than the time limit are hidden from the agent (bootstrapped as a time limit is)."""
    playback_fps: int = 30
    """Steps shown per second when a clip is played."""
    instruction: str = "Prefer the clip in which the agent does better."
    """What people are asked to prefer."""
    teacher: str = "oracle"
    algo: str = "ppo"
    """A name in `prefrl.registry.ALGORITHMS`."""
    mode: Mode = "async"
    seed: int = 0
    steps: int = 300_000
    """Agent steps in all, those before the first training step included."""
    device: Device = "auto"
    recipe: str = "default"
    ablation: str | None = None
    round_steps: int = 4096
    """Agent steps between two rounds of labelling and metrics, at least."""
    checkpoint_seconds: float = 20.0
    """Seconds between two checkpoints, at least."""
    agent: AgentConfig = field(default_factory=AgentConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    queries: QueryConfig = field(default_factory=QueryConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def images(self) -> bool:
        """Whether observations are images."""
        return NETWORKS[self.reward.network].images

    @property
    def learns_reward(self) -> bool:
        """Whether the agent learns from preferences; false for the baseline on the true reward."""
        return self.teacher != NO_TEACHER

    @property
    def synchronous(self) -> bool:
        """Whether the agent waits for labels and for the reward learner, so that the same seed gives the same run."""
        return self.mode == SYNC

    @property
    def asks_people(self) -> bool:
        """Whether people answer, who need clips to look at."""
        return self.teacher == HUMAN

    def validate(self) -> RunConfig:
        """Check every number; returns self.

        Raises:
            UsageError: with the first thing that cannot work.
        """
        _require(self.steps >= 1, "--steps must be at least 1")
        _require(0 <= self.seed < 2**32, "--seed must be in [0, 2^32)")
        _require(self.checkpoint_seconds >= 0, "checkpoint_seconds must not be negative")
        _require(self.round_steps >= 1, "round_steps must be at least 1")
        _at_most("--steps", self.steps, 10**12)
        _at_most("frame_stack", self.frame_stack, 1000)
        _require(self.frame_stack >= 1, "frame_stack must be at least 1")
        _require(1 <= self.playback_fps <= 1000, "playback_fps must be in [1, 1000]")
        _require(self.horizon is None or self.horizon >= 1, "horizon must be at least 1, or null")
        ALGORITHMS.check(self.algo)
        NETWORKS.check(self.reward.network)
        LOSSES.check(self.reward.loss)
        self.agent.validate()
        self.evaluation.validate()
        if self.learns_reward:
            self.reward.validate()
            self.queries.validate()
            self._validate_segments()
        return self

    def _validate_segments(self) -> None:
        """A run must be able to cut enough distinct pairs for its budget."""
        length = self.queries.segment_length
        if self.horizon is not None:
            _require(
                length <= self.horizon,
                f"a clip of {length} steps is longer than an episode of {self.task} ({self.horizon} steps)",
            )
        segments = self.segments_in_run
        pairs = segments * (segments - 1) // 2
        _require(
            self.queries.labels <= pairs,
            f"{self.queries.labels} labels are more than the {pairs} distinct pairs of segments that "
            f"{self.steps} steps can give",
        )

    @property
    def segments_in_run(self) -> int:
        """Segments that the whole run cuts, where episodes have the given length (or none end)."""
        length, per_env = self.queries.segment_length, self.steps // self.agent.n_envs
        if self.horizon is None:
            return self.agent.n_envs * (per_env // length)
        episodes, rest = divmod(per_env, self.horizon)
        return self.agent.n_envs * (episodes * (self.horizon // length) + rest // length)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RunConfig:
        """Back from plain data, every type checked.

        Raises:
            UsageError: for unknown, missing or mistyped fields.
        """
        config: RunConfig = conform(cls, data, "")
        return config.validate()


def _check_widths(name: str, widths: tuple[int, ...], *, copies: int) -> None:
    """Layers that a network can have, and that memory holds with their gradients and Adam's two moments."""
    _require(all(width >= 1 for width in widths), f"{name} needs widths of at least 1")
    _at_most(f"{name}'s layers", len(widths), 64)
    for width in widths:
        _at_most(name, width, _MOST_UNITS)
    weights = copies * sum(a * b for a, b in itertools.pairwise(widths))
    _at_most(f"the weights of {name}", weights, _MOST_WEIGHTS)


def _at_most(name: str, value: int, most: int) -> None:
    _require(value <= most, f"{name} cannot be {value:,}: the most is {most:,}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)
