"""Environments that are given from Python: a class, a function that makes one, or one itself.

A run knows them by an id of their own, which no other process can make: it has to be given them again.
"""

from __future__ import annotations

import copy
import functools
import json
import pickle
import re
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
from gymnasium.vector import VectorEnv

from prefrl.config import RunConfig
from prefrl.errors import UsageError

UserEnv = Callable[..., gymnasium.Env[Any, Any]] | gymnasium.Env[Any, Any]
"""A class, a function that makes a new environment at each call, or an environment, of which copies are made."""

PREFIX = "python/"


def register_user_env(env: UserEnv, env_id: str | None = None) -> str:
    """Have an environment made under an id.

    Args:
        env: The environment, or what makes it.
        env_id: The id that it had before; default: one by its own name.

    Returns:
        The id.

    Raises:
        UsageError: if it is none of these, or cannot be copied.
    """
    if isinstance(env, VectorEnv) or hasattr(env, "step_async"):
        raise UsageError(f"a {type(env).__name__} is a vector of environments: give a function that makes a single one")
    maker: Callable[..., gymnasium.Env[Any, Any]]
    if isinstance(env, gymnasium.Env):
        maker, name = functools.partial(_copy, env), type(env.unwrapped).__name__
    elif callable(env):
        maker, name = env, getattr(env, "__name__", type(env).__name__)
    else:
        raise UsageError(
            f"a {type(env).__name__} is no environment: give a task's name, a class, a function or a gymnasium.Env"
        )
    env_id = env_id or f"{PREFIX}{re.sub(r'[^A-Za-z0-9_]', '', name) or 'Environment'}-v0"
    gymnasium.registry.pop(env_id, None)
    gymnasium.register(env_id, maker)
    return env_id


def _copy(env: gymnasium.Env[Any, Any]) -> gymnasium.Env[Any, Any]:
    try:
        return copy.deepcopy(env)
    except Exception as error:
        name = type(env.unwrapped).__name__
        raise UsageError(f"{name} cannot be copied ({error}): give a function that makes it instead") from None


def restore_user_env(config: RunConfig, env: UserEnv | None) -> None:
    """Give a run back the environment that it was begun with; nothing to do for None.

    Raises:
        UsageError: if the run knows its environment by a name.
    """
    if env is None:
        return
    if not config.env_id.startswith(PREFIX):
        raise UsageError(f"env= is for runs whose environment was given from Python; this one's is {config.env_id}")
    register_user_env(env, config.env_id)


def missing(env_id: str) -> str | None:
    """What to say where a run's environment was given from Python and is not there now; None for any other."""
    if not env_id.startswith(PREFIX) or env_id in gymnasium.registry:
        return None
    return (
        f"the environment {env_id} was given from Python, and no name makes it again: "
        "give it as env= to prefrl.resume, prefrl.load_policy or prefrl.load_reward"
    )


def user_env_maker(env_id: str) -> Any:
    """What makes an environment that was given from Python, for another process; None for one that has a name.

    Raises:
        UsageError: if no other process could be given it.
    """
    if not env_id.startswith(PREFIX):
        return None
    maker = gymnasium.spec(env_id).entry_point
    try:
        pickle.dumps(maker)
    except Exception as error:
        raise UsageError(
            f"{env_id} cannot be given to the process that films it for people ({error}): "
            "use a class or a function at the top level of a module"
        ) from None
    return maker


def check_json(env_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """The arguments of a constructor, which have to be stored.

    Raises:
        UsageError: if they are no JSON.
    """
    given = dict(env_kwargs or {})
    try:
        kept = json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"env_kwargs cannot be stored as JSON ({error}): give a function that makes the environment"
        ) from None
    return dict(kept)
