"""Demonstrations: whole episodes that somebody showed, in a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.arrays import Array
from prefrl.config.migrations import opened, stamped
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.segment import Segment, unstacked
from prefrl.experience.segment_tree import segment_of, segment_tree
from prefrl.printable import printable
from prefrl.storage.files import LARGEST_TREE, load_tree, save_tree, taken_from
from prefrl.storage.reading import MEBIBYTE

LARGEST_EPISODE = 512 * MEBIBYTE
"""Maximum size of the observations of an episode in bytes."""


@dataclass(frozen=True)
class Demonstrations:
    """Episodes of a task, each as a segment of all its steps."""

    env_id: str
    """Gymnasium id of the environment."""
    env_kwargs: dict[str, Any]
    """Arguments of its constructor."""
    episodes: tuple[Segment, ...]
    _ends: Array = field(init=False, repr=False, compare=False)
    """(E,) number of steps up to the end of each episode."""

    def __post_init__(self) -> None:
        """Count the steps."""
        object.__setattr__(self, "_ends", np.array(list(accumulate(map(len, self.episodes))), np.int64))

    def __len__(self) -> int:
        """Return the number of steps."""
        return int(self._ends[-1]) if len(self._ends) else 0

    @property
    def returns(self) -> list[float]:
        """True return of each episode."""
        return [float(episode.true_rewards.sum()) for episode in self.episodes]

    def first(self, episodes: int, steps: int) -> Demonstrations:
        """Return the first episodes, with at most the given number of steps; the last one may be cut."""
        kept: list[Segment] = []
        for episode in self.episodes[:episodes]:
            if steps <= 0:
                break
            kept.append(part(episode, 0, min(steps, len(episode))))
            steps -= len(episode)
        return replace(self, episodes=tuple(kept))

    def take(self, places: Array) -> tuple[Array, Array]:
        """Return some of the steps.

        Args:
            places: (B,) numbers of steps, counted over all episodes.

        Returns:
            (B, *observation) and (B, *action), actions as numbers.
        """
        number = np.searchsorted(self._ends, places, side="right")
        starts = self._ends - [len(episode) for episode in self.episodes]
        found = [(self.episodes[n], place - starts[n]) for n, place in zip(number, places, strict=True)]
        observations = np.stack([episode.observations[place] for episode, place in found])
        return observations, np.stack([episode.actions[place] for episode, place in found])

    def clips(self, length: int) -> list[Segment]:
        """Cut the episodes into consecutive segments of L steps; steps that do not fill one are left out."""
        return [
            part(episode, start, start + length)
            for episode in self.episodes
            for start in range(0, len(episode) - length + 1, length)
        ]

    def save(self, path: Path) -> None:
        """Write a file.

        Raises:
            UsageError: if it cannot be written.
        """
        episodes = {f"{number:06d}": segment_tree(episode) for number, episode in enumerate(self.episodes)}
        tree = {"env_id": self.env_id, "env_kwargs": self.env_kwargs, "episodes": episodes}
        try:
            save_tree(path, stamped("demonstrations", tree), durable=True, private=True)
        except OSError as error:
            raise UsageError(f"{path} cannot be written: {error.strerror}") from None

    @classmethod
    def load(cls, path: Path) -> Demonstrations:
        """Read a file.

        Raises:
            PrefrlError: if it is missing or damaged.
            UsageError: if it was written by a newer version, or is not one of demonstrations.
        """
        try:
            tree = load_tree(path, LARGEST_TREE)
        except FileNotFoundError:
            raise PrefrlError(f"{printable(path)} is missing") from None
        if "episodes" not in tree:
            raise UsageError(f"{printable(path)} holds no demonstrations")
        tree = opened("demonstrations", tree, path)
        with taken_from(path):
            kept = [segment_of(int(name), tree["episodes"][name], LARGEST_EPISODE) for name in sorted(tree["episodes"])]
            return cls(str(tree["env_id"]), dict(tree["env_kwargs"]), tuple(kept))


class EpisodeTape:
    """Records the steps of an episode."""

    def __init__(self, stack: int = 1) -> None:
        """Start an episode; `stack` is the number of frames per observation."""
        self._stack = stack
        self._steps: list[tuple[Array, Array, float, bool, bool]] = []

    def __len__(self) -> int:
        return len(self._steps)

    def add(self, observation: Array, action: Array, reward: float, *, terminated: bool, truncated: bool) -> None:
        """Record a step: the observation before it, and the action as numbers."""
        self._steps.append((observation, action, reward, terminated, truncated))

    def episode(self, number: int) -> Segment:
        """Return the recorded steps, at least one, as a segment with this id."""
        observations, actions, rewards, *ends = zip(*self._steps, strict=True)
        return episode_of(number, np.stack(observations), np.stack(actions), rewards, *ends, stack=self._stack)


def episode_of(
    number: int,
    observations: Array,
    actions: Array,
    rewards: Sequence[float],
    terminated: Sequence[bool],
    truncated: Sequence[bool],
    *,
    stack: int = 1,
) -> Segment:
    """Make an episode of its steps: (N, *observation), (N, *action) as numbers, and (N,) of the others."""
    ends = np.array(terminated, bool), np.array(truncated, bool)
    return Segment(number, unstacked(observations, stack), actions, np.array(rewards, np.float32), *ends, stack)


def part(segment: Segment, start: int, end: int) -> Segment:
    """Return the steps of a segment from `start` to before `end`."""
    span = slice(start, end)
    return Segment(
        segment.id,
        segment.frames[start : end + segment.stack - 1],
        segment.actions[span],
        segment.true_rewards[span],
        segment.terminated[span],
        segment.truncated[span],
        segment.stack,
        episode=segment.episode,
        start=segment.start + start,
    )
