"""The settings of the agent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prefrl.config.checks import at_most, check_widths, require


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
            require(getattr(self, name) >= 1, f"agent.{name} must be at least 1")
        at_most("agent.n_envs", self.n_envs, 4096)
        at_most("agent.n_envs times agent.n_steps", self.n_envs * self.n_steps, 2**22)
        at_most("agent.n_epochs", self.n_epochs, 10_000)
        at_most("agent.batch_size", self.batch_size, 2**22)
        for name in ("learning_rate", "clip_range", "max_grad_norm"):
            require(getattr(self, name) > 0, f"agent.{name} must be positive")
        require(self.target_kl is None or self.target_kl > 0, "agent.target_kl must be positive, or null")
        require(self.batch_size >= 2, "agent.batch_size must be at least 2")
        require(0 <= self.learning_rate_end <= 1, "agent.learning_rate_end must be in [0, 1]")
        require(0 <= self.gamma <= 1 and 0 <= self.gae_lambda <= 1, "agent.gamma and gae_lambda must be in [0, 1]")
        check_widths("agent.net_arch", self.net_arch, copies=2)
