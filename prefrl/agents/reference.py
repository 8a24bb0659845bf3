"""The reference policy of a KL penalty: the frozen policy of another run, which a run keeps a copy of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy

from prefrl.agents.algorithms import make_policy
from prefrl.agents.distributions import ActionDistribution, Gaussian, executed_entropy
from prefrl.arrays import Array, Floats
from prefrl.config import RunConfig
from prefrl.config.migrations import opened, stamped
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.environments import standardised
from prefrl.registry import ALGORITHMS, located
from prefrl.runs.directory import RunDirectory, read_config
from prefrl.storage.files import Tree, load_tree, save_tree, taken_from, write_atomically
from prefrl.storage.reading import MEBIBYTE

_LARGEST_STATES = 256 * MEBIBYTE
_FILES = ("config.json", "policy.safetensors")
"""Files of a reference."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A frozen policy with its own normalisation of observations."""

    config: RunConfig
    """The run that it comes from."""
    network: BasePolicy
    normaliser: Tree
    """Statistics of its observations; empty without normalisation."""
    states: Floats
    """(M, D) features of states that it visits, see `state_features`."""
    entropy: float
    """Mean entropy of its actions in these states, executed in [-1, 1] if they are continuous."""
    reward_scale: float | None = None
    """What the task's rewards were divided by before its value function learned them; None if it has no value function,
    or one of another reward."""

    def distribution(self, observations: Array) -> ActionDistribution:
        """Return the distribution of its action for (N, *observation) raw observations, without gradients."""
        seen = standardised(observations, self.normaliser)
        with torch.no_grad():
            tensor = torch.as_tensor(np.ascontiguousarray(seen), device=self.network.device)
            found: ActionDistribution = located(distribution_of(self.config))(self.network, tensor)
        return found

    def values(self, observations: Array) -> Floats:
        """Return its values, (N,), of (N, *observation) raw observations: see `reward_scale`."""
        assert isinstance(self.network, ActorCriticPolicy)
        seen = standardised(observations, self.normaliser)
        with torch.no_grad():
            tensor = torch.as_tensor(np.ascontiguousarray(seen), device=self.network.device)
            return np.asarray(self.network.predict_values(tensor).squeeze(-1).cpu().numpy())

    def act(self, observations: Array) -> Array:
        """Draw actions for (N, *observation) raw observations from torch's global generator."""
        return self.network.predict(standardised(observations, self.normaliser), deterministic=False)[0]

    def save(self, folder: Path, source: Path) -> None:
        """Write the reference into a new run.

        Args:
            folder: The folder `reference/` of the run.
            source: The `config.json` of the run that it comes from.
        """
        folder.mkdir()
        write_atomically(folder / "config.json", source.read_bytes(), durable=True)
        tree: Tree = {"policy": dict(self.network.state_dict()), "normaliser": self.normaliser}
        tree |= {"states": self.states, "entropy": self.entropy, "reward_scale": self.reward_scale}
        save_tree(folder / "policy.safetensors", stamped("reference", tree), durable=True)


def make_reference(
    config: RunConfig, state: Tree, space: spaces.Space[Any], actions: spaces.Space[Any], device: str = "cpu"
) -> Reference:
    """Build a reference from a saved state.

    Args:
        config: The run that it comes from.
        state: Its `policy` and `normaliser`, and if known its `states`, `entropy` and `reward_scale`.
        space: Space of the observations that the agent gets.
        actions: The agent's action space.
        device: Device of its network.

    Raises:
        RuntimeError: if the policy is for other spaces; and other errors of `WRONG_CONTENT`.
    """
    network = untrained(config, space, actions)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state["policy"].items()})
    network.set_training_mode(False)
    network.requires_grad_(False)
    states = np.asarray(state.get("states", np.zeros((0, 1))), np.float32)
    entropy, scale = float(state.get("entropy", 0.0)), state.get("reward_scale")
    normaliser = state.get("normaliser", {})
    return Reference(config, network.to(device), normaliser, states, entropy, None if scale is None else float(scale))


def load_reference(run: RunDirectory, space: spaces.Space[Any], actions: spaces.Space[Any], device: str) -> Reference:
    """Load the reference of a run from its directory; no code of it is executed.

    Args:
        run: The run.
        space: Space of the observations that the agent gets.
        actions: The agent's action space.
        device: Device of the reference's network.

    Raises:
        PrefrlError: if its files are missing or damaged.
        UsageError: if a newer version of prefrl made them.
    """
    if missing := [name for name in _FILES if not (run.reference / name).is_file()]:
        raise PrefrlError(f"{run.root} has lost its reference policy: {run.reference / missing[0]} is missing")
    config, _ = read_config(run.reference / "config.json")
    network = untrained(config, space, actions)
    most = 2 * sum(tensor.nbytes for tensor in network.state_dict().values()) + MEBIBYTE + _LARGEST_STATES
    path = run.reference / "policy.safetensors"
    state = opened("reference", load_tree(path, most), path)
    with taken_from(path):
        return make_reference(config, state, space, actions, device)


def untrained(config: RunConfig, space: spaces.Space[Any], actions: spaces.Space[Any]) -> BasePolicy:
    """Build the policy that a run starts from; torch's random state is as before.

    Args:
        config: The run.
        space: Space of the observations that its agent gets.
        actions: Its action space.
    """
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)  # as Stable-Baselines3 does before it builds a policy
        return make_policy(config, space, actions)


def distribution_of(config: RunConfig) -> Any:
    """Return the function that gives the distribution of a run's policy, which is a probability for every action.

    Raises:
        UsageError: if the algorithm's policy has only a best action.
    """
    kind = ALGORITHMS[config.algo]
    if not kind.stochastic:
        usable = ", ".join(name for name, each in ALGORITHMS.items() if each.stochastic)
        raise UsageError(
            f"{config.algo} has no distribution of actions to compare: a KL divergence needs one of {usable}"
        )
    return kind.distribution


def usual_entropy(found: ActionDistribution) -> float:
    """Return the mean entropy of a policy, as SAC measures its own: of actions executed in [-1, 1]."""
    return float((executed_entropy(found) if isinstance(found, Gaussian) else found.entropy()).mean())
