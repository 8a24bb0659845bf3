"""Suggest tasks for an unknown task name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

import gymnasium

from prefrl.errors import UsageError, unknown
from prefrl.printable import printable

_VERSIONED = re.compile(r"(?P<base>.*?)-v(?P<version>\d+)$")
_ATARI = re.compile(r"(?:ALE/)?(?P<game>[A-Z][A-Za-z]*?)(?:-ram)?(?:NoFrameskip|Deterministic)?(?:-v\d+)?$")


def unknown_task(name: str, tasks: Iterable[str], ids: Iterable[str]) -> UsageError:
    """Return an error for an unknown task, which suggests similar names.

    Args:
        name: The unknown name.
        tasks: Names of the tasks.
        ids: Gymnasium ids of the tasks.
    """
    module, _, env_id = name.rpartition(":")
    tasks, registered = list(tasks), list(gymnasium.registry)
    if meant := _meant(env_id, tasks, registered):
        shown = [f"{module}:{each}" if module and each in registered else each for each in meant]
        return UsageError(f"unknown task {printable(name)!r}; did you mean {' or '.join(shown)}?")
    if module:
        own = _registered_by(module)
        told = f"it registers {', '.join(own)}" if own else "it registers no environment"
        return UsageError(f"unknown task {printable(name)!r}; the module {module} was imported, but {told}")
    error = unknown("task", name, tasks, also=[*ids, *registered] if "-v" in name or "/" in name else [])
    if "-v" in name and not difflib.get_close_matches(name, registered, cutoff=0.8):
        own_name = f"module:{printable(name)}"
        return UsageError(f"{error} An environment of your own is named with the module that registers it: {own_name}")
    return error


def _meant(env_id: str, tasks: list[str], registered: list[str]) -> list[str]:
    """Return known names that differ from an id only in version or case, or current names of old Atari ids."""
    versions = _versions(registered)
    found = _VERSIONED.fullmatch(env_id)
    base = found["base"] if found else env_id
    if base.lower() in versions:
        return [max(versions[base.lower()], key=_version)]
    game = _ATARI.fullmatch(env_id)
    if game is None:
        return []
    atari = [f"ale_py:ALE/{each}-v5" for each in _atari_games() if each.lower() == game["game"].lower()]
    return [task for task in tasks if atari and task == game["game"].lower()] + atari


def _versions(registered: list[str]) -> Mapping[str, list[str]]:
    """Group ids by their lower-case name without version."""
    versions: dict[str, list[str]] = {}
    for each in registered:
        if found := _VERSIONED.fullmatch(each):
            versions.setdefault(found["base"].lower(), []).append(each)
    return versions


def _version(env_id: str) -> int:
    found = _VERSIONED.fullmatch(env_id)
    return int(found["version"]) if found else -1


def _atari_games() -> list[str]:
    """Return the names of ale-py's games as spelt in its ids."""
    try:
        from ale_py.registration import rom_id_to_name  # noqa: PLC0415
        from ale_py.roms import get_all_rom_ids  # noqa: PLC0415
    except ImportError:
        return []
    return [rom_id_to_name(rom) for rom in sorted(get_all_rom_ids())]


def _registered_by(module: str) -> list[str]:
    """Return up to five ids of environments that a module defines."""
    found = []
    for env_id, spec in gymnasium.registry.items():
        point = spec.entry_point
        home = point.partition(":")[0] if isinstance(point, str) else getattr(point, "__module__", "")
        if home == module or home.startswith(f"{module}."):
            found.append(f"{module}:{env_id}")
    return found[:5]
