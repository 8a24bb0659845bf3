"""Train Stable-Baselines3 without prefrl, with the settings of a recipe, its own wrappers or its own defaults.

`prefrl bench speed` runs it as `python -m prefrl_benchmarks.measure.plain CONFIG.json OUT`.
"""

from __future__ import annotations

import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor, VecNormalize

from prefrl.agents.algorithms import make_algorithm
from prefrl.assembly import agent_threads
from prefrl.config import RunConfig
from prefrl.experience.engines import EngineVecEnv
from prefrl.experience.environments import OBSERVATION_CLIP
from prefrl.experience.make_env import make_engine, run_env
from prefrl.machine.memory import peak_rss_mb
from prefrl.runs.metrics import MetricsFile
from prefrl.storage.files import read_json, write_json
from prefrl_benchmarks.executors.child import end_with_parent
from prefrl_benchmarks.measure import off_policy
from prefrl_benchmarks.measure.engines import wrapped


def same_settings(config: RunConfig) -> OnPolicyAlgorithm | OffPolicyAlgorithm:
    """The recipe's agent on the true reward, with Stable-Baselines3's wrappers; an off-policy one is its own class."""
    simulators: DummyVecEnv | EngineVecEnv
    if config.native_engine:
        simulators = EngineVecEnv(make_engine(config.env_id, config.agent.n_envs))
    else:
        simulators = DummyVecEnv([partial(run_env, config)] * config.agent.n_envs)
    make = off_policy.ALGORITHMS.get(config.algo, make_algorithm)
    model: OnPolicyAlgorithm | OffPolicyAlgorithm = make(config, _normalised(config, VecMonitor(simulators)))
    return model


def own_wrappers(config: RunConfig) -> OnPolicyAlgorithm:
    """The recipe's agent on the true reward of a game, with Stable-Baselines3's own environments.

    These are `AtariWrapper` and `VecFrameStack`. A lost life ends an episode for the agent, and nothing is masked. A
    step is as many frames.
    """
    games = wrapped(config.task, config.agent.n_envs)
    return make_algorithm(config, _normalised(config, games))


def _normalised(config: RunConfig, env: VecEnv) -> VecEnv:
    settings = config.agent
    if not (settings.normalise_observations or settings.normalise_reward):
        return env
    return VecNormalize(
        env,
        norm_obs=settings.normalise_observations,
        norm_reward=settings.normalise_reward,
        clip_obs=OBSERVATION_CLIP,
        gamma=settings.gamma,
    )


def own_defaults(config: RunConfig) -> OnPolicyAlgorithm:
    """PPO with default settings for vector observations: one environment, no normalisation."""
    return PPO("MlpPolicy", VecMonitor(DummyVecEnv([partial(run_env, config)])), seed=config.seed, device="cpu")


AGENTS = {"plain": same_settings, "wrappers": own_wrappers, "defaults": own_defaults}
"""What can be trained."""


class _Watch(BaseCallback):
    """Writes metrics as often as a prefrl run does."""

    def __init__(self, path: Path, every: int) -> None:
        super().__init__()
        self._metrics, self._every, self._next = MetricsFile(path), every, every
        self._started = time.monotonic()

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._next:
            self._next += self._every
            self.write()
        return True

    def write(self) -> float | None:
        """Append a row. Returns the mean return of the newest 100 episodes."""
        returns = [info["r"] for info in self.model.ep_info_buffer or ()]
        mean = float(np.mean(returns)) if returns else None
        self._metrics.append(
            {"step": self.num_timesteps, "true_return_mean": mean, "time_seconds": time.monotonic() - self._started}
        )
        return mean


def train(config: RunConfig, out: Path, kind: str = "plain") -> dict[str, Any]:
    """Train, and write `metrics.csv` and `summary.json`.

    Args:
        config: Configuration of a run on the true reward.
        out: Output folder.
        kind: A name in `AGENTS`.

    Returns:
        The summary.
    """
    torch.set_num_threads(agent_threads(config, torch.get_num_threads()))
    agent = AGENTS[kind](config)
    watch = _Watch(out / "metrics.csv", config.round_steps)
    started = time.monotonic()
    agent.learn(config.steps, watch, log_interval=sys.maxsize)
    seconds = time.monotonic() - started
    summary = {
        "steps": agent.num_timesteps,
        "steps_per_second": agent.num_timesteps / seconds,
        "wall_seconds": seconds,
        "true_return_mean": watch.write(),
        "reward_correlation": None,
        "peak_rss_mb": peak_rss_mb(),
    }
    write_json(out / "summary.json", summary)
    return summary


if __name__ == "__main__":
    end_with_parent()
    settings = read_json(Path(sys.argv[1]))
    train(RunConfig.from_json(settings["config"]), Path(sys.argv[2]), settings["kind"])
