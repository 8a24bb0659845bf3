"""Choices of a setting by name. A network or a loss of one's own is one more entry.

Entries of this package say where their function is ("module:name") rather than hold it, as Gymnasium's do: a
configuration is checked without importing torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import Any, Generic, TypeVar

from prefrl.errors import unknown

Entry = TypeVar("Entry")


class Registry(dict[str, Entry], Generic[Entry]):
    """Entries by name; looking up a name that does not exist raises UsageError with the nearest that do."""

    def __init__(self, setting: str, entries: dict[str, Entry]) -> None:
        """Begin with these entries.

        Args:
            setting: What chooses among them, e.g. "reward.network".
            entries: By name.
        """
        super().__init__(entries)
        self.setting = setting

    def check(self, name: str) -> None:
        """Raise UsageError for a name that does not exist."""
        self[name]

    def __missing__(self, name: str) -> Entry:
        raise unknown(self.setting, name, self)


@dataclass(frozen=True)
class NetworkKind:
    """A network for the reward model."""

    factory: Callable[..., Any] | str
    """(RewardConfig, Inputs) -> `prefrl.reward.networks.RewardNetwork`, or where that is."""
    images: bool = False
    """Whether it reads images, rather than vectors."""


@dataclass(frozen=True)
class LossKind:
    """What a reward model is fitted by."""

    function: Callable[..., Any] | str
    """A `prefrl.reward.loss.Loss`, or where it is."""
    log_loss: bool = False
    """Whether it is the log loss of judgements, ln 2 for a model that guesses."""


def located(entry: Callable[..., Any] | str) -> Callable[..., Any]:
    """The function itself, imported where only its place is known."""
    return resolve_name(entry) if isinstance(entry, str) else entry


NETWORKS: Registry[NetworkKind] = Registry(
    "reward.network",
    {
        "mlp": NetworkKind("prefrl.reward.networks:StackedMLP.from_config"),
        "cnn": NetworkKind("prefrl.reward.networks:StackedCNN.from_config", images=True),
    },
)
LOSSES: Registry[LossKind] = Registry(
    "reward.loss",
    {
        "bradley-terry": LossKind("prefrl.reward.loss:bradley_terry", log_loss=True),
        "true-reward": LossKind("prefrl.reward.loss:true_reward"),
    },
)
