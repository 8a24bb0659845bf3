"""Compare the speed of games on ale-py's C++ engine and with Stable-Baselines3's Python wrappers."""

from __future__ import annotations

import statistics
import time

from gymnasium import make_vec
from prefrl_envs import TASKS
from prefrl_envs.atari import GAMES
from stable_baselines3.common.env_util import make_atari_env
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack, VecTransposeImage

from prefrl.experience.engines import EngineVecEnv
from prefrl.seeding import stream


def measure(game: str, *, envs: int, steps: int, alternations: int) -> dict[str, list[float]]:
    """Step both alternately with random actions.

    Args:
        game: Task name of the game.
        envs: Number of parallel environments.
        steps: Agent steps of each timing, summed over environments.
        alternations: Number of timings of each engine.

    Returns:
        Agent steps per second of each timing, by engine.
    """
    rates: dict[str, list[float]] = {"engine": [], "python": []}
    for _ in range(alternations):
        for make, kept in ((_engine, rates["engine"]), (_python, rates["python"])):
            env = make(game, envs)
            kept.append(_rate(env, steps // envs))
            env.close()
    return rates


def _engine(game: str, envs: int) -> VecEnv:
    return EngineVecEnv(make_vec(TASKS[game].env_id, envs, vectorization_mode="vector_entry_point"))


def _python(game: str, envs: int) -> VecEnv:
    name = "".join(word.capitalize() for word in GAMES[game].rom.split("_"))
    made = make_atari_env(f"{name}NoFrameskip-v4", envs)
    return VecTransposeImage(VecFrameStack(made, 4))


def _rate(env: VecEnv, rounds: int) -> float:
    rng = stream(0, "random actions")
    actions = rng.integers(env.action_space.n, size=(rounds, env.num_envs))  # type: ignore[attr-defined]
    env.seed(0)
    env.reset()
    started = time.perf_counter()
    for action in actions:
        env.step(action)
    return rounds * env.num_envs / (time.perf_counter() - started)


def report_lines(rates: dict[str, list[float]]) -> list[str]:
    """The medians and their ratio."""
    ratios = [fast / slow for fast, slow in zip(rates["engine"], rates["python"], strict=True)]
    lines = [f"{kind:<7} median {statistics.median(values):>6.0f} steps/s" for kind, values in rates.items()]
    return [*lines, f"ratio   median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"]
