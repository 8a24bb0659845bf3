"""The configuration of a run as frozen dataclasses, which `config.json` stores.

Every number is validated here once, so that the rest of the package can rely on a valid configuration.
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
"""Largest width of a hidden layer."""
_MOST_WEIGHTS = 10**8
"""Most weights between hidden layers, over all copies of a network: 1.6 GB with gradients and the optimiser's state."""


@dataclass(frozen=True)
class AgentConfig:
    """The Stable-Baselines3 agent and its environments."""

    n_envs: int = 8
    """Number of environments that are stepped together."""
    n_steps: int = 256
    """Steps per environment in a rollout."""
    learning_rate: float = 3e-4
    learning_rate_decay: bool = False
    """Whether the learning rate falls linearly during the run."""
    learning_rate_end: float = 0.0
    """Final learning rate, as a fraction of `learning_rate`, if it falls."""
    batch_size: int = 256
    """Minibatch size in steps (PPO; value network of TRPO)."""
    n_epochs: int = 10
    """Passes over a rollout (PPO), or of the value network over a rollout (TRPO)."""
    target_kl: float | None = None
    """Limit on the KL divergence of a policy update, in nats; null for Stable-Baselines3's default. TRPO: bound of a
    step (default: 0.01). PPO: an update stops early when a minibatch's estimate exceeds 1.5 times this (default: no
    early stopping)."""
    clip_range: float = 0.2
    """Clipping range of PPO's probability ratio."""
    gamma: float = 0.99
    """Discount factor."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    ent_coef: float = 0.0
    """Coefficient of the entropy bonus."""
    vf_coef: float = 0.5
    """Coefficient of the value loss."""
    max_grad_norm: float = 0.5
    """Largest norm of a gradient, to which gradients are clipped."""
    net_arch: tuple[int, ...] = (64, 64)
    """Hidden units of the policy network and of the value network."""
    activation: Literal["tanh", "relu"] = "tanh"
    image_network: Literal["nature", "small"] = "nature"
    """Network that extracts features from images, before `net_arch`: a name in `image_policy.IMAGE_NETWORKS`."""
    log_std_init: float = 0.0
    """Logarithm of the initial standard deviation of continuous actions."""
    optimiser: Literal["rmsprop", "adam"] = "rmsprop"
    """Optimiser of A2C. PPO always uses Adam."""
    normalise_advantage: bool = True
    """Whether advantages are normalised (PPO, A2C)."""
    normalise_observations: bool = True
    """Whether the policy's observations are normalised by running statistics. The reward model has its own
    normalisation."""
    normalise_reward: bool = True
    """Whether the reward, true or predicted, is divided by the running standard deviation of its discounted sum. This
    scales the value function, on which gradient clipping depends. It does not change the reward model's own
    normalisation. Off-policy agents divide only the true reward."""

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
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
class OffPolicyConfig:
    """Settings of off-policy agents (SAC, DQN, QR-DQN) in addition to those in `AgentConfig`.

    `agent.n_steps` is the number of steps per environment between two calls of training.
    """

    memory: int = 1_000_000
    """Number of newest steps in the replay memory; never more than the run's steps."""
    random_steps: int = 1000
    """Steps with random actions at the start. The agent does not train before them."""
    updates_per_step: float = 1.0
    """Gradient steps per agent step."""
    tau: float = 0.005
    """Rate of the moving average that is the target network; 1 for copies."""
    target_interval: int = 1
    """Gradient steps between two updates of the target network (SAC), or agent steps (DQN, QR-DQN)."""
    alpha: float = 1.0
    """Initial entropy coefficient of SAC."""
    learn_alpha: bool = True
    """Whether SAC learns its entropy coefficient, towards an entropy of minus the number of action dimensions."""
    alpha_learning_rate: float | None = None
    """Learning rate of the entropy coefficient; null for that of the networks."""
    log_std_min: float = -20.0
    """Smallest logarithm of the standard deviation of SAC's actions, before tanh; the largest is 2."""
    layer_norm: bool = False
    """Whether each hidden layer of SAC's critics is followed by layer normalisation."""
    exploration_fraction: float = 0.1
    """Fraction of the run over which the probability of random actions falls linearly from 1 (DQN, QR-DQN)."""
    exploration_final: float = 0.01
    """Final probability of random actions (DQN, QR-DQN)."""
    fresh_critic: bool = False
    """Whether the value networks are initialised anew when the first learned rewards replace those of exploration."""
    fresh_updates: int = 100
    """Gradient steps that follow at once."""
    recent_steps: int = 0
    """Number of newest steps from which `recent_fraction` of each batch is drawn; 0 to draw from the whole memory."""
    recent_fraction: float = 0.5
    """Expected fraction of a batch that is drawn from the newest steps (hybrid experience replay of QPA, Hu et al.,
    2024, which does so only as long as labels are asked for)."""

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
        for name in ("memory", "target_interval"):
            _require(getattr(self, name) >= 1, f"off_policy.{name} must be at least 1")
        _at_most("off_policy.memory", self.memory, 10**9)
        _require(self.random_steps >= 0, "off_policy.random_steps must not be negative")
        _require(0 < self.updates_per_step <= 1000, "off_policy.updates_per_step must be in (0, 1000]")
        _require(0 < self.tau <= 1, "off_policy.tau must be in (0, 1]")
        _require(self.alpha > 0, "off_policy.alpha must be positive")
        rate = self.alpha_learning_rate
        _require(rate is None or rate > 0, "off_policy.alpha_learning_rate must be positive, or null")
        _require(self.log_std_min < 2, "off_policy.log_std_min must be below 2")
        for name in ("exploration_fraction", "exploration_final", "recent_fraction"):
            _require(0 <= getattr(self, name) <= 1, f"off_policy.{name} must be in [0, 1]")
        for name in ("fresh_updates", "recent_steps"):
            _require(getattr(self, name) >= 0, f"off_policy.{name} must not be negative")


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
        _require(self.steps >= 0, "exploration.steps must not be negative")
        _require(self.neighbours >= 1, "exploration.neighbours must be at least 1")
        for name in ("state_entropy", "disagreement"):
            _require(getattr(self, name) >= 0, f"exploration.{name} must not be negative")
        _require(0 <= self.disagreement_decay < 1, "exploration.disagreement_decay must be in [0, 1)")

    @property
    def rewards_states(self) -> bool:
        """Whether the entropy of states is a reward at any time."""
        return self.steps > 0 or self.state_entropy > 0


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
    normalise_over: Literal["comparisons", "rollouts", "aligned-rollouts", "memory"] = "comparisons"
    """Data on which the reward is normalised to mean zero and `target_std` (the paper does not specify it): the clips
    of the newest comparisons, as in older versions; the agent's newest rollouts, as in all recipes for vectors; those
    rollouts without the offset that a fit adds to all rewards, as in all recipes for images; or the replay memory of
    an off-policy agent."""
    comparisons_per_step: float = 0.1
    """Comparisons that each member fits per agent step. The paper uses about 0.1 for Atari."""
    pretrain_comparisons: int = 3200
    """Comparisons that each member fits before the agent trains."""
    buffer: int = 3000
    """Number of newest comparisons that are trained on (appendix A.2)."""

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
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
    """Selection and schedule of the queries (paper, sections 2.2.2 and 2.2.4)."""

    labels: int = 700
    """N, the label budget: the number of answers that count, e.g. comparisons answered left, right or equal."""
    initial_fraction: float = 0.25
    """Fraction of the budget that is asked before the agent trains (appendix A.1)."""
    schedule_constant: float | None = None
    """c of the label rate c / (T + c), in agent steps; null for a tenth of the run's steps."""
    schedule_bins: int = 0
    """Number of equal parts of the run within each of which the label rate is constant; 0 for a continuous decrease."""
    segment_length: int = 30
    """L, the number of steps in a segment."""
    selection: Literal["variance", "entropy", "random"] = "variance"
    """Selection rule. `variance`: highest variance of the predicted preference over the members; `entropy`: highest
    entropy of the predicted preference, as in B-Pref; `random`: uniform."""
    candidate_clips: int | None = None
    """Number of clips per query from which the candidate pairs are drawn; null for the whole pool. With images, most of
    the cost of selection is predicting these clips."""
    candidate_factor: int = 10
    """Number of candidate pairs per query (appendix A)."""
    pool: int = 1000
    """Number of newest segments from which candidates are drawn."""
    lead: int = 25
    """Number of labels that people may be behind the schedule before the agent waits for them (asynchronous mode)."""
    repeats: float = 0.05
    """Repeated queries to people, with the sides swapped, per answer. They do not count towards the budget."""

    initial_limit: int | None = None
    """Largest number of labels that are asked before the agent trains; null for no limit."""

    @property
    def initial_labels(self) -> int:
        """Number of labels before training starts."""
        wanted = max(1, round(self.labels * self.initial_fraction))
        return min(wanted, self.initial_limit or wanted)

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
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
        _require(self.episodes >= 0, "evaluation.episodes must not be negative")
        _require(self.every is None or self.every >= 1, "evaluation.every must be at least 1, or null")
        for name in ("every_episodes", "max_steps"):
            _require(getattr(self, name) >= 1, f"evaluation.{name} must be at least 1")


@dataclass(frozen=True)
class RunConfig:
    """The configuration of one run: everything that determines its results."""

    task: str
    """Name of the task, as the user gave it."""
    env_id: str
    """Gymnasium id of the environment."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment's constructor, as JSON values."""
    true_reward: bool = True
    """Whether the environment has a reward of its own. If not, only people can compare clips."""
    horizon: int | None = None
    """Steps in an episode, if all episodes have the same length."""
    frame_stack: int = 1
    """Number of frames that an observation stacks; 1 for none."""
    native_engine: bool = False
    """Whether one native engine steps all environments. It is fast, but has neither snapshots nor rendering."""
    hide_endings: bool = False
    """Whether terminations are hidden from the agent and bootstrapped like a time limit."""
    playback_fps: int = 30
    """Steps per second at which a clip is played."""
    instruction: str = "Prefer the clip in which the agent does better."
    """Instruction that is shown to people."""
    teacher: str = "oracle"
    """Who answers; see `Request.teacher`."""
    feedback: str = "comparison"
    """The kind of query, a name in `prefrl.feedback.kinds.KINDS`."""
    algo: str = "ppo"
    """Algorithm of the agent, a name in `prefrl.registry.ALGORITHMS`."""
    mode: Mode = "async"
    """Whether the reward learner runs in its own process (async) or alternates with the agent (sync)."""
    seed: int = 0
    """Seed of all random number generators."""
    steps: int = 300_000
    """Total number of agent steps, including those before training starts."""
    device: Device = "auto"
    """Device of the reward model."""
    recipe: str = "default"
    """Name of the recipe."""
    ablation: str | None = None
    """Name of the ablation, if any."""
    round_steps: int = 4096
    """Minimum number of agent steps between two rounds of labelling and metrics."""
    checkpoint_seconds: float = 20.0
    """Minimum time between two checkpoints, in seconds."""
    agent: AgentConfig = field(default_factory=AgentConfig)
    off_policy: OffPolicyConfig = field(default_factory=OffPolicyConfig)
    exploration: ExplorationConfig = field(default_factory=ExplorationConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    queries: QueryConfig = field(default_factory=QueryConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def images(self) -> bool:
        """Whether observations are images."""
        return NETWORKS[self.reward.network].images

    @property
    def learns_reward(self) -> bool:
        """Whether the agent learns from preferences; False for the baseline on the true reward."""
        return self.teacher != NO_TEACHER

    @property
    def synchronous(self) -> bool:
        """Whether the agent waits for labels and for the reward learner, so that the seed determines the results."""
        return self.mode == SYNC

    @property
    def asks_people(self) -> bool:
        """Whether people answer, who need clips to watch."""
        return self.teacher == HUMAN

    def validate(self) -> RunConfig:
        """Validate every value and return self.

        Raises:
            UsageError: for the first invalid value.
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
        self.off_policy.validate()
        self.exploration.validate()
        self.evaluation.validate()
        if self.learns_reward:
            self.reward.validate()
            self.queries.validate()
            self._validate_segments()
            self._validate_normalisation()
            self._validate_exploration()
        return self

    @property
    def memory_steps(self) -> int:
        """Steps that a replay memory holds at most, rounded up to whole steps of all environments."""
        return -(-min(self.off_policy.memory, self.steps) // self.agent.n_envs) * self.agent.n_envs

    def _validate_exploration(self) -> None:
        """Check that there are vectors to compare, and steps left to train on labels."""
        _require(
            not (self.images and self.exploration.rewards_states), "the entropy of states is for vectors, not images"
        )
        _require(self.exploration.steps < self.steps, "exploration.steps must be less than --steps")

    def _validate_normalisation(self) -> None:
        """Check that the algorithm's agent can normalise its reward as configured."""
        usable, chosen = ALGORITHMS[self.algo].family.normalisations, self.reward.normalise_over
        _require(chosen in usable, f"{self.algo} needs reward.normalise_over={' or '.join(usable)}, not {chosen}")

    def _validate_segments(self) -> None:
        """Check that a segment fits into an episode."""
        length = self.queries.segment_length
        if self.horizon is not None:
            _require(
                length <= self.horizon,
                f"a clip of {length} steps is longer than an episode of {self.task} ({self.horizon} steps)",
            )

    @property
    def segments_in_run(self) -> int:
        """Number of segments that the whole run records, if all episodes have `horizon` steps, or never end."""
        length, per_env = self.queries.segment_length, self.steps // self.agent.n_envs
        if self.horizon is None:
            return self.agent.n_envs * (per_env // length)
        episodes, rest = divmod(per_env, self.horizon)
        return self.agent.n_envs * (episodes * (self.horizon // length) + rest // length)

    def to_json(self) -> dict[str, Any]:
        """Convert to plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> RunConfig:
        """Create a configuration from plain data, and validate types and values.

        Raises:
            UsageError: for unknown, missing or invalid fields.
        """
        config: RunConfig = conform(cls, data, "")
        return config.validate()


def _check_widths(name: str, widths: tuple[int, ...], *, copies: int) -> None:
    """Check that a network's layers fit into memory with their gradients and Adam's two moments."""
    _require(all(width >= 1 for width in widths), f"{name} needs widths of at least 1")
    _at_most(f"{name}'s layers", len(widths), 64)
    for width in widths:
        _at_most(name, width, _MOST_UNITS)
    weights = copies * sum(a * b for a, b in itertools.pairwise(widths))
    _at_most(f"the weights of {name}", weights, _MOST_WEIGHTS)


def _at_most(name: str, value: int, most: int) -> None:
    _require(value <= most, f"{name} must be at most {most:,}, not {value:,}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise UsageError(message)
