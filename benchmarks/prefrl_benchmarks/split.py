"""Where the time of a run goes: each part's own time, that of the parts it calls left out.

python -m prefrl_benchmarks.split CONFIG.json OUT, which is what `prefrl bench speed` starts. The parts are wrapped
where they are defined, so that nothing in prefrl knows of being measured.
"""

from __future__ import annotations

import functools
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from stable_baselines3.ppo import PPO

from prefrl.callback import RoundsCallback
from prefrl.clips import ClipFolder
from prefrl.config import RunConfig
from prefrl.engines import EngineVecEnv
from prefrl.errors import PrefrlError
from prefrl.files import read_json, write_json
from prefrl.loop import PreferenceLoop
from prefrl.reward.ensemble import PublishedReward
from prefrl.reward.learner import RewardLearner
from prefrl.run import RunDirectory
from prefrl.scoring import RolloutScorer
from prefrl.segments import SegmentRecorder
from prefrl.store import LabelStore
from prefrl.training import train_run

FITTING, REST = "reward training", "the rest of the agent's loop"
PARTS: dict[str, list[tuple[type, tuple[str, ...]]]] = {
    "environment": [(DummyVecEnv, ("step_wait",)), (EngineVecEnv, ("step_wait",))],
    "normalisation": [(VecNormalize, ("step_wait",))],
    "policy forward": [(ActorCriticPolicy, ("forward", "predict_values"))],
    "policy update": [(PPO, ("train",))],
    "recording": [(SegmentRecorder, ("step_async", "step_wait", "take_rollout"))],
    "scoring": [(RolloutScorer, ("__call__",)), (PublishedReward, ("refresh",))],
    "query selection": [(PreferenceLoop, ("_choose",))],
    FITTING: [(RewardLearner, ("add", "train", "publish"))],
    "store": [
        (LabelStore, ("add_queries", "add_answers", "comparisons", "counts", "pending", "unanswered")),
        (ClipFolder, ("save", "load")),
    ],
    "metrics and checkpoints": [(RoundsCallback, ("_write_metrics", "_checkpoint", "_say"))],
}
"""What is counted as what: methods, by class."""


class Clock:
    """Each part's own seconds."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        """Forget what was counted, and begin."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = time.perf_counter()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time counted for the part, and taken from the one that calls it."""

        @functools.wraps(function)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            self._count(self._running[-1] if self._running else REST)
            self._running.append(part)
            try:
                return function(*arguments, **options)
            finally:
                self._running.pop()
                self._count(part)

        return wrapped

    def _count(self, part: str) -> None:
        now = time.perf_counter()
        self.seconds[part] += now - self._since
        self._since = now

    def finish(self) -> dict[str, float]:
        """Every part's seconds up to now, the longest first."""
        self._count(REST)
        return dict(sorted(self.seconds.items(), key=lambda item: -item[1]))


def measure(config: RunConfig, out: Path) -> dict[str, Any]:
    """Train with every part timed, in this process; the parts stay wrapped.

    Returns:
        Each part's share of the agent's wall time, its steps per second, the learner's processor time over the agent's
        wall time where it has a process of its own, the comparisons that each member fits in a second where it has not,
        and the peak memory of both.
    """
    clock = Clock()
    for part, owners in PARTS.items():
        for owner, names in owners:
            for name in names:
                setattr(owner, name, clock.timed(part, getattr(owner, name)))
    run = RunDirectory.create(out / "run", config)
    clock.start()
    summary = train_run(run)
    if summary is None:
        raise PrefrlError("the run was stopped")
    parts = clock.finish()
    wall = sum(parts.values())
    beside = resource.getrusage(resource.RUSAGE_CHILDREN)
    fitted = summary["reward_updates"] * config.reward.batch_size
    fitting = parts.get(FITTING, 0.0) if config.mode == "sync" else 0.0
    return {
        "shares": {part: seconds / wall for part, seconds in parts.items()},
        "steps_per_second": summary["steps"] / wall,
        "fitted_per_second": fitted / fitting if fitting else None,
        "learner_share": (beside.ru_utime + beside.ru_stime) / wall,
        "agent_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "learner_rss_mb": beside.ru_maxrss / 1024,
    }


if __name__ == "__main__":
    out = Path(sys.argv[2])
    write_json(out / "split.json", measure(RunConfig.from_json(read_json(Path(sys.argv[1]))["config"]), out))
