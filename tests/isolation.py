"""What one test changes of this process, the next one does not find."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import torch

from prefrl import registry
from prefrl.feedback.kinds import KINDS
from prefrl.safety import trust

_MAPPINGS: tuple[MutableMapping[str, Any], ...] = (
    *(each for each in vars(registry).values() if isinstance(each, registry.Registry)),
    KINDS,
    os.environ,
    trust._folders,
)


@contextmanager
def unchanged_process(temporary: Path) -> Iterator[None]:
    """Put back registries, environment variables, the import path, the working folder, trust, torch's threads, theme.

    Modules that were imported from a temporary folder are forgotten, with the environments that they registered.

    Args:
        temporary: The folder in which tests have theirs.
    """
    mappings = [dict(each) for each in _MAPPINGS]
    calls, path, folder, threads = set(trust._calls), list(sys.path), os.getcwd(), torch.get_num_threads()
    names, modules = set(gymnasium.registry), set(sys.modules)
    yield
    for each, before in zip(_MAPPINGS, mappings, strict=True):
        if dict(each) != before:
            each.clear()
            each.update(before)
    trust._calls.clear()
    trust._calls.update(calls)
    sys.path[:] = path
    os.chdir(folder)
    torch.set_num_threads(threads)
    if (theme := sys.modules.get("clip_viewer.theme")) and theme.QApplication.instance():
        theme.set_theme("light")
    forgotten = {name for name in set(sys.modules) - modules if _is_from(temporary, sys.modules[name])}
    for name in forgotten:
        del sys.modules[name]
    for name in set(gymnasium.registry) - names:
        if _module(gymnasium.registry[name].entry_point) in forgotten:
            del gymnasium.registry[name]


def _is_from(folder: Path, module: ModuleType) -> bool:
    place = getattr(module, "__file__", None)
    return place is not None and Path(place).is_relative_to(folder)


def _module(entry_point: Any) -> str | None:
    """The module that a registered environment is made by."""
    return entry_point.partition(":")[0] if isinstance(entry_point, str) else getattr(entry_point, "__module__", None)
