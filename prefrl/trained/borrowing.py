"""Take what a new run needs from another run: the policy that its agent is to stay near, and its reward model.

The new run keeps a copy, so that it does not change, and can be resumed, whatever becomes of the other run.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

from prefrl.agents.advantages import check_values
from prefrl.agents.reference import Reference, distribution_of, make_reference, untrained, usual_entropy
from prefrl.agents.state_statistics import state_features
from prefrl.arrays import Array
from prefrl.config import RunConfig
from prefrl.errors import UsageError
from prefrl.experience.environments import make_evaluation_envs, observed_space, reward_inputs
from prefrl.experience.evaluation import undisturbed
from prefrl.experience.make_env import run_env
from prefrl.machine.activity import set_activity
from prefrl.printable import printable
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.published import load_published
from prefrl.runs.directory import RunDirectory
from prefrl.seeding import environment_seed
from prefrl.storage.files import WRONG_CONTENT, Tree
from prefrl.teachers import judges_by_advantage
from prefrl.trained.playing import policy_of

_ENVS, _STEPS, _EVERY = 4, 1000, 4
"""Environments in which a reference is played, their steps, and the steps between two states that are kept."""


def borrow_reference(root: Path, config: RunConfig) -> Reference:
    """Load the policy of another run as the reference of a new one, and play it to see which states it visits.

    No code of the other run is executed, and its environment is not created.

    Args:
        root: The other run, finished or not.
        config: The new run.

    Raises:
        UsageError: if it is not a run, is of another task or other spaces, has no distribution of actions, or lacks the
            values that the new run's teacher judges by.
        PrefrlError: if it has no policy yet, or its files are damaged.
    """
    set_activity("playing the reference policy")
    reference = open_policy(root, config, config.kl.policy, "--reference")
    if judges_by_advantage(config.teacher):
        check_values(reference, printable(root))
    return _played(reference, config)


def open_policy(root: Path, config: RunConfig, which: str = "newest", option: str = "the run") -> Reference:
    """Load a policy of another run, without the states that it visits; arguments and errors as `borrow_reference`.

    Args:
        root: The other run.
        config: The run whose environments the policy is for.
        which: See `KLConfig.policy`.
        option: Name of the run in error messages.
    """
    run = RunDirectory.open(root)
    distribution_of(run.config)
    _check_task(option, run, config)
    if run.config.observe is not None and run.config.observe != config.observe:
        raise UsageError(
            f"{option} {printable(root)} observes other numbers of the observation than the agent (observe)"
        )
    env = run_env(config)
    env.close()
    space, actions = observed_space(config, env.observation_space), env.action_space
    network = untrained(run.config, space, actions)
    state = policy_of(run, network)
    try:
        own: Tree = {"policy": _POLICIES[which](network, state), "normaliser": state["env"].get("normaliser", {})}
        own["reward_scale"] = _reward_scale(run.config, network, own["normaliser"]) if which == "newest" else None
        reference = make_reference(run.config, own, space, actions)
        reference.distribution(np.zeros((1, *(space.shape or ())), space.dtype))
    except WRONG_CONTENT as error:
        raise UsageError(
            f"{option} {printable(root)} is a run of {run.config.task} with other observations or actions: "
            f"{printable(str(error).splitlines()[-1].strip(), 120)}"
        ) from None
    return reference


def _reward_scale(config: RunConfig, network: BasePolicy, normaliser: Tree) -> float | None:
    """Return `Reference.reward_scale` of a run's newest policy."""
    if config.reward_source != "task" or config.computes_reward or not isinstance(network, ActorCriticPolicy):
        return None
    return math.sqrt(float(normaliser["return"]["var"]) + 1e-8) if config.agent.normalise_reward else 1.0


_POLICIES: dict[str, Callable[[BasePolicy, Tree], Tree]] = {
    "newest": lambda network, state: dict(state["agent"]["policy"]),
    "initial": lambda network, state: {name: tensor.numpy() for name, tensor in network.state_dict().items()},
}
"""Weights of a run's policy by `KLConfig.policy`, from the untrained network and the newest checkpoint. An untrained
policy sees observations as the newest one does, because it has no statistics of its own."""


def borrow_reward(root: Path, config: RunConfig) -> Tree:
    """Read the newest reward model of another run for a new one; no code of the other run is executed.

    Args:
        root: The other run, finished or not.
        config: The new run, with the settings of this reward model.

    Returns:
        The content of its file of weights.

    Raises:
        UsageError: if it is not a run, is of another task, or has no reward model.
        PrefrlError: if it has learned no reward yet, or its files are damaged.
    """
    run = RunDirectory.open(root)
    if not run.config.predicts_reward:
        raise UsageError(f"--reward {printable(root)} {run.config.unrewarded}")
    _check_task("--reward", run, config)
    return load_published(run.weights, RewardEnsemble(config.reward, reward_inputs(config)))


def reward_settings(root: Path) -> dict[str, Any]:
    """Return the settings of another run's reward model, whose rewards are as they are published with its weights.

    Losses are left out: a frozen model is not fitted, and there may be one for each kind of feedback of that run.

    Raises:
        UsageError: if it is not a run.
        PrefrlError: if its configuration is damaged.
    """
    reward = RunDirectory.open(root).config.reward
    settings = {f"reward.{name}": value for name, value in dataclasses.asdict(reward).items() if name != "loss"}
    return settings | {"reward.normalise_over": "none" if reward.normalise_over == "none" else "comparisons"}


def _check_task(option: str, run: RunDirectory, config: RunConfig) -> None:
    if run.config.env_id != config.env_id:
        raise UsageError(
            f"{option} {printable(run.root)} is a run of {run.config.task}, and a run of {config.task} needs one of "
            "its own task"
        )


def _played(reference: Reference, config: RunConfig) -> Reference:
    """Return the reference with the features of states that it visits in a run's task, and its entropy in them."""
    states = visited_by(reference, config)
    features = state_features(states)
    entropy = usual_entropy(reference.distribution(states))
    return dataclasses.replace(reference, states=features, entropy=entropy)


def visited_by(reference: Reference, config: RunConfig) -> Array:
    """Return (N, *observation) raw states that a policy visits, from the start of episodes on."""
    seed, kept = environment_seed(config.seed, "reference"), []
    with undisturbed(seed):
        envs = make_evaluation_envs(config, _ENVS)
        try:
            envs.seed(seed)
            observations = np.asarray(envs.reset())
            for step in range(_STEPS):
                if step % _EVERY == 0:
                    kept.append(observations.copy())
                observations = np.asarray(envs.step(reference.act(observations))[0])
        finally:
            envs.close()
    return np.concatenate(kept)
