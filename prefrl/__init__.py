"""Train reinforcement-learning agents from human preferences.

run = prefrl.train("cheetah", out="runs/cheetah")
policy = prefrl.load_policy(run.root)
reward = prefrl.load_reward(run.root)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefrl.api import resume, train
    from prefrl.experience.adapter import adapt
    from prefrl.trained.exporting import export
    from prefrl.trained.learned_reward import LearnedReward
    from prefrl.trained.playing import load_policy, load_reward

__all__ = ["LearnedReward", "adapt", "export", "load_policy", "load_reward", "resume", "train"]

_HOMES = {
    "LearnedReward": "prefrl.trained.learned_reward",
    "adapt": "prefrl.experience.adapter",
    "export": "prefrl.trained.exporting",
    "train": "prefrl.api",
    "resume": "prefrl.api",
    "load_policy": "prefrl.trained.playing",
    "load_reward": "prefrl.trained.playing",
}


def __getattr__(name: str) -> Any:
    """Import on first use: importing torch takes seconds, and `prefrl --help` does not need it."""
    if name not in _HOMES:
        raise AttributeError(f"module 'prefrl' has no attribute {name!r}")
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(_HOMES[name]), name)
