"""Run the preference comparisons of the imitation library with the settings of a prefrl run.

It runs in a Python that has imitation (`pip install imitation`) but not prefrl: `python imitation_run.py SETTINGS
SUMMARY` reads the configuration from the first file and writes the summary to the second. PPO settings, ensemble size,
labels and clip length are those of the run. Each round has three epochs, imitation's default. Observations are not
normalised. imitation also samples steps that the agent does not learn from; they are counted separately. By default it
uses one thread, which is faster for such small networks.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from imitation.algorithms import preference_comparisons as pc
from imitation.data.wrappers import RolloutInfoWrapper
from imitation.rewards.reward_nets import BasicRewardNet, NormalizedRewardNet, RewardEnsemble
from imitation.util.networks import RunningNorm
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

_EPOCHS, _CANDIDATES = 3, 10


def compare_preferences(config: dict[str, Any]) -> dict[str, Any]:
    """Train an agent from preferences with imitation.

    Args:
        config: Configuration of a prefrl run, as JSON.

    Returns:
        Fields as in `summary.json`, with the number of sampled steps and the comparisons fitted per second.
    """
    agent, reward, queries = config["agent"], config["reward"], config["queries"]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    np.random.seed(config["seed"])  # noqa: NPY002 - these libraries use the global generator
    torch.manual_seed(config["seed"])
    rng = np.random.default_rng(config["seed"])  # noqa: TID251 - prefrl is not installed there
    counted: list[_Counted] = []

    def make() -> gymnasium.Env[Any, Any]:
        counted.append(_Counted())
        env: gymnasium.Env[Any, Any] = RolloutInfoWrapper(counted[-1])
        return env

    env = DummyVecEnv([make] * agent["n_envs"])
    rate = agent["learning_rate"]
    ppo = PPO(
        "MlpPolicy",
        env,
        n_steps=agent["n_steps"],
        batch_size=agent["batch_size"],
        n_epochs=agent["n_epochs"],
        learning_rate=(lambda left: rate * left) if agent["learning_rate_decay"] else rate,
        gamma=agent["gamma"],
        gae_lambda=agent["gae_lambda"],
        clip_range=agent["clip_range"],
        ent_coef=agent["ent_coef"],
        vf_coef=agent["vf_coef"],
        max_grad_norm=agent["max_grad_norm"],
        policy_kwargs={"net_arch": agent["net_arch"], "log_std_init": agent["log_std_init"]},
        seed=config["seed"],
        device="cpu",
    )

    def member() -> NormalizedRewardNet:
        hidden = {"hid_sizes": reward["hidden"], "normalize_input_layer": RunningNorm}
        return NormalizedRewardNet(BasicRewardNet(env.observation_space, env.action_space, **hidden), RunningNorm)

    ensemble = RewardEnsemble(env.observation_space, env.action_space, [member() for _ in range(reward["members"])])
    preferences = pc.PreferenceModel(ensemble, noise_prob=reward["error"])
    fragmenter = pc.RandomFragmenter(warning_threshold=0, rng=rng)
    fragmenter = pc.ActiveSelectionFragmenter(preferences, fragmenter, _CANDIDATES, uncertainty_on="label")
    trainer = pc.EnsembleTrainer(preferences, loss=pc.CrossEntropyRewardLoss(), epochs=_EPOCHS, rng=rng)
    fitting = _Stopwatch(trainer)
    algorithm = pc.PreferenceComparisons(
        pc.AgentTrainer(ppo, reward_fn=ensemble, venv=env, exploration_frac=0.0, rng=rng),
        ensemble,
        num_iterations=max(
            1, config["steps"] // config["round_steps"] - 1
        ),  # it trains one iteration more than requested
        fragmenter=fragmenter,
        preference_gatherer=pc.SyntheticGatherer(rng=rng),
        reward_trainer=trainer,
        fragment_length=queries["segment_length"],
        transition_oversampling=1,
        initial_comparison_frac=queries["initial_fraction"],
        query_schedule="hyperbolic",
        allow_variable_horizon=True,
    )
    started = time.monotonic()
    algorithm.train(config["steps"], queries["labels"])
    seconds = time.monotonic() - started
    returns = [total for each in counted for total in each.get_episode_rewards()[-100 // agent["n_envs"] :]]
    return {
        "steps": ppo.num_timesteps,
        "steps_per_second": ppo.num_timesteps / seconds,
        "wall_seconds": seconds,
        "steps_drawn": sum(each.total_steps for each in counted),
        "true_return_mean": float(np.mean(returns)) if returns else None,
        "reward_correlation": None,
        "peak_rss_mb": _peak_rss_mb(),
        "fitted_per_second": fitting.fitted / fitting.seconds,
        "versions": {name: version(name) for name in ("imitation", "stable-baselines3", "gymnasium", "torch")},
    }


def _peak_rss_mb() -> float | None:
    """Peak memory of this process; None on Windows, which needs a library to tell."""
    try:
        import resource  # noqa: PLC0415 - POSIX only
    except ImportError:
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


class _Counted(Monitor):
    """Records the true return of every episode, also of those not used for training. No control cost, as in prefrl."""

    def __init__(self) -> None:
        super().__init__(gymnasium.make("HalfCheetah-v4", ctrl_cost_weight=0.0))


class _Stopwatch:
    """Measures the time of reward training and the number of fitted comparisons (one epoch counts each once)."""

    def __init__(self, trainer: Any) -> None:
        self.seconds, self.fitted = 0.0, 0
        train = trainer.train

        def timed(dataset: Any, epoch_multiplier: float = 1.0) -> None:
            started = time.monotonic()
            train(dataset, epoch_multiplier=epoch_multiplier)
            self.seconds += time.monotonic() - started
            self.fitted += round(len(dataset) * _EPOCHS * epoch_multiplier)

        trainer.train = timed


if __name__ == "__main__":
    settings, summary = map(Path, sys.argv[1:])
    summary.write_text(json.dumps(compare_preferences(json.loads(settings.read_text())["config"])))
