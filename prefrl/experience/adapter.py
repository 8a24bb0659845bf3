"""The adapter around every environment, used for training, playing, rendering and the Python API.

It converts observations to vectors or images, actions to spaces that Stable-Baselines3 supports, and rewards to floats.
It removes reserved keys from `info`, and turns errors of the environment into one line.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import gymnasium
import numpy as np

from prefrl.arrays import Array
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.action_spaces import agent_space, to_environment, unsuitable_actions
from prefrl.experience.env_errors import EnvError, raised
from prefrl.experience.observation_spaces import (
    ObservationError,
    observation_transform,
    selected,
    unsuitable_observations,
)

Env = gymnasium.Env[Any, Any]
_T = TypeVar("_T")

REPORTS_EPISODES = "reports_episodes"
"""Key in an environment's `metadata`: the environment hides the ends of episodes from the agent, and reports the real
episodes in `info["episode"]` (`r`: return, `l`: length)."""
_RESERVED = frozenset(
    {
        "episode",
        "_episode",
        "TimeLimit.truncated",
        "terminal_observation",
        "terminal_info",
        "final_info",
        "_final_info",
        "final_obs",
        "_final_obs",
        "final_observation",
        "_final_observation",
        "reset_info",
    }
)
"""Keys of `info` that monitors and Stable-Baselines3 read; values that the environment sets are removed."""


class Adapter(gymnasium.Wrapper[Any, Any, Any, Any]):
    """An environment with converted spaces and checked results."""

    def __init__(self, env: Env, name: str, *, rewarded: bool = True, observe: Sequence[int] | None = None) -> None:
        """Wrap an environment with supported spaces.

        Args:
            env: The environment.
            name: Its name in error messages.
            rewarded: Whether it has a true reward. If not, its rewards are replaced by 0.
            observe: Places of the numbers of an observation to keep; None for all.

        Raises:
            UsageError: if the observation has no such numbers.
        """
        super().__init__(env)
        self.name, self._rewarded = name, rewarded
        transform = observation_transform(env.observation_space)
        if observe is not None and max(observe) >= (size := transform.target.low.size):
            raise UsageError(f"{name} cannot be observed at {max(observe)}: its observations have {size} numbers")
        self.observation_transform = transform if observe is None else selected(transform, observe)
        self.own_actions = env.action_space
        self.observation_space = self.observation_transform.target
        self.action_space = agent_space(env.action_space)
        self._reports = bool((env.metadata or {}).get(REPORTS_EPISODES))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """Start an episode.

        Raises:
            EnvError: if the environment raises an error or returns something invalid.
        """
        answer = self.guarded("reset()", lambda: self.env.reset(seed=seed, options=options))
        if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[1], dict):
            raise self.fault(f"its reset() gave {_shape_of(answer)}, not (observation, info) as Gymnasium's API asks")
        return self._seen(answer[0]), self._told(answer[1])

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Take an action from the agent's space.

        Raises:
            EnvError: if the environment raises an error or returns something invalid.
        """
        taken = to_environment(self.own_actions, action)
        answer = self.guarded("step()", lambda: self.env.step(taken))
        if not isinstance(answer, tuple) or len(answer) != 5:
            asked = "(observation, reward, terminated, truncated, info) as Gymnasium's API asks"
            raise self.fault(f"its step() gave {_shape_of(answer)}, not {asked}")
        observation, reward, terminated, truncated, info = answer
        ends = self._truth(terminated, "terminated"), self._truth(truncated, "truncated")
        return self._seen(observation), self._number(reward), *ends, self._told(info)

    def render(self) -> Any:
        """Render the environment.

        Raises:
            EnvError: if the environment raises an error.
        """
        return self.guarded("render()", self.env.render)

    def close(self) -> None:
        """Close the environment.

        Raises:
            EnvError: if the environment raises an error.
        """
        try:
            super().close()
        except Exception as error:
            raise raised(self.name, "close()", error) from error

    def fault(self, reason: str) -> EnvError:
        """Return the error for an invalid result of the environment."""
        return EnvError(f"the environment {self.name} cannot be used: {reason}")

    def guarded(self, doing: str, call: Callable[[], _T]) -> _T:
        """Call the environment. Its errors become one line, and their traceback is written to a file.

        Args:
            doing: What is called, e.g. "step()".
            call: Calls the environment.

        Raises:
            EnvError: if the environment raises an error.
        """
        try:
            return call()
        except PrefrlError:
            raise
        except (Exception, SystemExit) as error:
            raise raised(self.name, doing, error) from error

    def _seen(self, observation: Any) -> Array:
        try:
            return self.observation_transform(observation)
        except ObservationError as error:
            raise self.fault(f"an observation does not match observation_space: {error}") from None
        except Exception as error:
            raise self.fault(f"an observation cannot be read: {error}") from None

    def _number(self, reward: Any) -> float:
        if not self._rewarded:
            return 0.0
        if reward is None:
            raise self.fault("its reward is None, although earlier rewards were numbers")
        number = one_number(reward)
        if number is None:
            raise self.fault(f"its reward is {_shape_of(reward)}, not one number")
        return number

    def _truth(self, value: Any, name: str) -> bool:
        if isinstance(value, bool):
            return value
        array = np.asarray(value)
        if array.size != 1:
            raise self.fault(f"its {name} is {_shape_of(value)}, not one truth value")
        return bool(array.reshape(()))

    def _told(self, info: Any) -> dict[str, Any]:
        """Return the scalars and strings of an `info`, without reserved keys."""
        if not isinstance(info, dict):
            return {}
        told = {name: value for name, value in info.items() if name not in _RESERVED and _is_plain(value)}
        episode = info.get("episode")
        if self._reports and episode is not None:
            told["episode"] = episode
        return told


def one_number(value: Any) -> float | None:
    """Convert a number or an array with one element to a float; return None for anything else."""
    if isinstance(value, float):
        return float(value)
    try:
        array = np.asarray(value)
        return float(array.reshape(())) if array.size == 1 and array.dtype.kind in "biuf" else None
    except (TypeError, ValueError, RuntimeError):
        return None


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float | str | np.generic)


def _shape_of(value: Any) -> str:
    """Describe a value for a message: the length of a tuple, the shape of an array, or the type."""
    if isinstance(value, tuple | list):
        return f"{len(value)} values"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    return "None" if value is None else f"a {type(value).__name__}"


def unsuitable(env: Env) -> str | None:
    """Return why an environment's spaces are not supported, or None if they are."""
    for name in ("observation_space", "action_space"):
        if not isinstance(getattr(env, name, None), gymnasium.Space):
            return f"its {name} is not a Gymnasium space"
    return unsuitable_observations(env.observation_space) or unsuitable_actions(env.action_space)


def adapt(env: Env, *, observe: Sequence[int] | None = None) -> Adapter:
    """Wrap an environment so that an exported agent can act in it.

    Observation spaces other than float vectors and images, and action spaces other than Box and Discrete from 0, are
    converted as in training. Other environments are left unchanged.

    Args:
        env: The environment.
        observe: What the agent observes, if it is a student that observes less; see the run's `config.json`.

    Raises:
        UsageError: if it is unsuitable for an agent.
    """
    name = env.spec.id if env.spec else type(env.unwrapped).__name__
    if reason := unsuitable(env):
        raise UsageError(f"{name} is unsuitable: {reason}")
    return Adapter(env, name, observe=observe)
