"""Registries of algorithms, reward networks and losses. Add your own as an entry.

The built-in entries name their function as "module:name", like Gymnasium's entry points, so that a configuration can be
checked without importing torch. Other packages can add entries by entry points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pkgutil import resolve_name
from typing import Any, Generic, Self, TypeVar

from prefrl.errors import explain, unknown
from prefrl.printable import LONGEST_LINE, complain, printable

Entry = TypeVar("Entry")


class Registry(dict[str, Entry], Generic[Entry]):
    """Entries by name. Looking up an unknown name raises UsageError, which suggests the nearest names."""

    def __init__(self, setting: str, entries: dict[str, Entry]) -> None:
        """Initialise the registry.

        Args:
            setting: The setting that selects an entry, e.g. "reward.network".
            entries: Initial entries by name.
        """
        super().__init__(entries)
        self.setting = setting

    def check(self, name: str) -> None:
        """Raise UsageError if the name is unknown."""
        self[name]

    def extended(self, group: str, entry: Callable[[EntryPoint], Entry]) -> Self:
        """Add the entries of other packages. An entry that cannot be loaded is skipped with a warning.

        Args:
            group: Group of the entry points. Existing entries are not replaced.
            entry: Creates an entry from an entry point.
        """
        for entry_point in entry_points(group=group):
            try:
                self.setdefault(entry_point.name, entry(entry_point))
            except Exception as error:  # a broken package must not break the others
                line = f"prefrl: the {self.setting} {entry_point.name} ({entry_point.value}) cannot be loaded"
                complain(printable(f"{line}: {explain(error)}", LONGEST_LINE))
        return self

    def __missing__(self, name: str) -> Entry:
        raise unknown(self.setting, name, self)


@dataclass(frozen=True)
class AgentFamily:
    """What algorithms of one kind share, e.g. all on-policy ones. Functions may be named as "module:name"."""

    agent: Callable[..., Any] | str
    """(RunConfig, EnvStack, Logger) -> `prefrl.agents.agent.Agent`."""
    algorithm: Callable[..., Any] | str
    """(RunConfig, environments that the agent steps) -> Stable-Baselines3 model."""
    normalisations: tuple[str, ...]
    """Values of `reward.normalise_over` that its agent can use."""
    replays: bool = False
    """Whether it trains on a replay memory instead of on its newest rollout."""


ON_POLICY = AgentFamily(
    agent="prefrl.agents.on_policy:OnPolicyAgent",
    algorithm="prefrl.agents.algorithms:make_algorithm",
    normalisations=("rollouts", "aligned-rollouts", "comparisons", "none"),
)
OFF_POLICY = AgentFamily(
    agent="prefrl.agents.off_policy:OffPolicyAgent",
    algorithm="prefrl.agents.off_policy_algorithms:make_algorithm",
    normalisations=("memory", "comparisons", "none"),
    replays=True,
)


@dataclass(frozen=True)
class AlgorithmKind:
    """A reinforcement-learning algorithm."""

    make: Callable[..., Any] | str
    """(RunConfig, arguments shared by the family) -> Stable-Baselines3 model, or its "module:name"."""
    family: AgentFamily = ON_POLICY
    policy: Callable[..., Any] | str = "prefrl.agents.algorithms:actor_critic"
    """(RunConfig, action space) -> class of the policy, and its arguments (Stable-Baselines3's `policy_kwargs`)."""
    cloning: Callable[..., Any] | str = "prefrl.agents.cloning:log_likelihood"
    """A `prefrl.agents.cloning.CloningLoss`, or its "module:name"."""
    has_entropy_bonus: bool = True
    """Whether the objective has an entropy bonus. If not, the bonus is added to the reward."""
    actions: tuple[str, ...] = ()
    """Names of the action spaces that it can act in, e.g. "Box"; empty for all."""
    distribution: Callable[..., Any] | str = "prefrl.agents.distributions:of_actor_critic"
    """(policy, normalised observations, chance of exploring) -> `prefrl.agents.distributions.ActionDistribution`."""
    stochastic: bool = True
    """Whether its policy gives a probability to every action, so that it can be a reference policy."""
    penalised: bool = True
    """Whether it can be held near a reference policy."""
    unused: tuple[str, ...] = ()
    """Settings that it has no use for, which are refused; "off_policy." stands for all of this group."""

    def uses(self, setting: str) -> bool:
        """Whether a setting, by its full name, has an effect with this algorithm."""
        return not any(setting == name or (name.endswith(".") and setting.startswith(name)) for name in self.unused)


@dataclass(frozen=True)
class NetworkKind:
    """A network for the reward model."""

    factory: Callable[..., Any] | str
    """(RewardConfig, Inputs) -> `prefrl.reward.networks.RewardNetwork`, or its "module:name"."""
    images: bool = False
    """Whether its inputs are images rather than vectors."""


@dataclass(frozen=True)
class LossKind:
    """A loss for the reward model."""

    function: Callable[..., Any] | str
    """A `prefrl.reward.loss.Loss`, or its "module:name"."""
    is_likelihood: bool = False
    """Whether the function instead creates a `prefrl.reward.likelihood.Likelihood` from the `RunConfig`."""
    log_loss: bool = False
    """Whether it is the log loss of the judgements, which is ln 2 for a model that guesses."""
    arity: int | None = None
    """Number of segments of a label; None for any number."""
    by_step: bool | None = None
    """Whether targets have a number for each step; None for any target."""


def located(entry: Callable[..., Any] | str) -> Callable[..., Any]:
    """Return the function, imported if the entry is a "module:name"."""
    return resolve_name(entry) if isinstance(entry, str) else entry


_OFF, _DISTRIBUTIONS, _CLONING = (
    "prefrl.agents.off_policy_algorithms",
    "prefrl.agents.distributions",
    "prefrl.agents.cloning",
)


def _named(group: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{group}.{name}" for name in names)


_OF_ROLLOUTS = (
    *_named("agent", "n_epochs", "clip_range", "target_kl", "gae_lambda", "vf_coef", "ent_coef", "log_std_init"),
    *_named("agent", "normalise_advantage", "optimiser"),
)
_OF_CHANCE = _named("off_policy", "exploration_fraction", "exploration_final")
_OF_ALPHA = _named("off_policy", "alpha", "learn_alpha", "alpha_learning_rate")
_OF_SOFT_NETWORKS = _named("off_policy", "log_std_min", "log_std_bound", "layer_norm")
_OF_OUR_SAC = ("off_policy.alpha_learning_rate", *_OF_SOFT_NETWORKS)


def _soft(name: str, policy: str, *, penalised: bool, unused: tuple[str, ...] = ()) -> AlgorithmKind:
    """Return an off-policy algorithm with a squashed actor. Stable-Baselines3's own loss has no place for a penalty."""
    return AlgorithmKind(
        f"{_OFF}:{name}",
        OFF_POLICY,
        f"{_OFF}:{policy}",
        f"{_CLONING}:squashed_error",
        actions=("Box",),
        distribution=f"{_DISTRIBUTIONS}:of_actor",
        penalised=penalised,
        unused=(*_OF_ROLLOUTS, "agent.max_grad_norm", *_OF_CHANCE, *unused),
    )


def _greedy(name: str, distribution: str, cloning: str) -> AlgorithmKind:
    """Return an off-policy algorithm whose policy is the best action."""
    return AlgorithmKind(
        f"{_OFF}:{name}",
        OFF_POLICY,
        f"{_OFF}:{name}_policy",
        f"{_CLONING}:{cloning}",
        actions=("Discrete",),
        distribution=f"{_DISTRIBUTIONS}:{distribution}",
        stochastic=False,
        penalised=False,
        unused=(*_OF_ROLLOUTS, *_OF_ALPHA, *_OF_SOFT_NETWORKS, "off_policy.actor_interval"),
    )


ALGORITHMS: Registry[AlgorithmKind] = Registry(
    "algo",
    {
        "ppo": AlgorithmKind("prefrl.agents.algorithms:ppo", unused=("off_policy.", "agent.optimiser")),
        "a2c": AlgorithmKind(
            "prefrl.agents.algorithms:a2c",
            unused=("off_policy.", *_named("agent", "batch_size", "n_epochs", "clip_range", "target_kl")),
        ),
        "trpo": AlgorithmKind(
            "prefrl.agents.algorithms:trpo",
            has_entropy_bonus=False,
            unused=("off_policy.", *_named("agent", "clip_range", "vf_coef", "max_grad_norm", "optimiser")),
        ),
        "sac": _soft("sac", "soft_policy", penalised=True),
        "tqc": _soft("tqc", "tqc_policy", penalised=False, unused=(*_OF_OUR_SAC, "off_policy.actor_interval")),
        "crossq": _soft(
            *("crossq", "crossq_policy"),
            penalised=False,
            unused=(*_OF_OUR_SAC, "off_policy.tau", "off_policy.target_interval"),
        ),
        "dqn": _greedy("dqn", "of_values", "value_margin"),
        "qrdqn": _greedy("qrdqn", "of_quantiles", "quantile_margin"),
    },
)
_RULES: dict[str, Callable[..., Any] | str] = {
    "bucket": "prefrl.imitation.rules:bucket",
    "share": "prefrl.imitation.rules:share",
    "chance": "prefrl.imitation.rules:chance",
}
IMITATION_RULES: Registry[Callable[..., Any] | str] = Registry("imitation.rule", _RULES).extended(
    "prefrl.imitation_rules", lambda entry_point: entry_point.value
)
"""Which rated segments are imitated; see `prefrl.imitation.rules`."""
NETWORKS: Registry[NetworkKind] = Registry(
    "reward.network",
    {
        "mlp": NetworkKind("prefrl.reward.networks:StackedMLP.from_config"),
        "cnn": NetworkKind("prefrl.reward.image_networks:StackedCNN.from_config", images=True),
        "small-cnn": NetworkKind("prefrl.reward.image_networks:SmallCNN.from_config", images=True),
    },
)
LOSSES: Registry[LossKind] = Registry(
    "reward.loss",
    {
        "bradley-terry": LossKind("prefrl.reward.loss:bradley_terry", log_loss=True, arity=2, by_step=False),
        "proportional-odds": LossKind(
            "prefrl.reward.ordinal:ProportionalOdds.from_config", is_likelihood=True, arity=1, by_step=False
        ),
        "step-odds": LossKind(
            "prefrl.reward.step_odds:StepOdds.from_config", is_likelihood=True, arity=1, by_step=True
        ),
        "true-reward": LossKind("prefrl.reward.loss:true_reward"),
    },
).extended("prefrl.losses", lambda entry_point: LossKind(entry_point.value))
