"""A person's demonstration: the environment that they play, and the episodes recorded so far. Needs no Qt."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefrl.arrays import Array
from prefrl.errors import UsageError
from prefrl.experience.action_spaces import as_numbers
from prefrl.experience.adapter import Adapter
from prefrl.experience.demonstrations import Demonstrations, EpisodeTape
from prefrl.experience.find_task import find_task
from prefrl.experience.frames import SIZE, prepare, render
from prefrl.experience.keyboard import Pressed, keyboard_of
from prefrl.experience.make_env import RENDERED, make_env
from prefrl.experience.segment import Segment
from prefrl.experience.tasks import aim_of
from prefrl.feedback.kinds.kind import what_is_good


class Demonstrating:
    """An environment that a person plays."""

    def __init__(self, task: str, out: Path, env_kwargs: Mapping[str, Any] | None = None, seed: int = 0) -> None:
        """Create the environment and start the first episode.

        Args:
            task: Name of a task, or a Gymnasium id.
            out: A new file for the demonstrations.
            env_kwargs: Arguments of the environment's constructor.
            seed: Seed of the first episode; the others use the following seeds.

        Raises:
            UsageError: if the task is unknown or cannot be played with keys or rendered, or the file exists.
        """
        if out.exists() or not out.parent.is_dir():
            problem = "exists already" if out.exists() else "is not in a folder"
            raise UsageError(f"{out} {problem}; choose another --out")
        self._arguments = dict(env_kwargs or {})
        facts = find_task(task, self._arguments, people=True)
        self.task, self.fps = facts.name, facts.playback_fps
        self.instruction = what_is_good(facts.instruction, aim_of(facts))
        self._env_id, self._stack, self._out = facts.env_id, facts.frame_stack, out
        self._env = _rendered(facts.env_id, self._arguments)
        try:
            prepare(self._env)
            self._keyboard = keyboard_of(self._env)
            self.keys = self._keyboard.help
            self._seed, self.episodes = seed, list[Segment]()
            self._start()
        except BaseException:
            self._env.close()
            raise

    def _start(self) -> None:
        self.tape, self.total = EpisodeTape(self._stack), 0.0
        self._seen, _ = self._env.reset(seed=self._seed + len(self.episodes))
        self.frame: Array = render(self._env)

    @property
    def returns(self) -> list[float]:
        """True return of each recorded episode."""
        return [float(episode.true_rewards.sum()) for episode in self.episodes]

    def step(self, pressed: Pressed) -> bool:
        """Take a step with the keys that are held down, and return whether the episode ended with it."""
        action = self._keyboard.action(pressed)
        following, reward, terminated, truncated, _ = self._env.step(action)
        numbers = as_numbers(self._env.action_space, action)
        self.tape.add(self._seen, numbers, reward, terminated=terminated, truncated=truncated)
        self._seen, self.total = following, self.total + reward
        self.frame = render(self._env)
        if terminated or truncated:
            self.end_episode()
        return bool(terminated or truncated)

    def end_episode(self) -> None:
        """Keep the steps of this episode so far, and start another."""
        if len(self.tape):
            self.episodes.append(self.tape.episode(len(self.episodes)))
        self._start()

    def discard_episode(self) -> None:
        """Forget the steps of this episode, and start it again."""
        self._start()

    def save(self) -> int:
        """Write the episodes, and return their number; no file is written if there are none.

        Raises:
            UsageError: if the file cannot be written.
        """
        if len(self.tape):
            self.end_episode()
        if self.episodes:
            Demonstrations(self._env_id, self._arguments, tuple(self.episodes)).save(self._out)
        return len(self.episodes)

    def close(self) -> None:
        """Close the environment."""
        self._env.close()


def _rendered(env_id: str, arguments: Mapping[str, Any]) -> Adapter:
    """Create an environment with rewards that renders frames of about the size of a clip, if that can be chosen."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    try:
        return make_env(env_id, arguments, render_mode=RENDERED, width=SIZE, height=SIZE)
    except UsageError:
        return make_env(env_id, arguments, render_mode=RENDERED)
