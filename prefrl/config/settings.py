"""Change single settings of a configuration by their dotted names, e.g. "reward.members"."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from prefrl.config.migrations import current_name
from prefrl.config.schema import RunConfig
from prefrl.config.typed import conform
from prefrl.errors import UsageError, near


def replace(config: RunConfig, settings: dict[str, Any]) -> RunConfig:
    """Return a copy with some settings changed.

    Args:
        config: The configuration.
        settings: New values by dotted names, e.g. {"reward.members": 1}.

    Raises:
        UsageError: for an unknown name, or a value of the wrong type.
    """
    data = json.loads(json.dumps(config.to_json()))
    for key, value in settings.items():
        *path, last = current_name("config", key).split(".")
        node = data
        for part in path:
            node = node.get(part) if isinstance(node, dict) else None
        if not isinstance(node, dict) or last not in node or isinstance(node[last], dict):
            raise UsageError(f"there is no setting {key!r}{near(key, _names(data))}")
        node[last] = value
    changed: RunConfig = conform(RunConfig, data, "")
    return changed


def _names(data: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _names(value, f"{prefix}{name}.")
        yield prefix + name
