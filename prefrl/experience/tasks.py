"""Tasks: named tasks from installed packages, and tasks derived from Gymnasium ids.

A package provides tasks through the entry point group `prefrl.tasks`: a table from names to objects with the attributes
of `TaskFacts`. The paper's tasks are provided in the same way.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import NamedTuple, Protocol


class TaskFacts(Protocol):
    """The attributes of a task; see `prefrl_envs.Task`."""

    @property
    def name(self) -> str:
        """Name on the command line."""

    @property
    def env_id(self) -> str:
        """Gymnasium id of the environment."""

    @property
    def horizon(self) -> int | None:
        """Maximum number of steps in an episode; None without a limit."""

    @property
    def segment_length(self) -> int:
        """L, the number of steps in a clip."""

    @property
    def playback_fps(self) -> int:
        """Steps shown per second."""

    @property
    def instruction(self) -> str:
        """Instruction for labellers who compare clips."""

    @property
    def frame_stack(self) -> int:
        """Number of stacked frames in an observation; 1 without stacking."""

    @property
    def images(self) -> bool:
        """Whether observations are images."""

    @property
    def native_engine(self) -> bool:
        """Whether Gymnasium's `make_vec` returns an engine that steps many environments at once."""


@dataclass(frozen=True)
class GymnasiumTask:
    """A task derived from a Gymnasium id that is in no table."""

    name: str
    env_id: str
    horizon: int | None
    segment_length: int
    playback_fps: int
    instruction: str = "Prefer the clip in which better things happen; judge only what you see."
    aim: str = "good things happen; judge only what you see."
    frame_stack: int = 1
    images: bool = False
    native_engine: bool = False
    true_reward: bool = True


class Lack(NamedTuple):
    """What a task lacks on this machine."""

    reason: str
    remedy: str
    """The command that fixes it."""

    def __str__(self) -> str:
        return f"{self.reason}; fix with: {self.remedy}"


def lack_of(task: TaskFacts) -> Lack | None:
    """Return why a task cannot be used on this machine, e.g. a missing package; None if it can.

    A task says so in its attribute `lack`, a pair of strings or None. The attribute is optional.
    """
    found = getattr(task, "lack", None)
    return Lack(*found) if found else None


def aim_of(task: TaskFacts) -> str:
    """Return what is good in a task, for labellers who do not compare clips: sentences that begin in "Good means that".

    The task's attribute `aim` is optional; without it, the aim is empty.
    """
    return str(getattr(task, "aim", ""))


@cache
def known_tasks() -> Mapping[str, TaskFacts]:
    """Return all named tasks, in the order of their tables."""
    tables: dict[str, TaskFacts] = {}
    for entry_point in entry_points(group="prefrl.tasks"):
        tables |= entry_point.load()
    return tables
