"""Control which modules may be imported: those that the user names, and none that only a run names.

Creating an environment such as `module:Env-v0` imports the module. If the user names it on the command line or in
Python, it is trusted. If a run's `config.json` names it, it may come from someone else. An environment of a run may be
created only in these cases:

- An installed package provides it: it belongs to a task, or its id is already registered.
- The user trusts its module (`--trust MODULE`).
- The user made the run. This is verified by a signature over everything that determines what is imported and called.

Other environments cannot be created, because all creation passes through `importing`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from prefrl.config import RunConfig
from prefrl.errors import UsageError
from prefrl.printable import complain, printable
from prefrl.safety.signing import canonical, is_signed, key_file, signature


class Origin(TypedDict):
    """The origin of a run, as stored in `config.json`."""

    folder: str | None
    """Folder of the environment's module; None if the module is installed."""
    signature: str


class Passport(NamedTuple):
    """Permission to create an environment, which a process passes to its worker processes."""

    call: bytes
    module: str
    folder: str | None


_folders: dict[str, str | None] = {}
"""Admitted modules, each with its folder, or None if it is installed."""
_calls: set[bytes] = set()
"""Admitted environments with their arguments, in canonical form."""


def module_of(env_id: str) -> str:
    """Return the module that an environment id names; empty if it names none."""
    return env_id.rpartition(":")[0]


def import_named(module: str) -> None:
    """Import a module that the user named, from the installed packages or the working folder.

    Raises:
        UsageError: if it cannot be imported.
    """
    folder = None if _is_installed(module) else os.getcwd()
    _import(module, folder)


@contextmanager
def importing(env_id: str) -> Iterator[None]:
    """Allow an environment to be created inside this context. Its module can import from its own folder.

    Raises:
        UsageError: if the id names a module that was not admitted.
    """
    require(env_id)
    with _also_from(_folders.get(module_of(env_id))):
        yield


def require(env_id: str) -> None:
    """Raise UsageError if creating an environment would import a module that was not admitted."""
    module = module_of(env_id)
    if ":" in env_id and module not in _folders:
        raise UsageError(f"{_told(env_id)} would import the module {_told(module)}: {_flag(module)}")


def sign(config: RunConfig) -> Origin | None:
    """Sign a run as the user's own.

    Returns:
        None if the run imports no module and passes no arguments, or if no key can be stored.
    """
    module = module_of(config.env_id)
    _calls.add(_call(config))
    if not module and not _arguments(config):
        return None
    folder = _folders.get(module)
    signed = signature(_signed(config, folder))
    if signed is None:
        _say_unsigned(module or _package_of(config.env_id))
        return None
    return Origin(folder=folder, signature=signed)


@cache
def _say_unsigned(needed: str) -> None:
    """Warn once that the run is not signed. Training continues without a key."""
    where = printable(key_file() or "the state folder")
    told = f"prefrl: {where} cannot be used, so this run is not marked as yours: resume and play it with --trust"
    complain(f"{told} {_told(needed)}")


def admit(root: Path, config: RunConfig, origin: Origin | None, trust: Sequence[str] = ()) -> None:
    """Allow this process to create a run's environment, and import its module.

    Args:
        root: The run directory.
        config: The run's configuration.
        origin: The run's stored origin.
        trust: Modules that the user trusts.

    Raises:
        UsageError: if the run is neither the user's own nor trusted; the message names the module and the flag.
    """
    module = module_of(config.env_id)
    if (not module and not _arguments(config)) or (_call(config) in _calls and (not module or module in _folders)):
        return
    if origin and is_signed(_signed(config, origin["folder"]), origin["signature"]):
        if module:
            _import(module, origin["folder"])
    elif (needed := module or _package_of(config.env_id)) not in trust:
        does = f"imports the module {_told(needed)}" if module else f"passes arguments to {_told(config.env_id)}"
        raise UsageError(f"{printable(root)} is not one of your own runs, and {does}: {_flag(needed)}")
    elif module:
        import_named(module)
    _calls.add(_call(config))


def passport(config: RunConfig) -> Passport:
    """Return the permission for a worker process to create this run's environment."""
    module = module_of(config.env_id)
    return Passport(_call(config), module, _folders.get(module))


def accept(given: Passport) -> None:
    """Accept the permission from the parent process."""
    _calls.add(given.call)
    if given.module:
        _import(given.module, given.folder)


def _call(config: RunConfig) -> bytes:
    return canonical([config.env_id, _arguments(config)])


def _signed(config: RunConfig, folder: str | None) -> dict[str, Any]:
    return {"task": config.task, "env_id": config.env_id, "env_kwargs": _arguments(config), "folder": folder}


def _arguments(config: RunConfig) -> dict[str, Any]:
    return dict(getattr(config, "env_kwargs", {}))


def _package_of(env_id: str) -> str:
    """Return the package that provides a registered id."""
    import gymnasium  # noqa: PLC0415 - takes a moment, and few runs need it

    spec = gymnasium.registry.get(env_id)
    made_by = spec.entry_point if spec else None
    module = made_by.partition(":")[0] if isinstance(made_by, str) else getattr(made_by, "__module__", None)
    return (module or "gymnasium").split(".")[0]


def _is_installed(module: str) -> bool:
    top = module.partition(".")[0]
    try:
        return top in sys.modules or importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _import(module: str, folder: str | None) -> None:
    if not all(part.isidentifier() for part in module.split(".")):
        raise UsageError(f"{_told(module)} is not a module name")
    try:
        with _also_from(folder):
            importlib.import_module(module)
    except (Exception, SystemExit) as error:
        reason = printable(f"{type(error).__name__}: {error}", 300)
        raise UsageError(f"the module {_told(module)} cannot be imported: {reason}") from None
    _folders[module] = folder


@contextmanager
def _also_from(folder: str | None) -> Iterator[None]:
    """Add a folder to the import path, after all installed packages, so that it cannot shadow them."""
    if folder is None:
        yield
        return
    before = list(sys.path)
    sys.path.append(folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def _told(name: str) -> str:
    return printable(name, 80)


def _flag(module: str) -> str:
    return f"if you trust it, add --trust {_told(module)} (from Python: trust=({_told(module)!r},))"
