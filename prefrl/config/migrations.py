"""Read files of older versions. Each change of a format is one line in `MIGRATIONS`.

Every kind of file has a format number, which files store as "format". The current number is the highest of the kind's
migrations, so adding a migration raises it. An older file is upgraded by all migrations above its own number, in order.
A newer file is refused. `downgraded` converts data to the first format, so that hashes of configurations never change.

`metrics.csv` has no format number: its header names the columns, and `current_name` renames them. `labels.sqlite` has
its own versions, see `prefrl.safety.store_schema`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from prefrl.errors import DamagedFileError, UsageError
from prefrl.printable import printable

Data = dict[str, Any]
"""Content of a file: nested dictionaries with string keys. Entries are named by paths such as "agent.gamma"."""


class Migration(Protocol):
    """One change of the format of a kind of file. Both methods modify the data in place."""

    @property
    def kind(self) -> str:
        """The kind of file, e.g. "config"."""

    @property
    def format(self) -> int:
        """The first format number that includes the change."""

    def upgrade(self, data: Data) -> None:
        """Apply the change.

        Raises:
            UsageError: if the data does not allow it.
        """

    def downgrade(self, data: Data) -> None:
        """Revert the change."""


@dataclass(frozen=True)
class Rename:
    """An entry is renamed or moved to another path."""

    kind: str
    format: int
    old: str
    new: str

    def upgrade(self, data: Data) -> None:
        """Move the entry to its new path."""
        _move(data, self.old, self.new)

    def downgrade(self, data: Data) -> None:
        """Move the entry back to its old path."""
        _move(data, self.new, self.old)


@dataclass(frozen=True)
class Add:
    """An entry is added. Files without it get a default value."""

    kind: str
    format: int
    path: str
    value: Any

    def upgrade(self, data: Data) -> None:
        """Add the entry if it is missing."""
        parent, name = _place(data, self.path)
        if parent is not None:
            parent.setdefault(name, copy.deepcopy(self.value))

    def downgrade(self, data: Data) -> None:
        """Remove the entry if it has the default value."""
        parent, name = _place(data, self.path)
        if parent is not None and name in parent and parent[name] == self.value:
            del parent[name]


@dataclass(frozen=True)
class Change:
    """Any other change."""

    kind: str
    format: int
    upgrade: Callable[[Data], None]
    downgrade: Callable[[Data], None]


def _one_kl(data: Data) -> None:
    """Merge the two KL bounds. Only TRPO used `agent.target_kl`; other algorithms used `agent.stopping_kl`."""
    agent = data.get("agent")
    if isinstance(agent, dict) and "target_kl" in agent:
        bound = agent.pop("target_kl")
        agent["stopping_kl"] = bound if data.get("algo") == "trpo" else agent.get("stopping_kl")


def _two_kls(data: Data) -> None:
    """Split the KL bound into two again."""
    agent = data["agent"]
    agent["target_kl"] = _TRPO_KL
    if data["algo"] == "trpo":
        agent["target_kl"], agent["stopping_kl"] = agent["stopping_kl"] or _TRPO_KL, None


def _reads_by_default(data: Data) -> None:
    """Say that the reward model reads the action as in the paper; before, False meant this."""
    reward, name = _place(data, "reward.reads_actions")
    if reward is not None and reward.get(name) is False:
        reward[name] = None


def _reads_as_before(data: Data) -> None:
    """Say it by False again. A reward model that ignores the action did not exist, and keeps a hash of its own."""
    reward, name = _place(data, "reward.reads_actions")
    if reward is not None and not reward.get(name, True):
        reward[name] = False if reward[name] is None else "never"


def _of_any_kind(row: Data) -> None:
    """Convert an answer to a comparison, or a flag of one, to the format for all feedback kinds."""
    row["kind"], row["segments"] = "comparison", [row.pop("left"), row.pop("right")]
    if "judgement" in row:
        row["value"] = row.pop("judgement")


def _of_comparisons(row: Data) -> None:
    """Convert an answer or a flag to the format for comparisons."""
    row["left"], row["right"] = row.pop("segments")
    if "value" in row:
        row["judgement"] = row.pop("value")
    del row["kind"]


def _each_flag(change: Callable[[Data], None], data: Data) -> None:
    for name in ("flags", "flags_taken_back"):
        data[name] = [dict(flag) for flag in data[name]]
        for flag in data[name]:
            change(flag)


_TRPO_KL = 0.01
"""Stable-Baselines3's default."""
_EVALUATION = {"episodes": 10, "every": None, "every_episodes": 3, "max_steps": 27_000}
_OFF_POLICY = {
    "memory": 1_000_000,
    "random_steps": 1000,
    "updates_per_step": 1.0,
    "tau": 0.005,
    "target_interval": 1,
    "alpha": 1.0,
    "learn_alpha": True,
    "alpha_learning_rate": None,
    "log_std_min": -20.0,
    "layer_norm": False,
    "exploration_fraction": 0.1,
    "exploration_final": 0.01,
    "fresh_critic": False,
    "fresh_updates": 100,
    "recent_steps": 0,
    "recent_fraction": 0.5,
}
_DEMONSTRATIONS: Data = {
    "source": None,
    "episodes": 10,
    "steps": 20_000,
    "batches": 2000,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "log_std_min": -1.0,
    "labels": None,
}
_IMITATION = {
    "rule": "share",
    "share": 0.1,
    "bucket": None,
    "power": 2.0,
    "newest": 200,
    "batches": 200,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "log_std_min": -1.0,
}
_EXPLORATION = {
    "steps": 0,
    "neighbours": 5,
    "state_entropy": 0.0,
    "disagreement": 0.0,
    "disagreement_decay": 0.0,
}
_KL = {"reference": None, "policy": "newest", "beta": 0.0, "target": None, "initial_beta": 0.2}
_KL |= {"horizon": 10_000, "proportional": 1.0}

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
    Add("archive", 4, "recorded", None),
    Change("archive", 4, partial(_each_flag, _of_any_kind), partial(_each_flag, _of_comparisons)),
    Rename("clip", 2, "features", "observations"),
    Add("clip", 2, "encoded", True),
    Change("label", 2, _of_any_kind, _of_comparisons),
    Add("config", 2, "evaluation", _EVALUATION),
    Add("config", 2, "env_kwargs", {}),
    Add("config", 2, "true_reward", True),
    Add("config", 2, "reward.normalise_over", "comparisons"),
    Change("config", 2, _one_kl, _two_kls),
    Rename("config", 2, "agent.stopping_kl", "agent.target_kl"),
    Add("config", 3, "feedback", "comparison"),
    Add("config", 4, "off_policy", _OFF_POLICY),
    Add("config", 4, "exploration", _EXPLORATION),
    Add("config", 4, "reward.output", "identity"),
    Add("config", 4, "reward.normalise_inputs", True),
    Add("config", 4, "reward.bootstrap", True),
    Add("config", 4, "reward.epochs", None),
    Add("config", 4, "reward.stop_accuracy", 0.97),
    Add("config", 4, "reward.crop", None),
    Add("config", 4, "reward.crop_copies", 1),
    Add("config", 4, "reward.pseudo_threshold", None),
    Add("config", 4, "reward.pseudo_weight", 1.0),
    Add("config", 4, "reward.pseudo_ratio", 4),
    Add("config", 4, "reward.trust_filter", False),
    Add("config", 4, "reward.trust_passes", 30),
    Add("config", 4, "queries.session_steps", None),
    Add("config", 4, "queries.session_labels", None),
    Add("config", 4, "queries.pool_episodes", None),
    Add("config", 5, "off_policy.return_steps", 1),
    Add("config", 5, "off_policy.actor_interval", 1),
    Add("config", 5, "queries.rating_steps", 7),
    Add("config", 5, "queries.reaction_seconds", 0.5),
    Add("config", 5, "off_policy.relabel", "memory"),
    Add("config", 5, "kl", _KL),
    Add("config", 5, "reward_model", None),
    Add("config", 5, "observe", None),
    Add("config", 5, "demonstrations", _DEMONSTRATIONS),
    Add("config", 5, "learner", "reward-model"),
    Add("config", 5, "imitation", _IMITATION),
    Add("config", 5, "judge", {"source": None, "confidence": 0.8, "share": None}),
    Add("config", 6, "aim", ""),
    Add("config", 7, "reward.reads_actions", False),
    Change("config", 8, _reads_by_default, _reads_as_before),
    Add("config", 9, "reward.session_steps", None),
    Add("config", 9, "reward.stop_over", "pass"),
    Add("config", 9, "off_policy.log_std_bound", "clamp"),
)
"""All migrations; those of one kind are sorted by format number."""


def current_format(kind: str) -> int:
    """Return the format number that this version of prefrl writes for a kind of file."""
    return max((each.format for each in MIGRATIONS if each.kind == kind), default=1)


def check_format(kind: str, said: Any, path: Path, made_by: object = None) -> int:
    """Validate the format number of a file.

    Args:
        kind: The kind of file.
        said: The file's entry "format".
        path: The file.
        made_by: The version of prefrl that wrote the file, if known.

    Returns:
        The format number.

    Raises:
        DamagedFileError: if it is not a positive integer.
        UsageError: if it is a number of a newer version.
    """
    if type(said) is not int or said < 1:
        raise DamagedFileError(f"{printable(path)} is damaged: it has no valid format number")
    if said > current_format(kind):
        version = f" ({printable(made_by, 40)})" if made_by else ""
        raise UsageError(f"{printable(path)} was made by a newer version of prefrl{version}")
    return said


def upgraded(kind: str, data: Any, found: int, path: Path) -> Any:
    """Upgrade the content of a file to the current format.

    Args:
        kind: The kind of file.
        data: The content, which is not modified.
        found: The file's format number.
        path: The file.
        path: The file.

    Returns:
        A copy in the current format. Data that is not a dictionary is returned unchanged; the caller validates types.

    Raises:
        DamagedFileError: if a migration fails.
    """
    if not isinstance(data, dict):
        return data
    data = _copied(data)
    try:
        for each in MIGRATIONS:
            if each.kind == kind and each.format > found:
                each.upgrade(data)
    except UsageError as error:
        raise DamagedFileError(f"{printable(path)} cannot be upgraded: {error}") from None
    return data


def downgraded(kind: str, data: Data) -> Data:
    """Convert data from the current to the first format, as far as that format can represent it."""
    data = _copied(data)
    for each in reversed(MIGRATIONS):
        if each.kind == kind:
            each.downgrade(data)
    return data


def current_name(kind: str, name: str) -> str:
    """Return the current name of an entry that may have been renamed, e.g. a setting or a column."""
    for each in MIGRATIONS:
        if isinstance(each, Rename) and (each.kind, each.old) == (kind, name):
            name = each.new
    return name


def stamped(kind: str, tree: Data) -> Data:
    """Return a tree with its format number added, ready to be saved."""
    return {"format": current_format(kind)} | tree


def opened(kind: str, tree: Data, path: Path) -> Data:
    """Upgrade a loaded tree to the current format and remove its format number. A tree without number is of format 1.

    Raises:
        DamagedFileError: if the format number is invalid, or a migration fails.
        UsageError: if the tree was written by a newer version.
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
        raise UsageError(f"{old} is called {new} now, but {new} exists already")
    target[renamed] = source.pop(name)


def _place(data: Data, path: str) -> tuple[Data | None, str]:
    """Return the dictionary that contains an entry, or None if it does not exist, and the entry's name in it."""
    *parents, name = path.split(".")
    node: Any = data
    for part in parents:
        node = node.get(part) if isinstance(node, dict) else None
    return (node if isinstance(node, dict) else None), name


def _copied(node: Any) -> Any:
    """Copy the dictionaries; arrays, lists and plain values are shared."""
    return {name: _copied(child) for name, child in node.items()} if isinstance(node, dict) else node
