"""The settings of off-policy agents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from prefrl.config.checks import at_most, require


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
    return_steps: int = 1
    """Steps whose discounted rewards are summed in the target of a value (n-step returns); 1 for one-step targets."""
    tau: float = 0.005
    """Rate of the moving average that is the target network; 1 for copies."""
    target_interval: int = 1
    """Gradient steps between two updates of the target network (SAC), or agent steps (DQN, QR-DQN)."""
    actor_interval: int = 1
    """Gradient steps of the critics between two of the actor and the entropy coefficient (SAC, CrossQ)."""
    alpha: float = 1.0
    """Initial entropy coefficient of SAC."""
    learn_alpha: bool = True
    """Whether SAC learns its entropy coefficient, towards an entropy of minus the number of action dimensions."""
    alpha_learning_rate: float | None = None
    """Learning rate of the entropy coefficient; null for that of the networks."""
    log_std_min: float = -20.0
    """Smallest logarithm of the standard deviation of SAC's actions, before tanh; the largest is 2."""
    log_std_bound: Literal["clamp", "tanh"] = "clamp"
    """How these bounds are kept: values beyond them are cut off, or a tanh of the network's output is stretched to
    them, as in PEBBLE's code, so that an untrained network has the middle of the range."""
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
    relabel: Literal["memory", "batch", "never"] = "memory"
    """When rewards of the replay memory are computed again, a name in `relabelling.RELABELLINGS`. `memory`: those of
    the whole memory whenever the reward has changed, at most once a round, as in PEBBLE; `batch`: those of each batch
    when it is drawn; `never`: steps keep the reward that was the newest when they were recorded."""
    recent_steps: int = 0
    """Number of newest steps from which `recent_fraction` of each batch is drawn as long as labels are asked for
    (hybrid experience replay of QPA, Hu et al., 2024); 0 to draw from the whole memory."""
    recent_fraction: float = 0.5
    """Expected fraction of a batch that is drawn from these newest steps."""

    def validate(self) -> None:
        """Raise UsageError for invalid values."""
        for name in ("memory", "return_steps", "target_interval", "actor_interval"):
            require(getattr(self, name) >= 1, f"off_policy.{name} must be at least 1")
        at_most("off_policy.memory", self.memory, 10**9)
        at_most("off_policy.return_steps", self.return_steps, 1000)
        require(self.random_steps >= 0, "off_policy.random_steps must not be negative")
        require(0 < self.updates_per_step <= 1000, "off_policy.updates_per_step must be in (0, 1000]")
        require(0 < self.tau <= 1, "off_policy.tau must be in (0, 1]")
        require(self.alpha > 0, "off_policy.alpha must be positive")
        rate = self.alpha_learning_rate
        require(rate is None or rate > 0, "off_policy.alpha_learning_rate must be positive, or null")
        require(self.log_std_min < 2, "off_policy.log_std_min must be below 2")
        for name in ("exploration_fraction", "exploration_final", "recent_fraction"):
            require(0 <= getattr(self, name) <= 1, f"off_policy.{name} must be in [0, 1]")
        for name in ("fresh_updates", "recent_steps"):
            require(getattr(self, name) >= 0, f"off_policy.{name} must not be negative")
