"""Evaluate a policy: the true returns of whole episodes, in separate environments.

An evaluation does not affect the training. It uses its own environments and restores all global random states, so that
a synchronous run gives the same metrics with and without evaluations.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

from prefrl.arrays import Array
from prefrl.config import RunConfig
from prefrl.experience.environments import make_evaluation_envs
from prefrl.experience.monitor import EpisodeMonitor, mean_success
from prefrl.seeding import environment_seed

Act = Callable[[Array], Array]
"""(N, *observation) -> (N, *action)"""


class Episode(NamedTuple):
    """The result of one episode."""

    value: float
    """The true return; for Atari games, the unclipped score."""
    cut: bool
    """Whether it was cut at the step limit; its return is that of the steps so far."""
    success: bool | None = None
    """Whether it was a success; None if the environment does not tell."""


@dataclass(frozen=True)
class Evaluation:
    """The result of one evaluation."""

    episodes: tuple[Episode, ...]

    @property
    def returns(self) -> list[float]:
        """True return of each episode."""
        return [episode.value for episode in self.episodes]

    @property
    def cut(self) -> int:
        """Number of episodes that were cut at the step limit."""
        return sum(episode.cut for episode in self.episodes)

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(np.mean(self.returns))

    @property
    def std(self) -> float:
        """Standard deviation of the returns, with divisor N as for the training episodes."""
        return float(np.std(self.returns))

    @property
    def success_rate(self) -> float | None:
        """Share of successful episodes; None if the environment does not tell."""
        return mean_success(episode.success for episode in self.episodes)


def play_together(
    envs: VecMonitor, act: Act, *, seed: int, most_steps: int, tell: Callable[[int], None] = lambda ended: None
) -> list[Episode]:
    """Play one episode in each environment, stepping all environments together.

    If the environment hides the ends of episodes from the agent, the real episodes count.

    Args:
        envs: The environments.
        act: The policy.
        seed: Seed of the first environment; the others use the following seeds.
        most_steps: Maximum number of steps per episode.
        tell: Called before each step with the number of finished episodes; may raise an exception to stop.
    """
    envs.seed(seed)
    observations = envs.reset()
    ended: dict[int, Episode] = {}
    for _ in range(most_steps):
        tell(len(ended))
        observations, _, _, infos = envs.step(act(np.asarray(observations)))
        for env, info in enumerate(infos):
            if "episode" in info:
                episode = info["episode"]
                ended.setdefault(env, Episode(float(episode["r"]), False, episode.get("success")))
        if len(ended) == envs.num_envs:
            break
    returns, told = _returns_so_far(envs), isinstance(envs, EpisodeMonitor)
    cut = [Episode(float(value), True, envs.success_so_far(env) if told else None) for env, value in enumerate(returns)]
    return [ended.get(env, cut[env]) for env in range(envs.num_envs)]


def play_in_turn(
    env: gymnasium.Env[Any, Any],
    act: Act,
    *,
    episodes: int,
    seed: int,
    most_steps: int,
    tell: Callable[[int], None] = lambda ended: None,
) -> Evaluation:
    """Play episodes one after another in one environment; arguments as for `play_together`."""
    envs = EpisodeMonitor(DummyVecEnv([lambda: env]))
    numbers = range(seed, seed + episodes)
    return Evaluation(
        tuple(play_together(envs, act, seed=number, most_steps=most_steps, tell=tell)[0] for number in numbers)
    )


def evaluate(
    config: RunConfig, act: Act, *, episodes: int, seed: int, tell: Callable[[int], None] = lambda ended: None
) -> Evaluation:
    """Evaluate a policy in a run's task.

    Args:
        config: The run.
        act: The policy; it receives unnormalised observations.
        episodes: Number of episodes. At most `agent.n_envs` are played at a time; with an engine, all at once.
        seed: Seed of the first episode; the others use the following seeds.
        tell: Called before each step with the number of finished episodes; may raise an exception to stop.

    Raises:
        UsageError: if the environments cannot be created.
    """
    at_once = episodes if config.native_engine else config.agent.n_envs
    rounds = math.ceil(episodes / at_once)
    width = math.ceil(episodes / rounds)
    most_steps = min(config.evaluation.max_steps, config.steps)
    played: list[Episode] = []
    with undisturbed(seed):
        envs = make_evaluation_envs(config, width)
        try:
            while len(played) < episodes:
                told = partial(_tell_all, tell, len(played), episodes)
                played += play_together(envs, act, seed=seed + len(played), most_steps=most_steps, tell=told)
        finally:
            envs.close()
    return Evaluation(tuple(played[:episodes]))


def evaluation_seed(config: RunConfig) -> int:
    """Return the seed of a run's evaluations. All use the same seed, so that they differ by the policy alone."""
    return environment_seed(config.seed, "evaluation")


def _tell_all(tell: Callable[[int], None], before: int, episodes: int, ended: int) -> None:
    tell(min(before + ended, episodes))


@contextmanager
def undisturbed(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's global random states, and restore them on exit."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - what environments may draw from
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


def _returns_so_far(envs: VecMonitor) -> Array:
    """Return the (N,) returns of the unfinished episodes; for Atari games, whose rewards are clipped, the scores."""
    try:
        return np.asarray(envs.get_attr("return_so_far"), dtype=np.float64)
    except AttributeError:
        return envs.episode_returns
