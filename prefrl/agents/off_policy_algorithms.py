"""Build Stable-Baselines3's off-policy algorithms; `prefrl.registry.ALGORITHMS` lists them by name."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, CrossQ
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3 import DQN
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.vec_env import VecEnv
from stable_baselines3.dqn.policies import DQNPolicy

from prefrl.agents.algorithms import learning_rate, make_policy, network_kwargs
from prefrl.agents.replay import ReplayMemory
from prefrl.agents.soft_actor_critic import SoftActorCritic, SoftPolicy
from prefrl.config import RunConfig
from prefrl.machine.devices import choose_device
from prefrl.registry import ALGORITHMS, located


def sac(config: RunConfig, shared: dict[str, Any]) -> OffPolicyAlgorithm:
    """Build SAC from a run's settings and the arguments that all off-policy algorithms share."""
    settings = config.off_policy
    return SoftActorCritic(
        **shared,
        ent_coef=entropy_coefficient(config),
        alpha_learning_rate=settings.alpha_learning_rate,
        actor_interval=settings.actor_interval,
    )


def tqc(config: RunConfig, shared: dict[str, Any]) -> OffPolicyAlgorithm:
    """Build TQC; arguments as for `sac`."""
    return TQC(**shared, ent_coef=entropy_coefficient(config))


def crossq(config: RunConfig, shared: dict[str, Any]) -> OffPolicyAlgorithm:
    """Build CrossQ, which has no target network; arguments as for `sac`."""
    without = {name: value for name, value in shared.items() if name not in ("tau", "target_update_interval")}
    return CrossQ(**without, ent_coef=entropy_coefficient(config), policy_delay=config.off_policy.actor_interval)


def entropy_coefficient(config: RunConfig) -> str | float:
    """Return Stable-Baselines3's `ent_coef`."""
    settings = config.off_policy
    return f"auto_{settings.alpha}" if settings.learn_alpha else settings.alpha


def dqn(config: RunConfig, shared: dict[str, Any]) -> OffPolicyAlgorithm:
    """Build DQN; arguments as for `sac`."""
    return DQN(**shared, **_exploration(config), max_grad_norm=config.agent.max_grad_norm)


def qrdqn(config: RunConfig, shared: dict[str, Any]) -> OffPolicyAlgorithm:
    """Build QR-DQN; arguments as for `sac`."""
    return QRDQN(**shared, **_exploration(config), max_grad_norm=config.agent.max_grad_norm)


def _exploration(config: RunConfig) -> dict[str, Any]:
    settings = config.off_policy
    fraction, final = settings.exploration_fraction, settings.exploration_final
    return {"exploration_fraction": fraction, "exploration_final_eps": final}


def make_algorithm(config: RunConfig, env: VecEnv) -> OffPolicyAlgorithm:
    """Build a run's algorithm; arguments as for `prefrl.agents.algorithms.make_algorithm`."""
    policy, policy_kwargs = located(ALGORITHMS[config.algo].policy)(config, env.action_space)
    shared = shared_arguments(config) | {
        "policy": policy,
        "env": env,
        "replay_buffer_class": ReplayMemory,
        "replay_buffer_kwargs": {
            "n_steps": config.off_policy.return_steps,
            "gamma": config.agent.gamma,
            "reads_actions": config.draws_actions,
        },
        "policy_kwargs": policy_kwargs,
    }
    model: OffPolicyAlgorithm = located(ALGORITHMS[config.algo].make)(config, shared)
    return model


def shared_arguments(config: RunConfig) -> dict[str, Any]:
    """Return the plain arguments of Stable-Baselines3 that all off-policy algorithms share."""
    agent, settings = config.agent, config.off_policy
    return {
        "learning_rate": learning_rate(agent),
        "buffer_size": config.memory_steps,
        "learning_starts": settings.random_steps,
        "batch_size": agent.batch_size,
        "gamma": agent.gamma,
        "tau": settings.tau,
        "target_update_interval": settings.target_interval,
        "seed": config.seed,
        "device": choose_device(config.device),
    }


def soft_policy(config: RunConfig, actions: spaces.Space[Any]) -> tuple[type[BasePolicy], dict[str, Any]]:
    """Return the class and arguments of SAC's policy."""
    settings = config.off_policy
    own = {name: getattr(settings, name) for name in ("log_std_min", "log_std_bound", "layer_norm")}
    return SoftPolicy, network_kwargs(config) | own | {"optimizer_kwargs": {"fused": True}}


def tqc_policy(config: RunConfig, actions: spaces.Space[Any]) -> tuple[type[BasePolicy], dict[str, Any]]:
    """Return the class and arguments of TQC's policy."""
    return TQCPolicy, network_kwargs(config) | {"optimizer_kwargs": {"fused": True}}


def crossq_policy(config: RunConfig, actions: spaces.Space[Any]) -> tuple[type[BasePolicy], dict[str, Any]]:
    """Return the class and arguments of CrossQ's policy."""
    return CrossQPolicy, network_kwargs(config) | {"optimizer_kwargs": {"fused": True, "betas": (0.5, 0.999)}}


def dqn_policy(config: RunConfig, actions: spaces.Space[Any]) -> tuple[type[BasePolicy], dict[str, Any]]:
    """Return the class and arguments of DQN's policy."""
    return DQNPolicy, network_kwargs(config)


def qrdqn_policy(config: RunConfig, actions: spaces.Space[Any]) -> tuple[type[BasePolicy], dict[str, Any]]:
    """Return the class and arguments of QR-DQN's policy."""
    return QRDQNPolicy, network_kwargs(config)


def forget_values(model: OffPolicyAlgorithm, config: RunConfig) -> None:
    """Initialise the value networks of a run's algorithm and their targets anew; an actor is kept."""
    assert model.observation_space is not None
    fresh = make_policy(config, model.observation_space, model.action_space)
    for name in _VALUES:
        for suffix in ("", "_target"):
            if network := getattr(model.policy, name + suffix, None):
                network.load_state_dict(getattr(fresh, name + suffix).state_dict())
    owner = getattr(model, "critic", model.policy)
    owner.optimizer.state.clear()


def copy_to_targets(model: OffPolicyAlgorithm) -> None:
    """Make the targets of an algorithm's value networks copies of these networks."""
    for name in _VALUES:
        if target := getattr(model.policy, f"{name}_target", None):
            target.load_state_dict(getattr(model.policy, name).state_dict())


_VALUES = ("critic", "q_net", "quantile_net")
"""Names of value networks in Stable-Baselines3's policies."""
