"""Stable-Baselines3's own off-policy algorithms with the settings of a run, to measure prefrl's speed against."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefrl.config import RunConfig
from prefrl.errors import UsageError

if TYPE_CHECKING:
    from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
    from stable_baselines3.common.vec_env import VecEnv


def gradient_steps(config: RunConfig) -> int:
    """Return the gradient steps after each `agent.n_steps` steps of all environments.

    Raises:
        UsageError: if they are not a whole number, which Stable-Baselines3 needs.
    """
    updates = config.agent.n_steps * config.agent.n_envs * config.off_policy.updates_per_step
    if updates < 1 or updates != int(updates):
        raise UsageError(
            f"Stable-Baselines3 takes a whole number of gradient steps, not {updates:g} (agent.n_steps times "
            "agent.n_envs times off_policy.updates_per_step): compare with --against true"
        )
    return int(updates)


def sac(config: RunConfig, env: VecEnv) -> OffPolicyAlgorithm:
    """Build Stable-Baselines3's SAC with its own policy and replay buffer.

    What it does not have stays as it is there: `off_policy.alpha_learning_rate`, `log_std_min`, `layer_norm` and
    `actor_interval`.

    Args:
        config: The run.
        env: The environments.
    """
    from stable_baselines3 import SAC  # noqa: PLC0415 - imports torch

    from prefrl.agents.algorithms import network_kwargs  # noqa: PLC0415
    from prefrl.agents.off_policy_algorithms import entropy_coefficient, shared_arguments  # noqa: PLC0415

    return SAC(
        "MlpPolicy",
        env,
        **shared_arguments(config),
        n_steps=config.off_policy.return_steps,
        train_freq=(config.agent.n_steps, "step"),
        gradient_steps=gradient_steps(config),
        ent_coef=entropy_coefficient(config),
        policy_kwargs=network_kwargs(config),
    )


ALGORITHMS: dict[str, Callable[[RunConfig, Any], Any]] = {"sac": sac}
"""By `--algo`; the other off-policy algorithms are compared with prefrl on the true reward only."""
