"""Compare the speed of games on ale-py's C++ engine, on prefrl's in Python, and with Stable-Baselines3's wrappers.

People's runs and tasks that read the emulator's memory use the engine in Python.
"""

from __future__ import annotations

import statistics
import time
from functools import partial
from typing import NamedTuple

from gymnasium import make_vec
from prefrl_envs import TASKS
from prefrl_envs.atari import GAMES, STACK
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecFrameStack, VecTransposeImage

from prefrl.experience.engines import EngineVecEnv
from prefrl.experience.make_env import make_env
from prefrl.seeding import stream


class Rate(NamedTuple):
    """Agent steps of one timing."""

    per_second: float
    per_processor_second: float
    """Over all threads; other work on the machine hardly changes it."""


def measure(game: str, *, envs: int, steps: int, alternations: int) -> dict[str, list[Rate]]:
    """Step all alternately with random actions.

    Args:
        game: Task name of the game.
        envs: Number of parallel environments.
        steps: Agent steps of each timing, summed over environments.
        alternations: Number of timings of each engine.

    Returns:
        The timings, by engine.
    """
    kinds = {"engine": _engine, "snapshots": _snapshots, "python": wrapped}
    rates: dict[str, list[Rate]] = {kind: [] for kind in kinds}
    for _ in range(alternations):
        for kind, make in kinds.items():
            env = make(game, envs)
            rates[kind].append(_rate(env, steps // envs))
            env.close()
    return rates


def _engine(game: str, envs: int) -> VecEnv:
    return EngineVecEnv(make_vec(TASKS[game].env_id, envs, vectorization_mode="vector_entry_point"))


def _snapshots(game: str, envs: int) -> VecEnv:
    return DummyVecEnv([partial(make_env, TASKS[game].env_id)] * envs)


def wrapped(game: str, envs: int) -> VecEnv:
    """Copies of a game in Stable-Baselines3's own wrappers: `AtariWrapper`, a monitor, and `VecFrameStack`."""
    name = "".join(word.capitalize() for word in GAMES[game].rom.split("_"))
    return VecTransposeImage(VecFrameStack(make_atari_env(f"{name}NoFrameskip-v4", envs), STACK))


def _rate(env: VecEnv, rounds: int) -> Rate:
    rng = stream(0, "random actions")
    actions = rng.integers(env.action_space.n, size=(rounds, env.num_envs))  # type: ignore[attr-defined]
    env.seed(0)
    env.reset()
    started, used = time.perf_counter(), time.process_time()
    for action in actions:
        env.step(action)
    steps = rounds * env.num_envs
    return Rate(steps / (time.perf_counter() - started), steps / (time.process_time() - used))


def report_lines(rates: dict[str, list[Rate]]) -> list[str]:
    """The medians, and ratios of the engine to the others."""
    return [_medians(kind, found) for kind, found in rates.items()] + [
        f"engine over {kind:<9} " + _ratios(rates["engine"], rates[kind]) for kind in rates if kind != "engine"
    ]


def _medians(kind: str, rates: list[Rate]) -> str:
    seconds, processor = (statistics.median(values) for values in zip(*rates, strict=True))
    return f"{kind:<9} median {seconds:>6.0f} steps/s, {processor:.0f} per processor second"


def _ratios(fast: list[Rate], slow: list[Rate]) -> str:
    of_time, of_processor = (
        [ours / theirs for ours, theirs in zip(one, other, strict=True)]
        for one, other in zip(zip(*fast, strict=True), zip(*slow, strict=True), strict=True)
    )
    text = f"median {statistics.median(of_time):.2f} ({min(of_time):.2f} to {max(of_time):.2f})"
    return f"{text}, {statistics.median(of_processor):.2f} by processor time"
