"""Environments passed from Python: a class, a function that returns an environment, or an environment.

A run stores an id for such an environment. Other processes cannot create it by this id, so it must be passed again.
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
"""A class, a function that returns a new environment at each call, or an environment, which is copied."""

PREFIX = "python/"


def register_user_env(env: UserEnv, env_id: str | None = None) -> str:
    """Register an environment with Gymnasium.

    Args:
        env: The environment, or what creates it.
        env_id: The id, if a run already refers to it; default: an id made from its name.

    Returns:
        The id.

    Raises:
        UsageError: if it is of another type, or a vector of environments.
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
            f"a {type(env).__name__} is not an environment: pass a task's name, a class, a function or a gymnasium.Env"
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
    """Register the environment that a run was created with; without effect if `env` is None.

    Raises:
        UsageError: if the run's environment was not passed from Python.
    """
    if env is None:
        return
    if not config.env_id.startswith(PREFIX):
        raise UsageError(
            f"env= is for runs whose environment was passed from Python; this run's environment is {config.env_id}"
        )
    register_user_env(env, config.env_id)


def missing(env_id: str) -> str | None:
    """Return an error message if an environment was passed from Python and is not registered now; otherwise None."""
    if not env_id.startswith(PREFIX) or env_id in gymnasium.registry:
        return None
    return (
        f"the environment {env_id} was passed from Python and cannot be created by name: "
        "pass it as env= to prefrl.resume, prefrl.load_policy or prefrl.load_reward"
    )


def user_env_maker(env_id: str) -> Any:
    """Return what creates an environment, to pass it to another process.

    Returns:
        None if the environment can be created by name.

    Raises:
        UsageError: if it cannot be pickled.
    """
    if not env_id.startswith(PREFIX):
        return None
    maker = gymnasium.spec(env_id).entry_point
    try:
        pickle.dumps(maker)
    except Exception as error:
        raise UsageError(
            f"{env_id} cannot be passed to the process that renders it for people ({error}): "
            "use a class or a function at the top level of a module"
        ) from None
    return maker


def check_json(env_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a constructor's arguments as plain JSON data.

    Raises:
        UsageError: if they cannot be stored as JSON.
    """
    given = dict(env_kwargs or {})
    try:
        kept = json.loads(json.dumps(given, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError(
            f"env_kwargs cannot be stored as JSON ({error}): give a function that makes the environment"
        ) from None
    return dict(kept)
