"""How older files are read: each change of a format is one line in `MIGRATIONS`.

Every kind of file has a format number, which a file says under "format". The present number is the highest among the
kind's migrations, so that a new line raises it. An older file is brought up to date by the migrations above its own
number, in order; a newer file is refused. `restored` goes back to the first format, so that hashes of configurations
stay what they were.

`metrics.csv` has no room for a number: its header says which columns it has, and `present_name` renames them.
`labels.sqlite` has versions of its own, in `prefrl.feedback.schema`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from prefrl.errors import DamagedFileError, UsageError
from prefrl.printable import printable

Data = dict[str, Any]
"""What a file holds: nested dictionaries with string keys. A path names an entry: "agent.gamma"."""


class Migration(Protocol):
    """One change of one kind's format. Both directions work in place."""

    @property
    def kind(self) -> str:
        """What is changed, e.g. "config"."""

    @property
    def format(self) -> int:
        """The first format number with the change."""

    def upgrade(self, data: Data) -> None:
        """Make the change; raises UsageError where that cannot be done."""

    def downgrade(self, data: Data) -> None:
        """Undo the change."""


@dataclass(frozen=True)
class Rename:
    """An entry has another path."""

    kind: str
    format: int
    old: str
    new: str

    def upgrade(self, data: Data) -> None:
        """Move the entry to its new path."""
        _move(data, self.old, self.new)

    def downgrade(self, data: Data) -> None:
        """Move it back."""
        _move(data, self.new, self.old)


@dataclass(frozen=True)
class Add:
    """An entry is new; files without it mean this value."""

    kind: str
    format: int
    path: str
    value: Any

    def upgrade(self, data: Data) -> None:
        """Add the entry where it is missing."""
        parent, name = _place(data, self.path)
        if parent is not None:
            parent.setdefault(name, copy.deepcopy(self.value))

    def downgrade(self, data: Data) -> None:
        """Take the entry out where it has the value that its absence means."""
        parent, name = _place(data, self.path)
        if parent is not None and name in parent and parent[name] == self.value:
            del parent[name]


@dataclass(frozen=True)
class Change:
    """Whatever the other two cannot say."""

    kind: str
    format: int
    upgrade: Callable[[Data], None]
    downgrade: Callable[[Data], None]


def _one_kl(data: Data) -> None:
    """TRPO's bound was apart, as `agent.target_kl`, which other algorithms had too and did not read."""
    agent = data.get("agent")
    if isinstance(agent, dict) and "target_kl" in agent:
        bound = agent.pop("target_kl")
        agent["stopping_kl"] = bound if data.get("algo") == "trpo" else agent.get("stopping_kl")


def _two_kls(data: Data) -> None:
    agent = data["agent"]
    agent["target_kl"] = _TRPO_KL
    if data["algo"] == "trpo":
        agent["target_kl"], agent["stopping_kl"] = agent["stopping_kl"] or _TRPO_KL, None


_TRPO_KL = 0.01
"""Stable-Baselines3's default."""
_EVALUATION = {"episodes": 10, "every": None, "every_episodes": 3, "max_steps": 27_000}

MIGRATIONS: tuple[Migration, ...] = (
    Add("archive", 2, "taken_back", []),
    Add("archive", 2, "repeats", []),
    Add("archive", 2, "flags", []),
    Add("archive", 2, "counts.taken_back", 0),
    Add("archive", 2, "counts.repeats", 0),
    Add("archive", 2, "counts.flags", 0),
    Add("archive", 3, "late", []),
    Add("archive", 3, "flags_taken_back", []),
    Add("archive", 3, "counts.late", 0),
    Add("archive", 3, "counts.flags_taken_back", 0),
    Add("config", 2, "evaluation", _EVALUATION),
    Add("config", 2, "env_kwargs", {}),
    Add("config", 2, "true_reward", True),
    Add("config", 2, "reward.normalise_over", "comparisons"),
    Change("config", 2, _one_kl, _two_kls),
    Rename("config", 2, "agent.stopping_kl", "agent.target_kl"),
)
"""All of them, a kind's in the order of their numbers."""


def present(kind: str) -> int:
    """The format number that this version writes."""
    return max((each.format for each in MIGRATIONS if each.kind == kind), default=1)


def check_format(kind: str, said: Any, path: Path, made_by: object = None) -> int:
    """The format number that a file says.

    Args:
        kind: What the file is.
        said: What it says under "format".
        path: The file.
        made_by: The version of prefrl that it says it was made by.

    Raises:
        DamagedFileError: if that is no number.
        UsageError: if it is a newer version's.
    """
    if type(said) is not int or said < 1:
        raise DamagedFileError(f"{printable(path)} is damaged: it names no format")
    if said > present(kind):
        version = f" ({printable(made_by, 40)})" if made_by else ""
        raise UsageError(f"{printable(path)} was made by a newer version of prefrl{version}")
    return said


def upgraded(kind: str, data: Any, found: int, path: Path) -> Any:
    """What a file holds, in this version's format; the data itself stays as it is.

    Args:
        kind: What the file is.
        data: What it holds. What is no dictionary comes back as it is: checking types is another's work.
        found: The file's format number.
        path: The file.

    Raises:
        DamagedFileError: if a migration cannot be made.
    """
    if not isinstance(data, dict):
        return data
    data = _copied(data)
    try:
        for each in MIGRATIONS:
            if each.kind == kind and each.format > found:
                each.upgrade(data)
    except UsageError as error:
        raise DamagedFileError(f"{printable(path)} cannot be brought up to date: {error}") from None
    return data


def restored(kind: str, data: Data) -> Data:
    """What a file of the first format would hold, as far as that format can say it."""
    data = _copied(data)
    for each in reversed(MIGRATIONS):
        if each.kind == kind:
            each.downgrade(data)
    return data


def present_name(kind: str, name: str) -> str:
    """What an entry is called now that may have been renamed, e.g. a setting or a column."""
    for each in MIGRATIONS:
        if isinstance(each, Rename) and (each.kind, each.old) == (kind, name):
            name = each.new
    return name


def stamped(kind: str, tree: Data) -> Data:
    """A tree that says its format, to be saved."""
    return {"format": present(kind)} | tree


def opened(kind: str, tree: Data, path: Path) -> Data:
    """A tree that was loaded, in this version's format and without the number; those of older versions have none.

    Raises:
        DamagedFileError: if its format is no number, or it cannot be brought up to date.
        UsageError: if it is a newer version's.
    """
    found = check_format(kind, tree.get("format", 1), path)
    data: Data = upgraded(kind, tree, found, path)
    data.pop("format", None)
    return data


def _move(data: Data, old: str, new: str) -> None:
    source, name = _place(data, old)
    if source is None or name not in source:
        return
    target, renamed = _place(data, new)
    if target is None or renamed in target:
        raise UsageError(f"{old} is called {new} now, where something else is")
    target[renamed] = source.pop(name)


def _place(data: Data, path: str) -> tuple[Data | None, str]:
    """The dictionary that holds, or is to hold, an entry, None where there is none; and the entry's name in it."""
    *parents, name = path.split(".")
    node: Any = data
    for part in parents:
        node = node.get(part) if isinstance(node, dict) else None
    return (node if isinstance(node, dict) else None), name


def _copied(node: Any) -> Any:
    """A copy of the dictionaries alone; arrays, lists and plain values are shared."""
    return {name: _copied(child) for name, child in node.items()} if isinstance(node, dict) else node
