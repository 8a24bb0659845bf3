"""The tables of settings that recipes consist of. docs/recipes.md and docs/off-policy.md say where these come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from prefrl.recipes.off_policy import (
    MANIPULATION,
    PEBBLE,
    PEBBLE_TASKS,
    QPA,
    QPA_TASKS,
    RUNE,
    RUNE_TASKS,
    SURF,
    WITHOUT,
)
from prefrl.registry import Registry

Settings = dict[str, Any]

_OFF_POLICY: Settings = {
    "agent.activation": "relu",
    "agent.normalise_observations": False,
    "agent.normalise_reward": False,
    "reward.normalise_over": "memory",
}
_SOFT: Settings = _OFF_POLICY | {
    "agent.n_steps": 8,
    "agent.learning_rate": 1e-3,
    "agent.net_arch": [128, 128],
    "off_policy.updates_per_step": 0.5,
    "off_policy.recent_steps": 10_000,
    # A replay memory teaches the agent from few steps, so labels are of what it does now, whichever pairs they are.
    "queries.pool": 200,
    "queries.selection": "random",
    # Fits to few labels generalise only if they are held back from the first one on, and averaged.
    "reward.l2": 0.1,
    "reward.members": 7,
}
_IMAGE_SOFT: Settings = _OFF_POLICY | {
    "agent.n_steps": 8,
    "agent.image_network": "small",
    "off_policy.memory": 50_000,
}
_DQN: Settings = _OFF_POLICY | {
    "agent.n_steps": 4,
    "agent.learning_rate": 1e-3,
    "agent.max_grad_norm": 10.0,
    "off_policy.updates_per_step": 0.25,
    "off_policy.tau": 1.0,
    "off_policy.target_interval": 1000,
}
_IMAGE_DQN: Settings = _DQN | {
    "agent.image_network": "small",
    "agent.learning_rate": 2.5e-4,
    "agent.batch_size": 32,
    "off_policy.memory": 100_000,
    "off_policy.random_steps": 10_000,
    "off_policy.target_interval": 8000,
    "off_policy.exploration_fraction": 0.1,
}

EXPLORERS = frozenset({"sac", "tqc", "crossq"})
"""Algorithms whose agents, on vectors, explore before the first labels (PEBBLE: Lee et al., 2021) and afterwards."""
EXPLORED_STEPS, EXPLORED_SHARE = 10_000, 0.1
"""Most steps of the exploration before the first labels, and its largest share of the run."""
EXPLORED_LABELS = 0.5
"""Share of the labels that are about clips of exploration, which differ most; people are asked fewer at first."""
STATE_ENTROPY = 0.2
"""Coefficient of the states' entropy in the agent's reward afterwards."""

ALGOS: dict[str, Settings] = {
    "ppo": {
        "agent.learning_rate": 1e-3,
        "agent.learning_rate_decay": True,
        "agent.gamma": 0.995,
        "agent.log_std_init": -1.0,
    },
    "a2c": {
        "agent.n_steps": 16,
        "agent.learning_rate": 2e-3,
        "agent.learning_rate_decay": True,
        "agent.log_std_init": -1.0,
    },
    "trpo": {
        "agent.learning_rate": 1e-3,
        "agent.gamma": 0.995,
        "agent.gae_lambda": 0.97,
        "agent.log_std_init": -1.0,
    },
    "sac": _SOFT | {"off_policy.actor_interval": 2, "off_policy.layer_norm": True},
    "tqc": _SOFT,
    "crossq": _SOFT | {"off_policy.actor_interval": 3},
    "dqn": _DQN,
    "qrdqn": _DQN,
}
"""Agents on vectors. TRPO uses the paper's discount factor and lambda (appendix A.1)."""

IMAGES: dict[str, Settings] = {
    "ppo": {
        "agent.image_network": "small",
        "agent.n_steps": 128,
        "agent.n_epochs": 4,
        "agent.learning_rate": 5e-4,
        "agent.learning_rate_decay": True,
        "agent.clip_range": 0.1,
        "agent.gamma": 0.99,
        "agent.ent_coef": 0.01,
    },
    "a2c": {
        "agent.n_envs": 16,
        "agent.n_steps": 5,
        "agent.learning_rate": 7e-4,
        "agent.learning_rate_decay": True,
        "agent.gae_lambda": 1.0,
        "agent.ent_coef": 0.01,
        "agent.normalise_advantage": False,
    },
    "trpo": {"agent.n_steps": 128, "agent.learning_rate": 1e-3, "agent.gamma": 0.99},
    "sac": _IMAGE_SOFT,
    "tqc": _IMAGE_SOFT,
    "crossq": _IMAGE_SOFT,
    "dqn": _IMAGE_DQN,
    "qrdqn": _IMAGE_DQN,
}
"""Agents on images: the usual settings for Atari, except that PPO has a smaller network and a higher learning rate."""

IMAGE_REWARD: Settings = {
    "agent.net_arch": [],
    "agent.normalise_observations": False,
    "reward.network": "small-cnn",
    "reward.learning_rate": 1e-3,
    "reward.normalise_over": "aligned-rollouts",  # a fit moves the rewards' offset by many deviations
    "reward.target_std": 0.05,
    "reward.comparisons_per_step": 0.02,
    "reward.pretrain_comparisons": 4800,
    "queries.labels": 2000,
    "queries.initial_fraction": 0.1,
    "queries.initial_limit": 500,
    "queries.pool": 256,
    "queries.candidate_clips": 4,
    "checkpoint_seconds": 60.0,
    "steps": 1_000_000,
}
"""Other settings for images. Fitting a comparison costs a thousand times as much as with vectors."""

IMAGE_REWARD_ON_GPU: Settings = {"reward.comparisons_per_step": 0.1, "reward.pretrain_comparisons": 20_000}
"""Gradient work on a GPU, about as much as in the paper."""

LEARNED_REWARD: Settings = {"reward.normalise_over": "rollouts"}
"""If normalised over the newest comparisons instead, the reward's mean and deviation drift as the agent learns."""

HUMAN: Settings = {"steps": 10_000_000, "reward.comparisons_per_step": 0.01}
"""Runs with people on vectors. 10 M steps take about as long as a person needs for 700 labels."""
HUMAN_REPLAYS: Settings = {"steps": 1_000_000}
"""The same with an agent that has a replay memory, which takes a tenth of the steps in that time."""
HUMAN_SCALES: dict[str, Settings] = {
    "moving-dot": {"steps": 200_000, "reward.comparisons_per_step": 0.02, "queries.lead": 10},
}
"""Runs with people on tasks that take minutes. The lead is small, because labels at the end come too late to help."""

_UNEXPLORED: Settings = {"exploration.steps": 0, "exploration.state_entropy": 0.0}
"""Tasks whose SAC agent learns from the first labels on: exploration costs it time."""
_EVENLY: Settings = {"queries.initial_fraction": 0.1, "queries.schedule_constant": 1e7}
"""Labels at an even rate, as in B-Pref: its agents of Meta-World move what they are to move late in a run."""

TASKS: dict[str, dict[str, Settings]] = {
    "sac": {
        "swimmer": {"agent.gamma": 0.9999},
        "cheetah": _UNEXPLORED,
        **dict.fromkeys(MANIPULATION, _UNEXPLORED | _EVENLY),
    },
    "ppo": {
        "hopper": {
            "agent.gamma": 0.99,
            "agent.learning_rate": 5e-4,
            "agent.net_arch": [256, 256],
            "agent.activation": "relu",
        },
        "hopper-backflip": {
            "agent.gamma": 0.99,
            "agent.learning_rate": 5e-4,
            "agent.net_arch": [256, 256],
            "agent.activation": "relu",
            "agent.log_std_init": 0.0,
            "agent.ent_coef": 0.005,
        },
        "walker": {"agent.n_envs": 4, "agent.n_steps": 512, "agent.gamma": 0.97, "agent.gae_lambda": 0.9},
        "cheetah": {"agent.log_std_init": -1.5, "agent.gamma": 0.99},
        "reacher": {"agent.log_std_init": -1.5, "agent.gamma": 0.99},
        "swimmer": {
            "agent.n_envs": 4,
            "agent.n_steps": 1024,
            "agent.gamma": 0.9999,
            "agent.gae_lambda": 0.98,
            "agent.log_std_init": 0.0,
        },
        "ant": {"agent.log_std_init": -2.5, "agent.gamma": 0.99},
        "double-pendulum": {"agent.gamma": 0.98, "agent.gae_lambda": 0.8},
        "pendulum": {
            "agent.n_envs": 2,
            "agent.n_steps": 1000,
            "agent.batch_size": 250,
            "agent.log_std_init": -1.5,
            "agent.gamma": 0.97,
        },
        "moving-dot": {"agent.learning_rate": 1e-3, "agent.gamma": 0.9},
    },
    "a2c": {
        "hopper": {"agent.gamma": 0.995},
        "walker": {"agent.gamma": 0.995},
        "reacher": {
            "agent.n_steps": 50,
            "agent.learning_rate_decay": False,
            "agent.optimiser": "adam",
            "agent.gamma": 0.95,
            "agent.log_std_init": -1.5,
        },
    },
}
"""Settings of agents for single tasks, by algorithm and task."""

SCALES: dict[str, Settings] = {
    "moving-dot": {
        "steps": 50_000,
        "queries.labels": 100,
        "queries.initial_fraction": 0.25,
        "reward.comparisons_per_step": 0.05,
        "reward.pretrain_comparisons": 800,
    },
    # With the default gradient work, agents of these tasks stay well below those trained on the true reward.
    "swimmer": {"reward.comparisons_per_step": 0.3},
    "reacher": {"reward.comparisons_per_step": 0.3},
    "ant": {"reward.comparisons_per_step": 0.3},
    # 97 % of an untrained agent's clips show a fallen pole. More candidates are drawn to find the others, and fewer
    # queries are asked early, because early pairs show only fallen poles.
    "pendulum": {"queries.candidate_factor": 10_000, "queries.initial_fraction": 0.1},
    "hopper-backflip": {"steps": 500_000, "queries.labels": 900},
    "cheetah-one-leg": {"queries.labels": 800},
    "enduro-even": {"queries.labels": 1300},
}
"""Other settings for single tasks, for all algorithms: steps, labels and gradient work."""

PAPER_ENTROPY: Settings = {"agent.ent_coef": 0.01}
"""The paper's entropy bonus on MuJoCo, only with a learned reward (appendix A.1)."""
PAPER_ENTROPY_TASKS: dict[str, Settings] = {"swimmer": {"agent.ent_coef": 0.001}}
"""Exceptions to the bonus, by task."""
PAPER_ENTROPY_ALGOS = frozenset({"trpo"})
"""Algorithms that use the bonus in every recipe: that of the paper."""

ENDLESS_STEPS = 5000
"""Steps after which evaluation ends an episode without a time limit; a fast simulator takes seconds."""
PAPER_MUJOCO: Settings = WITHOUT | {
    "exploration.steps": 0,
    "reward.l2": 1e-4,
    "queries.pool": 1000,
    "steps": 20_000_000,
    "queries.schedule_constant": 2e6,
    "queries.initial_fraction": 0.25,
    "queries.candidate_factor": 10,
    "reward.comparisons_per_step": 0.1,
    "agent.gamma": 0.995,
    "agent.gae_lambda": 0.97,
}
"""The paper's absolute constants for vectors (appendix A.1). The paper's agent is `--algo trpo`."""
PAPER_ATARI: Settings = {
    "steps": 50_000_000,
    "reward.network": "cnn",
    "agent.image_network": "nature",
    "agent.normalise_reward": False,  # the predicted reward has a fixed deviation
    "agent.learning_rate_end": 1 - 50 / 80,
    "queries.labels": 5500,
    "queries.initial_fraction": 1.0,
    "queries.initial_limit": 500,
    "queries.schedule_constant": 5e6,
    "queries.schedule_bins": 10,
    "reward.comparisons_per_step": 0.1,
    "reward.pretrain_comparisons": 200 * 500,
    "reward.learning_rate": 3e-4,
    "evaluation.every": 2_000_000,
}
"""The paper's constants for images (appendix A.2). The paper's agent is `--algo a2c`, with a learning rate that would
reach zero at 80 M steps."""


@dataclass(frozen=True)
class Recipe:
    """The settings in which a recipe differs from the default."""

    vectors: Settings = field(default_factory=dict)
    """If observations are vectors."""
    images: Settings = field(default_factory=dict)
    """If observations are images."""
    image_algos: dict[str, Settings] = field(default_factory=dict)
    """By algorithm, if observations are images."""
    tasks: dict[str, Settings] = field(default_factory=dict)
    """By task."""
    entropy_bonus: bool = False
    """Whether every algorithm gets the paper's entropy bonus, if observations are vectors and the reward is learned."""
    evaluates: bool = False
    """Whether the policy is evaluated during training."""
    algos: tuple[str, ...] = ()
    """Algorithms that it is for; empty for all."""

    @property
    def only_vectors(self) -> bool:
        """Whether it has settings for vectors, but none for images."""
        return bool(self.vectors) and not (self.images or self.image_algos)


RECIPES: Registry[Recipe] = Registry(
    "recipe",
    {
        "default": Recipe(),
        "paper": Recipe(
            vectors=PAPER_MUJOCO,
            images=PAPER_ATARI,
            image_algos={"ppo": {"agent.learning_rate": 2.5e-4}},  # the larger network needs a lower one
            tasks={"pendulum": {"steps": 2_000_000}},
            entropy_bonus=True,
            evaluates=True,
        ),
        "pebble": Recipe(vectors=PEBBLE, tasks=PEBBLE_TASKS, algos=("sac",)),
        "surf": Recipe(vectors=SURF, tasks=PEBBLE_TASKS, algos=("sac",)),
        "rune": Recipe(vectors=RUNE, tasks=RUNE_TASKS, algos=("sac",)),
        "qpa": Recipe(vectors=QPA, tasks=QPA_TASKS, algos=("sac",)),
    },
)
