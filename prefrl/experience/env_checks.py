"""An environment is tried before a run directory exists: made, reset, stepped, rendered where people will look, closed.

What it does wrong is then one line, and nothing has to be cleared away.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.wrappers import TimeLimit

from prefrl.encoder import is_image
from prefrl.errors import UsageError
from prefrl.experience.adapter import Adapter, one_number
from prefrl.experience.env_errors import EnvError
from prefrl.experience.frames import picture
from prefrl.experience.make_env import RENDERED, make_env
from prefrl.experience.observation_spaces import mismatch, out_of_bounds
from prefrl.machine.activity import set_activity
from prefrl.printable import printable

_EPISODES, _STEPS = 10, 1000
"""How many are played with random actions, at most."""
_SECONDS = 3.0
"""... and for how long, so that nobody waits for a slow environment."""
_EXAMINED, _LOOKED_AT = 64, 16
"""The first steps, of which everything is examined, and how many of them are rendered."""

Env = gymnasium.Env[Any, Any]

_log = logging.getLogger("prefrl")


@dataclass(frozen=True)
class EnvProperties:
    """What trying an environment tells of it."""

    horizon: int | None
    """Its time limit, in steps."""
    fps: int
    """Steps shown a second, as it says itself; 30 where it does not."""
    short_episode: int
    """The lower quartile of the lengths of episodes with random actions; 1,000 where none was seen to end."""
    images: bool
    """Whether observations are pictures, as networks see them."""
    rewarded: bool
    """Whether it has a true reward."""


def check_env(env_id: str, arguments: Mapping[str, Any] | None = None, *, people: bool = False) -> EnvProperties:
    """Try an environment.

    Args:
        env_id: Gymnasium's name of it.
        arguments: Its constructor's.
        people: Whether people are to see it.

    Raises:
        UsageError: with what is wrong, in one line.
    """
    mode = RENDERED if people else None
    if people:
        os.environ.setdefault("MUJOCO_GL", "egl")
    set_activity(f"trying {env_id} for a few seconds")
    spy = _Spy(make_env(env_id, arguments, render_mode=mode).env, env_id)
    env = Adapter(spy, env_id)
    try:
        _examine(env, spy, people=people)
        short = _short_episode(env)
    except EnvError as error:
        raise UsageError(str(error)) from error
    finally:
        _close(env)
    _is_new_each_time(env, env_id, arguments, mode)
    if spy.strays:
        _log.warning("%s: observations leave the bounds of its observation_space", printable(env_id))
    space = env.observation_space
    return EnvProperties(horizon(env), _fps(env), short, is_image(space.shape or (), space.dtype), spy.rewarded)


def _close(env: Adapter) -> None:
    try:
        env.close()
    except EnvError as error:
        raise UsageError(str(error)) from error


def _is_new_each_time(env: Adapter, env_id: str, arguments: Mapping[str, Any] | None, mode: str | None) -> None:
    """A run steps several environments, so that making one must not give another's again."""
    other = make_env(env_id, arguments, render_mode=mode)
    same = other.unwrapped is env.unwrapped
    _close(other)
    if same:
        raise UsageError(f"{env_id} gives the same environment each time it is made; a run needs several")


def _examine(env: Adapter, spy: _Spy, *, people: bool) -> None:
    """Step through the first episodes while the spy looks at everything that is given."""
    env.action_space.seed(0)
    deadline = time.monotonic() + _SECONDS
    over, size = True, None
    for step in range(_EXAMINED):
        if over:
            env.reset(seed=0)
        if people and step < _LOOKED_AT:
            size = _see(env, size)
        _, _, terminated, truncated, _ = env.step(env.action_space.sample())
        over = terminated or truncated
        if time.monotonic() > deadline:
            break
    spy.examining = False


def _see(env: Adapter, size: tuple[int, ...] | None) -> tuple[int, ...]:
    """Render, and look whether that is a picture like the ones before; its size."""
    try:
        shown = picture(env.render()).shape
    except ValueError as error:
        raise env.fault(f"its render() gives no picture that people could see: {error}") from None
    except EnvError as error:
        raise UsageError(f"{error}; `prefrl doctor` tells what this machine lacks to render") from error
    if size is not None and shown != size:
        raise env.fault(f"its render() gives pictures of different sizes: {size}, then {shown}")
    return shown


class _Spy(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Looks at what an environment gives before the adapter makes of it what it should be."""

    def __init__(self, env: Env, name: str) -> None:
        super().__init__(env)
        self._name = name
        self.examining = self.rewarded = True
        self.strays = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        answer = self.env.reset(seed=seed, options=options)
        if isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[1], dict):
            self._look(answer[0])
        return answer

    def step(self, action: Any) -> Any:
        answer: Any = self.env.step(action)
        if not isinstance(answer, tuple) or len(answer) != 5:
            return answer
        observation, reward, *rest = answer
        self._look(observation)
        if reward is None:
            self.rewarded = False
            return (observation, 0.0, *rest)
        number = one_number(reward)
        if self.examining and number is not None and not np.isfinite(number):
            raise self._fault(f"found {'nan' if np.isnan(number) else 'inf'} in its reward")
        return answer

    def _look(self, observation: Any) -> None:
        if not self.examining:
            return
        if reason := mismatch(self.observation_space, observation):
            raise self._fault(f"an observation does not match observation_space: {reason}")
        self.strays |= out_of_bounds(self.observation_space, observation)

    def _fault(self, reason: str) -> EnvError:
        return EnvError(f"the environment {self._name} cannot be used: {reason}")


def _short_episode(env: Adapter) -> int:
    """The lower quartile of the lengths of episodes with random actions; one whose end was not seen is a long one."""
    env.action_space.seed(0)
    lengths: list[int] = []
    steps, deadline = 0, time.monotonic() + _SECONDS

    def goes_on() -> bool:
        return steps < _STEPS and time.monotonic() < deadline

    while len(lengths) < _EPISODES and goes_on():
        env.reset(seed=len(lengths))
        length, over = 0, False
        while not over and goes_on():
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            length, steps, over = length + 1, steps + 1, terminated or truncated
        lengths.append(length if over else _STEPS)
    return sorted(lengths)[(len(lengths) - 1) // 4] if lengths else _STEPS


def horizon(env: Env) -> int | None:
    """The steps after which an environment's time limit ends an episode; None without one."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, TimeLimit):
            return int(env._max_episode_steps)
        env = env.env
    return None


def _fps(env: Adapter) -> int:
    found = one_number((env.metadata or {}).get("render_fps"))
    return int(found) if found is not None and np.isfinite(found) and found >= 1 else 30
