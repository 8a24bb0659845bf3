"""Build Stable-Baselines3's on-policy algorithms; `prefrl.registry.ALGORITHMS` lists them by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from gymnasium import spaces
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

from prefrl.agents.image_policy import ImagePolicy, PolicyCNN
from prefrl.config import AgentConfig, RunConfig
from prefrl.machine.devices import choose_device
from prefrl.registry import ALGORITHMS, located

_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


def ppo(config: RunConfig, shared: dict[str, Any]) -> OnPolicyAlgorithm:
    """Build PPO from a run's settings and the arguments that all on-policy algorithms share."""
    agent = config.agent
    batch_size = min(agent.batch_size, agent.n_envs * agent.n_steps)  # SB3 rejects larger ones
    if config.images:  # an eighth of the time, a twentieth of a gradient step; epsilon is SB3's
        shared["policy_kwargs"]["optimizer_kwargs"] = {"fused": True, "eps": 1e-5}
    return PPO(
        **shared,
        **_loss_settings(agent),
        batch_size=batch_size,
        n_epochs=agent.n_epochs,
        clip_range=agent.clip_range,
        target_kl=agent.target_kl,
    )


def a2c(config: RunConfig, shared: dict[str, Any]) -> OnPolicyAlgorithm:
    """Build A2C; arguments as for `ppo`."""
    agent = config.agent
    return A2C(**shared, **_loss_settings(agent), use_rms_prop=agent.optimiser == "rmsprop")


def trpo(config: RunConfig, shared: dict[str, Any]) -> OnPolicyAlgorithm:
    """Build TRPO; arguments as for `ppo`."""
    agent = config.agent
    bound: dict[str, Any] = {} if agent.target_kl is None else {"target_kl": agent.target_kl}
    return TRPO(**shared, **bound, batch_size=agent.batch_size, n_critic_updates=agent.n_epochs)


def _loss_settings(agent: AgentConfig) -> dict[str, Any]:
    return {"ent_coef": agent.ent_coef, "vf_coef": agent.vf_coef, "max_grad_norm": agent.max_grad_norm}


def make_algorithm(config: RunConfig, env: VecEnv, buffer: type[RolloutBuffer] | None = None) -> OnPolicyAlgorithm:
    """Build a run's algorithm.

    Args:
        config: The run.
        env: The environments that the agent steps, outermost wrapper.
        buffer: Class of the rollout buffer; None for Stable-Baselines3's default.
    """
    agent = config.agent
    policy, policy_kwargs = located(ALGORITHMS[config.algo].policy)(config, env.action_space)
    shared: dict[str, Any] = {
        "policy": policy,
        "env": env,
        "learning_rate": learning_rate(agent),
        "n_steps": agent.n_steps,
        "gamma": agent.gamma,
        "gae_lambda": agent.gae_lambda,
        "normalize_advantage": agent.normalise_advantage,
        "policy_kwargs": policy_kwargs,
        "seed": config.seed,
        # A policy for vectors is so small that the CPU is faster than a GPU.
        "device": choose_device(config.device) if config.images else "cpu",
    }
    if buffer is not None:
        shared["rollout_buffer_class"] = buffer
    model: OnPolicyAlgorithm = located(ALGORITHMS[config.algo].make)(config, shared)
    if config.images:
        model.policy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def learning_rate(agent: AgentConfig) -> float | Callable[[float], float]:
    """Return the learning rate, or its schedule: a function of the fraction of the run that is left."""
    rate, end = agent.learning_rate, agent.learning_rate_end
    return (lambda left: rate * (end + (1 - end) * left)) if agent.learning_rate_decay else rate


def make_policy(config: RunConfig, observations: spaces.Space[Any], actions: spaces.Space[Any]) -> BasePolicy:
    """Build the policy of a run of any algorithm, for acting.

    Args:
        config: The run.
        observations: Space of the observations that the agent gets.
        actions: The agent's action space.
    """
    kind, kwargs = located(ALGORITHMS[config.algo].policy)(config, actions)
    policy: BasePolicy = kind(observations, actions, lambda _: 0.0, **kwargs)
    return policy


def actor_critic(config: RunConfig, actions: spaces.Space[Any]) -> tuple[type[BasePolicy], dict[str, Any]]:
    """Return the class and arguments of the policy of on-policy algorithms."""
    kwargs = network_kwargs(config)
    if isinstance(actions, spaces.Box):
        kwargs["log_std_init"] = config.agent.log_std_init
    return ImagePolicy if config.images else ActorCriticPolicy, kwargs


def network_kwargs(config: RunConfig) -> dict[str, Any]:
    """Return the arguments of a policy for its networks, which all algorithms share."""
    agent = config.agent
    kwargs: dict[str, Any] = {"net_arch": list(agent.net_arch), "activation_fn": _ACTIVATIONS[agent.activation]}
    if config.images:
        kwargs |= {"features_extractor_class": PolicyCNN}
        kwargs |= {"features_extractor_kwargs": {"network": agent.image_network}}
    return kwargs
