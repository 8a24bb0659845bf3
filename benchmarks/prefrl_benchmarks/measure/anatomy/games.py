"""Play whole games with a run's policy and some random actions, and score every step with reward models."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecMonitor
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from torch import Tensor

from prefrl.arrays import Array, Floats
from prefrl.config import RunConfig
from prefrl.encoder import encode
from prefrl.experience.action_spaces import as_numbers
from prefrl.experience.environments import make_evaluation_envs
from prefrl.experience.evaluation import Act, evaluation_seed, play_together, undisturbed
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.normalisation import moments, normalised, pooled
from prefrl.seeding import environment_seed, stream
from prefrl_benchmarks.measure.anatomy.alignment import Scored

_CHUNK = 64
"""Steps of each environment that are scored together: 15 MB of Atari observations with eight environments."""


@dataclass(frozen=True, eq=False)
class Game:
    """One whole game."""

    noise: float
    """Fraction of random actions."""
    true: Floats
    """(T,) true rewards."""
    outputs: dict[str, Tensor]
    """(K, T) outputs of the members of each reward model, before output normalisation."""
    cut: bool
    """Whether it was cut at the limit on steps."""


class GameRecorder(VecEnvWrapper):
    """Keeps the true rewards of each environment's first game, and the reward models' outputs for its steps.

    Observations are scored some steps at a time, because those of a whole game of Atari need hundreds of megabytes.
    """

    def __init__(self, venv: VecEnv, models: Mapping[str, RewardEnsemble]) -> None:
        super().__init__(venv)
        self._models = models
        self._pending: list[tuple[Array, Array, Array]] = []
        """Observations, actions and true rewards of the steps that are not scored yet."""
        self._lengths: list[int | None] = [None] * self.num_envs
        """Steps in the first game of each environment; None while it lasts."""
        self._steps = 0
        self._true: list[list[Array]] = [[] for _ in range(self.num_envs)]
        self._outputs: list[dict[str, list[Tensor]]] = [{name: [] for name in models} for _ in range(self.num_envs)]

    def reset(self) -> VecEnvObs:
        """Reset all environments."""
        self._last = np.asarray(self.venv.reset())
        return self._last

    def step_async(self, actions: Array) -> None:
        """Keep the actions and pass them on."""
        self._taken = np.asarray(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Record the step, which is passed on unchanged."""
        observations, rewards, dones, infos = self.venv.step_wait()
        self._pending.append((self._last, self._taken, rewards))
        self._steps += 1
        if len(self._pending) == _CHUNK:
            self._score()
        for env, info in enumerate(infos):
            if "episode" in info and self._lengths[env] is None:  # the end may be hidden from the agent
                self._lengths[env] = self._steps
        self._last = np.asarray(observations)
        return observations, rewards, dones, infos

    def _score(self) -> None:
        """Score the pending steps of the games that lasted until the first of them."""
        observations, actions, rewards = (np.stack(each) for each in zip(*self._pending, strict=True))
        first, self._pending = self._steps - len(self._pending), []
        lasting = [env for env, length in enumerate(self._lengths) if length is None or length > first]
        for env in lasting:
            numbers = as_numbers(self.venv.action_space, actions[:, env])
            self._true[env].append(rewards[:, env])
            for name, model in self._models.items():
                read = encode(observations[:, env], numbers, reads_actions=model.inputs.reads_actions)
                self._outputs[env][name].append(model.predict(torch.from_numpy(read)).cpu())

    def games(self, noise: float) -> list[Game]:
        """Return the first game of each environment."""
        if self._pending:
            self._score()
        return [self._game(env, noise) for env in range(self.num_envs)]

    def _game(self, env: int, noise: float) -> Game:
        steps = slice(self._lengths[env])
        true = np.concatenate(self._true[env])[steps].astype(np.float32)
        outputs = {name: torch.cat(parts, dim=1)[:, steps] for name, parts in self._outputs[env].items()}
        return Game(noise, true, outputs, self._lengths[env] is None)


def play_games(
    config: RunConfig,
    act: Act,
    models: Mapping[str, RewardEnsemble],
    *,
    noise: float,
    episodes: int,
    tell: Callable[[int], None] = lambda ended: None,
) -> list[Game]:
    """Play whole games at the same time.

    Args:
        config: The run.
        act: The policy, which receives unnormalised observations.
        models: Reward models by name.
        noise: Fraction of actions that are replaced by uniformly random ones.
        episodes: Number of games. They start from the same states whatever the noise is.
        tell: Called before each step with the number of finished games.
    """
    seed = evaluation_seed(config)
    with undisturbed(seed):
        recorder = GameRecorder(make_evaluation_envs(config, episodes), models)
        try:
            noisy = with_noise(act, recorder.action_space, noise, config.seed)
            # A monitor outside too, because `play_together` asks it for the returns of unfinished games.
            limit = config.evaluation.max_steps
            play_together(VecMonitor(recorder), noisy, seed=seed, most_steps=limit, tell=tell)
            return recorder.games(noise)
        finally:
            recorder.close()


def with_noise(act: Act, actions: spaces.Space[Any], noise: float, seed: int) -> Act:
    """Return a policy that replaces a fraction of its actions by random ones of an action space."""
    space, rng = copy.deepcopy(actions), stream(seed, "random actions")
    space.seed(environment_seed(seed, "random actions", 1))

    def acting(observations: Array) -> Array:
        chosen = np.array(act(observations))
        for env in np.flatnonzero(rng.random(len(chosen)) < noise):
            chosen[env] = space.sample()
        return chosen

    return acting


def scored(games: list[Game], model: str) -> list[Scored]:
    """Normalise a reward model's outputs over all games to mean zero and deviation one, and average the members."""
    outputs = torch.cat([game.outputs[model] for game in games], dim=1)
    predicted = normalised(outputs, *pooled([moments(outputs)]), 1.0).numpy()
    ends = np.cumsum([len(game.true) for game in games])[:-1]
    parts = np.split(predicted, ends)
    return [Scored(part, game.true) for part, game in zip(parts, games, strict=True)]
