"""Using what a run has learned: its policy, its reward, and a video of it at work."""

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
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy

from prefrl.agents import policy_kwargs
from prefrl.config import RunConfig
from prefrl.environments import OBSERVATION_CLIP, observed_space
from prefrl.errors import PrefrlError, UsageError
from prefrl.evaluation import play_in_turn
from prefrl.files import WRONG_CONTENT, DamagedFileError, Tree, load_tree, taken_from
from prefrl.rendering import prepare, render
from prefrl.reward.ensemble import RewardEnsemble, load_weights
from prefrl.reward.inputs import inputs_of
from prefrl.run import RunDirectory
from prefrl.tasks import make_env
from prefrl.types import Array, Floats


class Policy:
    """A trained policy with the observation normalisation that it was trained under."""

    def __init__(self, network: ActorCriticPolicy, normaliser: Tree) -> None:
        self._network, self._normaliser = network, normaliser

    def __call__(self, observation: Array, *, deterministic: bool = True) -> Array:
        """The action for an observation.

        Args:
            observation: (*observation) or a batch (N, *observation), as the environment gives it.
            deterministic: The most likely action instead of a drawn one.

        Returns:
            (*action) or (N, *action), within the action space.
        """
        if "observation" in self._normaliser:
            statistics = self._normaliser["observation"]
            scaled = (observation - statistics["mean"]) / np.sqrt(statistics["var"] + 1e-8)
            observation = np.clip(scaled, -OBSERVATION_CLIP, OBSERVATION_CLIP).astype(np.float32)
        return self._network.predict(observation, deterministic=deterministic)[0]


class Reward:
    """A learned reward."""

    def __init__(self, ensemble: RewardEnsemble, discrete: int) -> None:
        self.ensemble, self._discrete = ensemble, discrete

    def __call__(self, observations: Array, actions: Array) -> Floats:
        """Predict the reward of steps.

        Args:
            observations: (N, *observation), as the environment gave them.
            actions: (N, *action), or (N,) whole numbers where discrete.

        Returns:
            (N,) of mean zero and the recipe's deviation (1 for MuJoCo) over the newest clips compared.
        """
        steps = len(observations)
        if self.ensemble.inputs.images:
            if observations.shape[1:] != self.ensemble.inputs.step:  # channels last, as the environment gives them
                observations = np.moveaxis(observations, -1, 1)
            return self.ensemble.score(np.ascontiguousarray(observations))
        if self._discrete:
            actions = np.eye(self._discrete, dtype=np.float32)[actions]
        parts = (np.asarray(observations).reshape(steps, -1), np.asarray(actions).reshape(steps, -1))
        return self.ensemble.score(np.concatenate(parts, axis=1).astype(np.float32))


def load_policy(root: str | Path, *, trust: Sequence[str] = ()) -> Policy:
    """The newest policy of a run, finished or not. Nothing of the run is executed.

    Args:
        root: The run directory.
        trust: Modules that a run which is not one's own may import to make its environment.

    Raises:
        UsageError: if the folder is no run.
        PrefrlError: if it has no policy yet, or its files are damaged.
    """
    run = RunDirectory.open(Path(root)).admit(trust)
    env = make_env(run.config.env_id)
    env.close()
    return _policy(run, env)


def _policy(run: RunDirectory, env: gymnasium.Env[Any, Any]) -> Policy:
    state = run.load_checkpoint(lambda line: None)
    if state is None:
        raise PrefrlError(f"{run.root} has no policy yet: it has not come to its first checkpoint")
    images = run.config.images
    kind = ActorCriticCnnPolicy if images else ActorCriticPolicy
    space = observed_space(run.config, env.observation_space)
    network = kind(space, env.action_space, lambda _: 0.0, **policy_kwargs(run.config, env.action_space))
    with taken_from(run.checkpoints):
        network.load_state_dict({name: torch.from_numpy(array) for name, array in state["agent"]["policy"].items()})
        network.set_training_mode(False)
        policy = Policy(network, state["env"].get("normaliser", {}))
        policy(np.zeros(env.observation_space.shape or (), env.observation_space.dtype))
    return policy


def load_reward(root: str | Path, weights: str | Path | None = None, *, trust: Sequence[str] = ()) -> Reward:
    """The newest published reward of a run. Nothing of the run is executed.

    Args:
        root: The run directory.
        weights: Other weights of its reward model, e.g. those of `prefrl reward fit`.
        trust: Modules that a run which is not one's own may import to make its environment.

    Raises:
        UsageError: if the folder is no run, or one that trains on the true reward.
        PrefrlError: if it has published no reward yet, or its files are damaged.
    """
    run = RunDirectory.open(Path(root)).admit(trust)
    if not run.config.learns_reward:
        raise UsageError(f"{root} trains on the true reward: there is no learned one")
    path = Path(weights) if weights else run.weights
    if not path.exists():
        raise PrefrlError(f"{path} is missing" if weights else f"{root} has no learned reward yet")
    tree = load_tree(path)
    env = make_env(run.config.env_id)
    env.close()
    observations = observed_space(run.config, env.observation_space).shape or ()
    ensemble = RewardEnsemble(run.config.reward, inputs_of(run.config, observations, spaces.flatdim(env.action_space)))
    try:
        load_weights(ensemble, tree)
    except WRONG_CONTENT:
        raise DamagedFileError(f"{path} holds no weights of the reward model of {root}") from None
    return Reward(ensemble, int(getattr(env.action_space, "n", 0)))


@dataclass(frozen=True)
class Played:
    """What came of playing."""

    returns: list[float]
    """True return of each episode."""
    cut: int
    """How many were cut because they did not end by themselves."""
    frames: int
    """Frames in the video; 0 without one."""


def play(
    root: Path,
    *,
    episodes: int = 5,
    video: Path | None = None,
    seed: int = 0,
    max_frames: int = 1000,
    trust: Sequence[str] = (),
) -> Played:
    """Run a run's policy in its environment.

    Args:
        root: The run.
        episodes: Episodes to play; with a video, of which the first `max_frames` steps are recorded.
        video: Where to write a video.
        seed: Of the first episode; each further one counts up.
        max_frames: The longest video.
        trust: Modules that a run which is not one's own may import to make its environment.

    Raises:
        UsageError: for a folder that is no run, or a video that cannot be written or rendered.
    """
    if episodes < 1:
        raise UsageError("--episodes must be at least 1")
    if seed < 0:
        raise UsageError("--seed must not be negative")
    run = RunDirectory.open(root).admit(trust)
    if video:
        os.environ.setdefault("MUJOCO_GL", "egl")
    env = make_env(run.config.env_id, render_mode="rgb_array" if video else None)
    frames: list[Array] = []

    def watch(ended: int) -> None:
        if video and len(frames) < max_frames:
            frames.append(render(env))

    try:
        policy = _policy(run, env)
        if video:
            prepare(env)
        played = play_in_turn(
            env, policy, episodes=episodes, seed=seed, most_steps=run.config.evaluation.max_steps, tell=watch
        )
    finally:
        env.close()
    if video:
        from prefrl.video import write_video  # noqa: PLC0415 - moviepy takes a second to import

        write_video(video, np.stack(frames), _fps(run.config, env))
    return Played(played.returns, played.cut, len(frames))


def _fps(config: RunConfig, env: gymnasium.Env[Any, Any]) -> int:
    return int(env.metadata.get("render_fps") or config.playback_fps)
