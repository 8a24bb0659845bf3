"""The configuration of a run as frozen dataclasses, which `config.json` stores.

Every number is validated here once, so that the rest of the package can rely on a valid configuration.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from prefrl.config.agent_config import AgentConfig
from prefrl.config.checks import at_most, require
from prefrl.config.demonstration_config import DemonstrationConfig
from prefrl.config.evaluation_config import EvaluationConfig
from prefrl.config.exploration_config import ExplorationConfig
from prefrl.config.feedback_shares import feedback_shares, losses_by_kind
from prefrl.config.imitation_config import ImitationConfig
from prefrl.config.judge_config import JudgeConfig
from prefrl.config.kl_config import KLConfig
from prefrl.config.off_policy_config import OffPolicyConfig
from prefrl.config.query_config import QueryConfig
from prefrl.config.reward_config import RewardConfig
from prefrl.config.typed import conform
from prefrl.registry import ALGORITHMS, IMITATION_RULES, LOSSES, NETWORKS

Mode = Literal["async", "sync"]
ASYNC: Mode = "async"
SYNC: Mode = "sync"
REWARD_MODEL = "reward-model"
"""The learner that is a reward model."""
NO_TEACHER = "none"
"""The teacher of the baseline, whose agent trains on the true reward."""
HUMAN = "human"
"""The teacher that stands for people, who answer in `prefrl label`."""
Device = Literal["auto", "cpu", "cuda"]
ONE_REWARD = "--reward RUN trains without labels: leave out --teacher, --labels and --labels-from"


def includes_people(teacher: str) -> bool:
    """Return whether people answer: all queries, or those that a judge passes on (`judge+human`)."""
    return teacher.rpartition("+")[2] == HUMAN


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
    observe: tuple[int, ...] | None = None
    """Places of the numbers of the observation that the agent gets; null for all."""
    native_engine: bool = False
    """Whether one native engine steps all environments. It is fast, but has neither snapshots nor rendering."""
    hide_endings: bool = False
    """Whether terminations are hidden from the agent and bootstrapped like a time limit."""
    playback_fps: int = 30
    """Steps per second at which a clip is played."""
    instruction: str = "Prefer the clip in which the agent does better."
    """Instruction that is shown to people who compare clips."""
    aim: str = ""
    """What is good, for people who are asked something else: sentences that begin in "Good means that". If empty,
    they see the instruction."""
    teacher: str = "oracle"
    """Who answers; see `Request.teacher`."""
    reward_model: str | None = None
    """Run whose reward model, which was copied from it and never changes, is the agent's reward; null for none."""
    feedback: str = "comparison"
    """The kind of query, a name in `prefrl.feedback.kinds.KINDS`, or several kinds; see `feedback_shares`."""
    learner: Literal["reward-model", "imitation"] = "reward-model"
    """What learns from labels: a reward model, whose reward the agent maximises, or the agent itself, which imitates
    its best segments."""
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
    kl: KLConfig = field(default_factory=KLConfig)
    demonstrations: DemonstrationConfig = field(default_factory=DemonstrationConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    queries: QueryConfig = field(default_factory=QueryConfig)
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    imitation: ImitationConfig = field(default_factory=ImitationConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def images(self) -> bool:
        """Whether observations are images."""
        return NETWORKS[self.reward.network].images

    @property
    def draws_actions(self) -> bool:
        """Whether images get the action as one more channel, for the reward model to read."""
        return self.images and bool(self.reward.reads_actions)

    @property
    def automatic_labels(self) -> int:
        """Number of labels that prefer demonstrated clips."""
        if self.demonstrations.source is None or not self.learns_reward:
            return 0
        chosen = self.demonstrations.labels
        return self.queries.initial_labels if chosen is None else chosen

    @property
    def takes_labels(self) -> bool:
        """Whether the run asks for labels; False for the baseline on the true reward and on frozen reward models."""
        return self.teacher != NO_TEACHER

    @property
    def learns_reward(self) -> bool:
        """Whether a reward model learns from the labels."""
        return self.takes_labels and self.learner == REWARD_MODEL

    @property
    def imitates(self) -> bool:
        """Whether the agent imitates its best segments, instead of maximising a reward."""
        return self.takes_labels and self.learner != REWARD_MODEL

    @property
    def unrewarded(self) -> str:
        """Why a run that learns no reward has no reward model, in words that follow its name."""
        return (
            f"{'imitates its best clips' if self.imitates else 'learns from no labels'}: it has learned no reward model"
        )

    @property
    def shares(self) -> dict[str, float]:
        """The feedback kinds that are asked, each with its share of the labels."""
        return feedback_shares(self.feedback)

    @property
    def losses(self) -> dict[str, str]:
        """The name in `registry.LOSSES` of the loss for each feedback kind."""
        return losses_by_kind(self.shares, self.reward.loss)

    @property
    def reward_source(self) -> str:
        """Where the agent's reward comes from, a name in `prefrl.assembly.SOURCES`."""
        if self.learns_reward:
            return "labels"
        return "task" if self.reward_model is None else "model"

    @property
    def predicts_reward(self) -> bool:
        """Whether the agent's reward is a reward model's, be it learned in this run or frozen."""
        return self.learns_reward or self.reward_model is not None

    @property
    def computes_reward(self) -> bool:
        """Whether the agent's reward is computed from the recorded steps, instead of the environments' own.

        A penalty of off-policy agents is no part of the reward.
        """
        return self.predicts_reward or (self.kl.penalises and not ALGORITHMS[self.algo].family.replays)

    @property
    def synchronous(self) -> bool:
        """Whether the agent waits for labels and for the reward learner, so that the seed determines the results."""
        return self.mode == SYNC

    @property
    def asks_people(self) -> bool:
        """Whether people answer, who need clips to watch."""
        return includes_people(self.teacher)

    def validate(self) -> RunConfig:
        """Validate every value and return self.

        Raises:
            UsageError: for the first invalid value.
        """
        require(self.steps >= 1, "--steps must be at least 1")
        require(0 <= self.seed < 2**32, "--seed must be in [0, 2^32)")
        require(self.checkpoint_seconds >= 0, "checkpoint_seconds must not be negative")
        require(self.round_steps >= 1, "round_steps must be at least 1")
        at_most("--steps", self.steps, 10**12)
        at_most("frame_stack", self.frame_stack, 1000)
        require(self.frame_stack >= 1, "frame_stack must be at least 1")
        require(1 <= self.playback_fps <= 1000, "playback_fps must be in [1, 1000]")
        require(self.horizon is None or self.horizon >= 1, "horizon must be at least 1, or null")
        self._validate_read()
        ALGORITHMS.check(self.algo)
        NETWORKS.check(self.reward.network)
        for loss in self.losses.values():
            LOSSES.check(loss)
        self.agent.validate()
        rollout = self.agent.n_envs * self.agent.n_steps
        replays = ALGORITHMS[self.algo].family.replays
        require(rollout >= 2 or replays, "agent.n_envs times agent.n_steps must be at least 2")
        self.off_policy.validate()
        self.exploration.validate()
        self._validate_kl()
        self.demonstrations.validate()
        self.judge.validate()
        self.imitation.validate()
        IMITATION_RULES.check(self.imitation.rule)
        self.evaluation.validate()
        if self.predicts_reward:
            self.reward.validate()
            self._validate_normalisation()
        if self.takes_labels:
            self.queries.validate()
            self._validate_segments()
            self._validate_exploration()
            require(self.reward_model is None, ONE_REWARD)
        if self.imitates:
            self._validate_imitation()
        return self

    @property
    def memory_steps(self) -> int:
        """Steps that a replay memory holds at most: of all environments together, and no more than the run takes.

        A run ends with a whole rollout, which must fit, so that a longer run can go on with the whole memory.
        """
        each, rollout = self.agent.n_envs, self.agent.n_envs * self.agent.n_steps
        return min(-(-self.off_policy.memory // each) * each, -(-self.steps // rollout) * rollout)

    def _validate_kl(self) -> None:
        """Check that there is a reference for a penalty, and that the algorithm can have one."""
        self.kl.validate()
        usable = ", ".join(name for name, kind in ALGORITHMS.items() if kind.penalised)
        able = not self.kl.penalises or ALGORITHMS[self.algo].penalised
        require(able, f"{self.algo} cannot be held near a reference policy: --kl needs --algo {usable}")

    def _validate_imitation(self) -> None:
        """Check that there are ratings to choose by, and nothing that only a reward can be used for."""
        require(tuple(self.shares) == ("rating",), "--learner imitation chooses by ratings: use --feedback rating")
        bucket, steps = self.imitation.bucket, self.queries.rating_steps
        require(bucket is None or bucket <= steps, f"imitation.bucket must be at most {steps}, the highest rating")
        for given, unusable in (
            (self.exploration.steps, "exploration.steps"),
            (self.kl.penalises, "--kl and --kl-target"),
        ):
            require(not given, f"--learner imitation maximises no reward, so {unusable} cannot be used")

    def _validate_read(self) -> None:
        """Check what the reward model and the agent read of a step."""
        if self.observe is None:
            return
        require(len(self.observe) > 0, "observe must name at least one number, or be null")
        require(len(set(self.observe)) == len(self.observe), "observe must not name a number twice")
        require(all(0 <= place < 10**9 for place in self.observe), "observe must name places from 0")
        require(not self.images, "observe is for vectors, not images")

    def _validate_exploration(self) -> None:
        """Check that there are vectors to compare, and steps left to train on labels."""
        require(
            not (self.images and self.exploration.rewards_states), "the entropy of states is for vectors, not images"
        )
        require(self.exploration.steps < self.steps, "exploration.steps must be less than --steps")

    def _validate_normalisation(self) -> None:
        """Check that the algorithm's agent can normalise its reward as configured."""
        usable, chosen = ALGORITHMS[self.algo].family.normalisations, self.reward.normalise_over
        require(chosen in usable, f"{self.algo} needs reward.normalise_over={' or '.join(usable)}, not {chosen}")

    def _validate_segments(self) -> None:
        """Check that a segment fits into an episode."""
        length = self.queries.segment_length
        if self.horizon is not None:
            require(
                length <= self.horizon,
                f"a clip of {length} steps is longer than an episode of {self.task} ({self.horizon} steps)",
            )
        if crop := self.reward.crop:
            require(crop[1] <= length, f"reward.crop is up to {crop[1]} steps, but a clip has {length}")
        self._validate_sessions()

    def _validate_sessions(self) -> None:
        """Check that the sessions of queries can spend the label budget."""
        queries = self.queries
        if (steps := queries.session_steps) is None:
            return
        require(
            self.round_steps <= steps,
            f"round_steps must not exceed queries.session_steps, which is {steps:,}: sessions are held at rounds",
        )
        each = queries.session_labels or queries.initial_labels
        sessions = 1 + max(0, self.steps - 1) // steps
        require(
            sessions * each >= queries.labels,
            f"sessions of {each} labels every {steps:,} steps ask for {sessions * each} of {queries.labels} labels in "
            f"{self.steps:,} steps: raise queries.session_labels, or lower queries.session_steps or --labels",
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
