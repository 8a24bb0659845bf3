"""Create environments by name, wrapped in the adapter. All environments are created here."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
from gymnasium.vector import VectorEnv

from prefrl.config import RunConfig
from prefrl.errors import UsageError
from prefrl.experience.adapter import Adapter, unsuitable
from prefrl.experience.env_errors import raised
from prefrl.experience.tasks import known_tasks, lack_of
from prefrl.experience.user_envs import missing
from prefrl.printable import printable
from prefrl.safety import trust

Env = gymnasium.Env[Any, Any]

RENDERED = "rgb_array"
"""Render mode for frames as arrays."""


def make_env(
    env_id: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    rewarded: bool = True,
    observe: Sequence[int] | None = None,
    render_mode: str | None = None,
    **size: int,
) -> Adapter:
    """Create an environment.

    Args:
        env_id: Its Gymnasium id.
        arguments: The user's arguments for its constructor.
        rewarded: Whether it has a true reward.
        observe: Places of the numbers of an observation to keep; None for all.
        render_mode: `RENDERED` to enable rendering.
        **size: `width` and `height` of the frames, for environments that accept them.

    Raises:
        UsageError: if it cannot be created, or is not supported.
    """
    own = size | ({"render_mode": render_mode} if render_mode else {})
    env = _make(env_id, dict(arguments or {}), own)
    if reason := unsuitable(env):
        env.close()
        raise UsageError(f"{env_id} is unsuitable: {reason}")
    if render_mode and (reason := _unseen(env_id, env)):
        env.close()
        raise UsageError(f"{env_id} cannot be rendered: {reason}")
    return Adapter(env, env_id, rewarded=rewarded, observe=observe)


def run_env(config: RunConfig, *, render_mode: str | None = None) -> Adapter:
    """Create the environment of a run; arguments and errors as for `make_env`."""
    observe, rewarded = config.observe, config.true_reward
    return make_env(config.env_id, config.env_kwargs, rewarded=rewarded, observe=observe, render_mode=render_mode)


def _make(env_id: str, arguments: dict[str, Any], own: dict[str, Any]) -> Env:
    _check_packages(env_id)
    _quiet_mujoco()
    if gone := missing(env_id):
        raise UsageError(gone)
    if clash := sorted(set(arguments) & {"render_mode", "id", "disable_env_checker"}):
        raise UsageError(f"--env-kwargs cannot set {clash[0]}: prefrl chooses it")
    signature = _signature(env_id)
    own = {name: value for name, value in own.items() if signature is None or _takes(signature, name)}
    try:
        with trust.importing(env_id):
            return gymnasium.make(env_id, disable_env_checker=True, **arguments, **own)
    except UsageError:
        raise
    except (gymnasium.error.Error, ImportError) as error:
        raise UsageError(f"{env_id} cannot be made: {error}") from None
    except (Exception, SystemExit) as error:
        if reason := _wrong_arguments(env_id, arguments | own):
            raise UsageError(f"{env_id} cannot be made: {reason}") from None
        raise UsageError(str(raised(env_id, "its constructor", error))) from error


def _check_packages(env_id: str) -> None:
    """Raise UsageError if the environment is that of a named task that lacks something on this machine."""
    for task in known_tasks().values():  # loading the task tables also registers their environments
        if task.env_id == env_id and (lack := lack_of(task)):
            raise UsageError(f"{task.name} cannot be used: {lack}")


def _unseen(env_id: str, env: Env) -> str | None:
    """Return why an environment cannot be rendered, or None if its metadata says that it can."""
    signature = _signature(env_id)
    if env.render_mode != RENDERED and signature is not None and not _takes(signature, "render_mode"):
        return "its constructor takes no render_mode, so it cannot be rendered"
    if RENDERED not in (env.metadata or {}).get("render_modes", []):
        return f'its metadata["render_modes"] names no "{RENDERED}"'
    return None


def _signature(env_id: str) -> inspect.Signature | None:
    """Return the signature of an environment's constructor, or None if it cannot be determined."""
    try:
        with trust.importing(env_id):
            module, _, name = env_id.rpartition(":")
            if module:
                importlib.import_module(module)
            creator: Any = gymnasium.spec(name).entry_point
            if isinstance(creator, str):
                creator = gymnasium.envs.registration.load_env_creator(creator)
        return inspect.signature(creator) if creator else None
    except UsageError:
        raise
    except (Exception, SystemExit):  # an error of the user's module, which is reported when it is created
        return None


def _takes(signature: inspect.Signature, name: str) -> bool:
    parameters = signature.parameters
    return name in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())


def _wrong_arguments(env_id: str, given: dict[str, Any]) -> str | None:
    """Return which arguments are missing or unknown, or None if the arguments do not explain the error."""
    signature = _signature(env_id)
    if signature is None:
        return None
    given = gymnasium.spec(env_id.rpartition(":")[2]).kwargs | given
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    named = {name: each for name, each in signature.parameters.items() if each.kind not in variable}
    lacking = [name for name, each in named.items() if each.default is each.empty and name not in given]
    if lacking:
        pairs = " ".join(f"{name}=VALUE" for name in lacking)
        return f"its constructor needs {', '.join(lacking)}: --env-kwargs {pairs} (in Python, env_kwargs={{...}})"
    unknown = [name for name in given if not _takes(signature, name) and name != "max_episode_steps"]
    known = ", ".join(name for name in named if name != "render_mode") or "none"
    return f"its constructor takes no {', '.join(unknown)}; it takes: {known}" if unknown else None


def make_engine(env_id: str, envs: int) -> VectorEnv[Any, Any, Any]:
    """Create a vector environment with its own engine.

    Args:
        env_id: Its Gymnasium id.
        envs: Number of environments.

    Raises:
        UsageError: if it cannot be created.
    """
    known_tasks()
    try:
        with trust.importing(env_id):
            return gymnasium.make_vec(env_id, envs, vectorization_mode="vector_entry_point")
    except (gymnasium.error.Error, ImportError) as error:
        raise UsageError(f"{env_id} cannot be made: {error}") from None


def _quiet_mujoco() -> None:
    """Log MuJoCo's warnings, some about Gymnasium's own models, instead of printing them and writing them to a file."""
    import mujoco  # noqa: PLC0415 - takes a moment

    def log(text: str | bytes) -> None:
        line = text.decode() if isinstance(text, bytes) else text
        level = logging.DEBUG if "settotalmass" in line else logging.WARNING
        logging.getLogger("mujoco").log(level, printable(line.strip()))

    mujoco.set_mju_user_warning(log)
