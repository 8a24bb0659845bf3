"""What a task is: how it is called, how long a clip of it is, what a person is told, and which packages it needs.

Nothing here knows of training: recipes belong to the trainer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from prefrl_envs.packages import REMEDY, misfit


@dataclass(frozen=True)
class Task:
    """Facts of one task."""

    name: str
    """What a person types."""
    env_id: str
    """The Gymnasium id."""
    entry_point: str
    """What Gymnasium makes it with."""
    horizon: int | None
    """Steps in an episode; no episode ends earlier. None: one endless episode."""
    segment_length: int
    """Steps in a clip (L)."""
    playback_fps: int
    """Steps shown per second when a clip is played; a playback rate, not the simulator's 1/dt."""
    instruction: str
    """What a labeller is told who compares clips."""
    aim: str = ""
    """What a labeller is told who answers another question: sentences that begin in "Good means that"."""
    frame_stack: int = 1
    """How many of the newest frames an observation is a stack of; each is the stack before, rolled on by one."""
    vector_entry_point: str | None = None
    """What Gymnasium makes many copies with, where an engine does that faster than one by one."""
    kwargs: Mapping[str, str] = field(default_factory=dict)
    """For the entry points."""
    packages: tuple[str, ...] = ()
    """The optional packages that it needs, names in `prefrl_envs.packages.FITTING`."""

    @property
    def images(self) -> bool:
        """Whether observations are images."""
        return self.frame_stack > 1

    @property
    def native_engine(self) -> bool:
        """Whether an engine steps many copies at once."""
        return self.vector_entry_point is not None

    @property
    def lack(self) -> tuple[str, str] | None:
        """Why it cannot be used here, and the command that mends it; None if nothing is missing."""
        reason = misfit(self.packages)
        return (reason, REMEDY) if reason else None
