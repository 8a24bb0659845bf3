"""Load a run's policy and learned reward, and play the policy."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from torch import nn

from prefrl.agents.algorithms import make_policy
from prefrl.arrays import Array
from prefrl.config import RunConfig
from prefrl.config.migrations import opened
from prefrl.encoder import encode
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.action_spaces import as_numbers, from_environment, to_environment
from prefrl.experience.adapter import Adapter
from prefrl.experience.environments import observed_space, standardised
from prefrl.experience.evaluation import play_in_turn
from prefrl.experience.frames import prepare, render
from prefrl.experience.inputs import inputs_of
from prefrl.experience.make_env import RENDERED, run_env
from prefrl.experience.user_envs import UserEnv, restore_user_env
from prefrl.machine.activity import set_activity
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.likelihood import likelihoods_of
from prefrl.reward.published import largest_weights
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import WRONG_CONTENT, DamagedFileError, Tree, load_tree, taken_from
from prefrl.storage.reading import MEBIBYTE


class Policy:
    """A trained policy, together with the observation normalisation it was trained with."""

    def __init__(self, network: BasePolicy, normaliser: Tree, env: Adapter) -> None:
        """Initialise the policy.

        Args:
            network: The policy network, for the adapter's spaces.
            normaliser: Statistics of the observations; empty without normalisation.
            env: An adapted environment of the task; only its spaces are used.
        """
        self._network, self._normaliser = network, normaliser
        self._transform, self._actions = env.observation_transform, env.own_actions

    def __call__(self, observation: Any, *, deterministic: bool = True) -> Any:
        """Return the action for an observation.

        Args:
            observation: One observation or a batch (N, *observation), as returned by the environment. For Dict and
                Tuple spaces, each part is a batch.
            deterministic: Whether to return the most likely action instead of a sampled one.

        Returns:
            The action in the form the environment expects, a plain number if it is discrete. For a batch, (N, *action).
        """
        if not self._transform.is_many(observation):
            return to_environment(self._actions, self.choose(self._transform(observation), deterministic=deterministic))
        chosen = self.choose(self._transform.many(observation), deterministic=deterministic)
        return np.stack([to_environment(self._actions, action) for action in chosen])

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[Any, Any]:
        """Return the action and the state, like Stable-Baselines3's `predict`, e.g. for `evaluate_policy`.

        Args:
            observation: As for `__call__`.
            state: Returned unchanged, because the policy has no state.
            episode_start: Ignored.
            deterministic: Whether to return the most likely action instead of a sampled one.
        """
        return self(observation, deterministic=deterministic), state

    def choose(self, seen: Array, *, deterministic: bool = True) -> Array:
        """Return the agent's action for one converted observation or a batch of them."""
        return self._network.predict(standardised(seen, self._normaliser), deterministic=deterministic)[0]


class Reward:
    """A learned reward function."""

    def __init__(self, ensemble: RewardEnsemble, env: Adapter) -> None:
        """Initialise the reward.

        Args:
            ensemble: The reward model.
            env: An adapted environment of the task; only its spaces are used.
        """
        self.ensemble = ensemble
        self._transform, self._own, self._actions = env.observation_transform, env.own_actions, env.action_space

    def __call__(self, observations: Any, actions: Any) -> Any:
        """Predict the reward of one step or of a batch of steps.

        Args:
            observations: One observation or a batch (N, *observation), as returned by the environment. For Dict and
                Tuple spaces, each part is a batch.
            actions: One action or a batch (N, *action), as passed to the environment.

        Returns:
            A float, or an array (N,). Over the newest clips compared, it has mean zero and the recipe's standard
            deviation (1 for MuJoCo).
        """
        many = self._transform.is_many(observations)
        seen = self._transform.many(observations) if many else self._transform(observations)[None]
        inputs = self.ensemble.inputs
        if inputs.images and seen.shape[-2:] != inputs.step[-2:]:  # the environment's images have channels last
            seen = np.moveaxis(seen, -1, 1)
        if inputs.reads_actions or not inputs.images:
            given = actions if many else np.asarray(actions)[None]
            taken = as_numbers(self._actions, from_environment(self._own, given))
            seen = encode(seen, taken, reads_actions=inputs.reads_actions)
        scores = self.ensemble.score(np.ascontiguousarray(seen))
        return scores if many else float(scores[0])


def load_policy(root: str | Path, env: UserEnv | None = None, *, trust: Sequence[str] = ()) -> Policy:
    """Load the newest policy of a run, finished or not. No code from the run is executed.

    Args:
        root: The run directory.
        trust: Modules that a run made by someone else may import to create its environment.
        env: The environment, for a run that was created with one from Python.

    Raises:
        UsageError: if the directory is not a run.
        PrefrlError: if it has no policy yet, or its files are damaged.
    """
    run = RunDirectory.open(Path(root).expanduser()).admit(trust)
    restore_user_env(run.config, env)
    made = run_env(run.config)
    made.close()
    return policy_in(run, made)


def policy_in(run: RunDirectory, env: Adapter) -> Policy:
    """Load the newest policy of an admitted run, to act in an environment; errors as for `load_policy`."""
    network = make_policy(run.config, observed_space(run.config, env.observation_space), env.action_space)
    state = policy_of(run, network)
    with taken_from(run.checkpoints):
        network.load_state_dict({name: torch.from_numpy(array) for name, array in state["agent"]["policy"].items()})
        network.set_training_mode(False)
        policy = Policy(network, state["env"].get("normaliser", {}), env)
        policy.choose(np.zeros(env.observation_transform.target.shape, env.observation_transform.target.dtype))
    return policy


def policy_of(run: RunDirectory, network: nn.Module) -> Tree:
    """Load the policy from a run's newest checkpoint. The size read is limited to twice the size of the network.

    Args:
        run: The run.
        network: The policy network, whose size limits the size read.

    Raises:
        PrefrlError: if there is no checkpoint yet, or all are damaged.
    """
    size = sum(tensor.nbytes for tensor in network.state_dict().values())
    if (state := run.saved.load_policy(2 * size + MEBIBYTE)) is None:
        raise PrefrlError(f"{run.root} has no policy yet: its first checkpoint has not been written")
    return state


def load_reward(
    root: str | Path,
    weights: str | Path | None = None,
    env: UserEnv | None = None,
    *,
    trust: Sequence[str] = (),
) -> Reward:
    """Load the newest published reward model of a run. No code from the run is executed.

    Args:
        root: The run directory.
        weights: Other weights for the reward model, e.g. from `prefrl reward fit`.
        trust: Modules that a run made by someone else may import to create its environment.
        env: The environment, for a run that was created with one from Python.

    Raises:
        UsageError: if the directory is not a run, or the run trains on the true reward.
        PrefrlError: if it has published no reward yet, or its files are damaged.
    """
    run = RunDirectory.open(Path(root).expanduser()).admit(trust)
    restore_user_env(run.config, env)
    if not run.config.predicts_reward:
        raise UsageError(f"{root} {run.config.unrewarded}")
    path = Path(weights).expanduser() if weights else run.weights
    if not path.exists():
        raise PrefrlError(f"{path} is missing" if weights else f"{root} has no learned reward yet")
    made = run_env(run.config)
    made.close()
    observations = observed_space(run.config, made.observation_space).shape or ()
    inputs = inputs_of(run.config, observations, spaces.flatdim(made.action_space))
    likelihoods = likelihoods_of(run.config) if run.config.learns_reward else {}  # those that it was fitted with
    ensemble = RewardEnsemble(run.config.reward, inputs, likelihoods)
    tree = opened("weights", load_tree(path, largest_weights(ensemble)), path)
    try:
        ensemble.load_arrays(tree["weights"])
    except WRONG_CONTENT:
        raise DamagedFileError(f"{path} holds no weights of the reward model of {root}") from None
    return Reward(ensemble, made)


@dataclass(frozen=True)
class Played:
    """The result of `play`."""

    returns: list[float]
    """True return of each episode."""
    rewarded: bool
    """Whether the task has a true reward."""
    limit: int
    """Maximum number of steps per episode."""
    cut: int
    """Number of episodes that were cut at this limit."""
    frames: int
    """Number of frames in the video; 0 without one."""
    success_rate: float | None = None
    """Share of successful episodes; None if the environment does not tell."""


def play(
    root: Path,
    *,
    episodes: int = 5,
    video: Path | None = None,
    seed: int = 1000,
    max_frames: int = 1000,
    trust: Sequence[str] = (),
) -> Played:
    """Play a run's policy in its environment.

    Args:
        root: The run directory.
        episodes: Number of episodes.
        video: Path of a video to write; None for no video.
        seed: Seed of the first episode; the others use the following seeds.
        max_frames: Maximum number of frames in the video, which shows the first steps.
        trust: Modules that a run made by someone else may import to create its environment.

    Raises:
        UsageError: if the folder is not a run, or the video cannot be rendered or written.
    """
    if episodes < 1:
        raise UsageError("--episodes must be at least 1")
    if seed < 0:
        raise UsageError("--seed must not be negative")
    run = RunDirectory.open(root).admit(trust)
    config = run.config
    if video:
        os.environ.setdefault("MUJOCO_GL", "egl")
    env = run_env(config, render_mode=RENDERED if video else None)
    frames: list[Array] = []

    def watch(ended: int) -> None:
        if video and len(frames) < max_frames:
            frames.append(render(env))
            if frames[-1].shape != frames[0].shape:
                raise UsageError(f"{config.task} renders frames of different sizes, which a video cannot contain")

    try:
        set_activity("loading the policy")
        policy = policy_in(run, env)
        if video:
            prepare(env)
        set_activity(f"{episodes} episodes")
        played = play_in_turn(
            env, policy.choose, episodes=episodes, seed=seed, most_steps=config.evaluation.max_steps, tell=watch
        )
    finally:
        env.close()
    if video:
        set_activity("writing the video")
        from prefrl.rendering.video import write_video  # noqa: PLC0415 - moviepy takes a second to import

        write_video(video, np.stack(frames), _fps(config, env))
    limit = config.evaluation.max_steps
    return Played(played.returns, config.true_reward, limit, played.cut, len(frames), played.success_rate)


def _fps(config: RunConfig, env: gymnasium.Env[Any, Any]) -> int:
    return int(env.metadata.get("render_fps") or config.playback_fps)


def played_lines(played: Played) -> list[str]:
    """Describe the result of `play` in lines for the user."""
    returns, count = played.returns, len(played.returns)
    if played.rewarded:
        each = " ".join(f"{total:.1f}" for total in returns)
        lines = [f"true return {sum(returns) / count:.1f} over {count} episodes: {each}"]
    else:
        lines = [f"{count} episodes played; the task has no true reward"]
    if played.success_rate is not None:
        lines.append(f"success rate {played.success_rate:.2f}")
    if played.cut:
        lines.append(f"{played.cut} of {count} episodes did not end, and were cut after {played.limit:,} steps")
    return lines
