"""The mean return of a random policy on a task, which has normalised score 0."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from prefrl.arrays import Array
from prefrl.config import EvaluationConfig
from prefrl.errors import PrefrlError
from prefrl.experience.find_task import find_task
from prefrl.experience.make_env import make_env
from prefrl.storage.files import read_json, write_json

EPISODES = 30
_FILE = "random.json"


def random_return(task: str, episodes: int = EPISODES, seed: int = 0) -> float:
    """Mean true return of uniformly random actions, measured like the evaluation of a policy.

    Args:
        task: Name of a task, or a Gymnasium id.
        episodes: Number of episodes. Where the ends of games are hidden from the agent, each real game counts.
        seed: Seed of the actions and the first episode; later episodes use the following seeds.
    """
    from prefrl.experience.evaluation import play_in_turn  # noqa: PLC0415 - importing torch takes seconds

    env = make_env(find_task(task).env_id)
    env.action_space.seed(seed)
    most_steps = EvaluationConfig().max_steps
    act = partial(_sample, env.action_space)
    try:
        return play_in_turn(env, act, episodes=episodes, seed=seed, most_steps=most_steps).mean
    finally:
        env.close()


def _sample(actions: spaces.Space[Any], observations: Array) -> Array:
    """Sample one random action per observation."""
    return np.stack([actions.sample() for _ in observations])


def random_returns(tasks: Iterable[str], folders: Sequence[Path]) -> dict[str, float]:
    """`random_return` of several tasks, each measured once and then stored in the first folder.

    Args:
        tasks: Names of tasks.
        folders: Folders of results, each of which may already contain stored values.

    Returns:
        The mean return of a random policy for each task.
    """
    kept: dict[str, float] = {}
    for folder in reversed(folders):
        kept |= _read(folder / _FILE)
    found = {task: kept[task] if task in kept else random_return(task) for task in tasks}
    if found.keys() - _read(folders[0] / _FILE).keys():
        with suppress(OSError):  # a read-only folder: measured again next time
            write_json(folders[0] / _FILE, {"episodes": EPISODES, "returns": _read(folders[0] / _FILE) | found})
    return found


def _read(path: Path) -> dict[str, float]:
    try:
        data = read_json(path)
        return (
            {str(task): float(value) for task, value in data["returns"].items()} if data["episodes"] == EPISODES else {}
        )
    except (OSError, PrefrlError, KeyError, TypeError, ValueError, AttributeError):
        return {}
