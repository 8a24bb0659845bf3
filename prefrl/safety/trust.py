"""What may be imported: what the person names, and nothing that a run names by itself.

Making an environment such as `module:Env-v0` imports the module. On the command line, and in an argument from Python,
it is the person's own word. In a `config.json` it is the word of whoever made the run. Of a run, only these may be
made: environments that installed packages offer (tasks, and ids that are registered already), those of modules that the
person names (`--trust MODULE`), and those of runs that this person made, by a signature over all that decides what is
imported and how it is called.

Whatever was not admitted here cannot be made: `importing` is the only door, and it stands before Gymnasium's.
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
    """What `config.json` says of who made the run."""

    folder: str | None
    """Where its module was found; None where it is installed."""
    signature: str


class Passport(NamedTuple):
    """What a process hands to one that it starts, so that the child may make what the parent made."""

    call: bytes
    module: str
    folder: str | None


_folders: dict[str, str | None] = {}
"""Modules that the person named, by themselves or by a run of theirs, with the folder of each that is not installed."""
_calls: set[bytes] = set()
"""What this process has made a run of, or was trusted to make: environments with their arguments."""


def module_of(env_id: str) -> str:
    """The module that making an environment imports; empty where it names none."""
    return env_id.rpartition(":")[0]


def import_named(module: str) -> None:
    """Import a module that the person named, from what is installed or from the working folder.

    Raises:
        UsageError: if it cannot be imported.
    """
    folder = None if _is_installed(module) else os.getcwd()
    _import(module, folder)


@contextmanager
def importing(env_id: str) -> Iterator[None]:
    """Within, an environment may be made; its module finds what lies beside it.

    Raises:
        UsageError: if it names a module that nobody admitted.
    """
    require(env_id)
    with _also_from(_folders.get(module_of(env_id))):
        yield


def require(env_id: str) -> None:
    """Raise UsageError if a name would import a module that nobody admitted."""
    module = module_of(env_id)
    if ":" in env_id and module not in _folders:
        raise UsageError(f"{_told(env_id)} would import the module {_told(module)}: {_flag(module)}")


def sign(config: RunConfig) -> Origin | None:
    """What marks a run as this person's; None where it imports nothing, or where no key can be kept."""
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
    """Once: a key that cannot be kept stops no training."""
    where = printable(key_file() or "the state folder")
    told = f"prefrl: {where} cannot be used, so that this run is not marked as yours: resume and play it with --trust"
    complain(f"{told} {_told(needed)}")


def admit(root: Path, config: RunConfig, origin: Origin | None, trust: Sequence[str] = ()) -> None:
    """Let a run's environment be made in this process, and import its module.

    Args:
        root: The run.
        config: Its configuration.
        origin: Who made it, as it says.
        trust: Modules that the person trusts.

    Raises:
        UsageError: if it is neither this person's nor trusted; it names the module and the flag.
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
    """For a process beside this one, which has the environment made already."""
    module = module_of(config.env_id)
    return Passport(_call(config), module, _folders.get(module))


def accept(given: Passport) -> None:
    """Take a parent's word."""
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
    """The package that a registered id belongs to."""
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
        raise UsageError(f"{_told(module)} is no module's name")
    try:
        with _also_from(folder):
            importlib.import_module(module)
    except (Exception, SystemExit) as error:
        reason = printable(f"{type(error).__name__}: {error}", 300)
        raise UsageError(f"the module {_told(module)} cannot be imported: {reason}") from None
    _folders[module] = folder


@contextmanager
def _also_from(folder: str | None) -> Iterator[None]:
    """Within, imports look into a folder too: after all that is installed, so that it can stand in for nothing."""
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
