"""Check an environment before a run is created: create it, reset it, step it, render it for people, close it.

Errors are reported in one line, before any file is written.
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
"""Maximum number of episodes and steps with random actions."""
_SECONDS = 3.0
"""Time limit for them, so that slow environments do not delay the start."""
_EXAMINED, _LOOKED_AT = 64, 16
"""Number of first steps whose results are checked, and number of these that are rendered."""

Env = gymnasium.Env[Any, Any]

_log = logging.getLogger("prefrl")


@dataclass(frozen=True)
class EnvProperties:
    """Properties of an environment, found by stepping it."""

    horizon: int | None
    """Time limit in steps; None without one."""
    fps: int
    """Steps per second for playback, from the environment's metadata; 30 by default."""
    short_episode: int
    """Lower quartile of the lengths of episodes with random actions, in steps; 1,000 if no episode ended."""
    images: bool
    """Whether converted observations are images."""
    rewarded: bool
    """Whether it has a true reward."""


def check_env(env_id: str, arguments: Mapping[str, Any] | None = None, *, people: bool = False) -> EnvProperties:
    """Check an environment and determine its properties.

    Args:
        env_id: Its Gymnasium id.
        arguments: Arguments of its constructor.
        people: Whether people will label its clips, so that it must render.

    Raises:
        UsageError: if the environment cannot be used.
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
    """Check that two created environments are distinct, because a run steps several."""
    other = make_env(env_id, arguments, render_mode=mode)
    same = other.unwrapped is env.unwrapped
    _close(other)
    if same:
        raise UsageError(f"{env_id} returns the same environment each time it is created; a run needs several")


def _examine(env: Adapter, spy: _Spy, *, people: bool) -> None:
    """Step through the first episodes while the spy checks all results."""
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
    """Render a frame, check that its shape equals `size`, and return its shape."""
    try:
        shown = picture(env.render()).shape
    except ValueError as error:
        raise env.fault(f"its render() does not return an image: {error}") from None
    except EnvError as error:
        raise UsageError(f"{error}; `prefrl doctor` lists what this machine lacks") from error
    if size is not None and shown != size:
        raise env.fault(f"its render() returns images of different sizes: {size}, then {shown}")
    return shown


class _Spy(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Checks an environment's results before the adapter converts them."""

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
    """Return the lower quartile of episode lengths with random actions; an unfinished episode counts as 1,000 steps."""
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
    """Return the environment's time limit in steps, or None without one."""
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, TimeLimit):
            return int(env._max_episode_steps)
        env = env.env
    return None


def _fps(env: Adapter) -> int:
    found = one_number((env.metadata or {}).get("render_fps"))
    return int(found) if found is not None and np.isfinite(found) and found >= 1 else 30
