"""The agent: a Stable-Baselines3 algorithm built from the configuration, and its state as plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch import nn

from prefrl.buffers import ScoredRolloutBuffer, ScoreRollout
from prefrl.config import RunConfig
from prefrl.environments import EnvStack
from prefrl.errors import UsageError
from prefrl.files import Tree
from prefrl.reward.learner import load_optimizer_state, optimizer_state
from prefrl.torch_chance import load_random_state, random_state
from prefrl.vision import PolicyCNN

_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


def choose_device(device: str) -> str:
    """The device's name, `auto` resolved.

    Raises:
        UsageError: if a GPU is asked for where there is none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: there is no GPU that torch can use here")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def make_agent(config: RunConfig, env: EnvStack, score: ScoreRollout | None) -> OnPolicyAlgorithm:
    """Build the algorithm.

    Args:
        config: The run.
        env: Its environments.
        score: Gives predicted rewards for each rollout; None trains on the true reward.
    """
    agent = config.agent
    rate, end = agent.learning_rate, agent.learning_rate_end
    shared: dict[str, Any] = {
        "policy": "CnnPolicy" if config.images else "MlpPolicy",
        "env": env.top,
        "learning_rate": (lambda left: rate * (end + (1 - end) * left)) if agent.learning_rate_decay else rate,
        "n_steps": agent.n_steps,
        "gamma": agent.gamma,
        "gae_lambda": agent.gae_lambda,
        "normalize_advantage": agent.normalise_advantage,
        "policy_kwargs": policy_kwargs(config, env.top.action_space),
        "seed": config.seed,
        # A policy for vectors is so small that it is faster on the CPU than on any GPU.
        "device": choose_device(config.device) if config.images else "cpu",
    }
    if score is not None:
        shared |= {"rollout_buffer_class": ScoredRolloutBuffer, "rollout_buffer_kwargs": {"score": score}}
    model = _algorithm(config, shared)
    if config.images:
        model.policy.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return model


def _algorithm(config: RunConfig, shared: dict[str, Any]) -> OnPolicyAlgorithm:
    """The algorithm with its own settings beside those that all share."""
    agent = config.agent
    if config.algo == "trpo":  # whose value network is fitted apart, and whose entropy bonus is the scorer's
        return TRPO(**shared, batch_size=agent.batch_size, n_critic_updates=agent.n_epochs, target_kl=agent.target_kl)
    shared |= {"ent_coef": agent.ent_coef, "vf_coef": agent.vf_coef, "max_grad_norm": agent.max_grad_norm}
    if config.algo == "a2c":
        return A2C(**shared, use_rms_prop=agent.optimiser == "rmsprop")
    batch_size = min(agent.batch_size, agent.n_envs * agent.n_steps)  # more, and SB3 takes it for a mistake
    shared |= {"batch_size": batch_size, "n_epochs": agent.n_epochs, "clip_range": agent.clip_range}
    return PPO(**shared, target_kl=agent.stopping_kl)


def policy_kwargs(config: RunConfig, actions: spaces.Space[Any]) -> dict[str, Any]:
    """What the policy network is made with."""
    agent = config.agent
    kwargs: dict[str, Any] = {"net_arch": list(agent.net_arch), "activation_fn": _ACTIVATIONS[agent.activation]}
    if config.images:
        kwargs |= {"features_extractor_class": PolicyCNN}
        kwargs |= {"features_extractor_kwargs": {"network": agent.image_network}}
    if isinstance(actions, spaces.Box):
        kwargs["log_std_init"] = agent.log_std_init
    return kwargs


def agent_state(model: BaseAlgorithm) -> Tree:
    """Everything of the algorithm that the next step depends on, torch's and NumPy's random states included."""
    episodes = model.ep_info_buffer or ()
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 - it is what SB3 draws from
    return {
        "policy": dict(model.policy.state_dict()),
        "optimizer": optimizer_state(model.policy.optimizer),
        "steps": model.num_timesteps,
        "updates": model._n_updates,
        "last_observation": model._last_obs,
        "last_episode_starts": model._last_episode_starts,
        "episodes": {name: np.array([float(info[name]) for info in episodes]) for name in ("r", "l")},
        **random_state(),
        "numpy_rng": {"keys": keys, "position": position, "has_gauss": has_gauss, "gauss": gauss},
    }


def load_agent_state(model: BaseAlgorithm, state: Tree, *, simulators_restored: bool) -> None:
    """Go back to a saved state; the algorithm must have been set up (`_setup_learn`) before.

    Args:
        model: The algorithm.
        state: From `agent_state`.
        simulators_restored: Whether the environments stand where they stood; if not, the agent starts new episodes.
    """
    model.policy.load_state_dict({name: torch.from_numpy(array) for name, array in state["policy"].items()})
    load_optimizer_state(model.policy.optimizer, state["optimizer"])
    model.num_timesteps, model._n_updates = state["steps"], state["updates"]
    if simulators_restored:
        model._last_obs = state["last_observation"]
        model._last_episode_starts = state["last_episode_starts"]
    assert model.ep_info_buffer is not None
    model.ep_info_buffer.clear()
    episodes = zip(state["episodes"]["r"], state["episodes"]["l"], strict=True)
    model.ep_info_buffer.extend({"r": float(total), "l": int(length)} for total, length in episodes)
    load_random_state(state)
    rng = state["numpy_rng"]
    np.random.set_state(("MT19937", rng["keys"], rng["position"], rng["has_gauss"], rng["gauss"]))  # noqa: NPY002
