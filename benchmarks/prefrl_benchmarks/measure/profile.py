"""Where the time of a run goes: each part's own time, that of the parts it calls left out.

`prefrl bench speed` starts it: python -m prefrl_benchmarks.measure.profile CONFIG.json OUT. The parts are wrapped where
they are defined, so that nothing in prefrl knows that it is measured. Slow imports happen inside functions, since the
learner's process imports this module too.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from pydoc import locate
from typing import Any

from prefrl.errors import PrefrlError
from prefrl.storage.files import read_json, write_json

FITTING, LOOP, REST = "reward training", "the rest of the agent's loop", "start and end"
PARTS: dict[str, dict[str, tuple[str, ...]]] = {
    LOOP: {"prefrl.agents.on_policy.OnPolicyAgent": ("collect", "improve")},
    "environment": {
        "stable_baselines3.common.vec_env.DummyVecEnv": ("step_wait",),
        "prefrl.experience.engines.EngineVecEnv": ("step_wait",),
    },
    "wrappers": {
        f"stable_baselines3.common.vec_env.{name}": ("step_async", "step_wait")
        for name in ("VecMonitor", "VecCheckNan", "VecTransposeImage", "VecNormalize")
    },
    "policy forward": {"stable_baselines3.common.policies.ActorCriticPolicy": ("forward", "predict_values")},
    "policy update": {
        "stable_baselines3.PPO": ("train",),
        "stable_baselines3.A2C": ("train",),
        "sb3_contrib.TRPO": ("train",),
    },
    "recording": {"prefrl.experience.segments.SegmentRecorder": ("step_async", "step_wait", "take", "cut")},
    "scoring": {
        "prefrl.agents.reward_terms.PredictedReward": ("look_ahead",),
        "prefrl.agents.reward_terms.AgentReward": ("__call__",),
        "prefrl.reward.published.PublishedReward": ("refresh",),
    },
    "query selection": {"prefrl.selection.asker.Asker": ("choose",)},
    FITTING: {"prefrl.reward.learner.RewardLearner": ("add", "train", "publish")},
    "store": {
        "prefrl.feedback.store.LabelStore": (
            *("add_queries", "add_answers", "comparisons", "counts", "pending", "unanswered"),
        ),
        "prefrl.experience.clips.ClipFolder": ("save", "load"),
    },
    "metrics and checkpoints": {
        "prefrl.bookkeeping.records.Records": ("write",),
        "prefrl.bookkeeping.keeper.Keeper": ("checkpoint",),
        "prefrl.bookkeeping.reporter.Reporter": ("say",),
    },
}
"""What is counted as what: methods, by class. What no part claims is `REST`."""


class Clock:
    """Each part's own seconds."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self.start()

    def start(self) -> None:
        """Forget what was counted, and begin."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = self._now()

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
        now = self._now()
        self.seconds[part] += now - self._since
        self._since = now

    def finish(self) -> dict[str, float]:
        """Every part's seconds up to now, the longest first."""
        self._count(REST)
        return dict(sorted(self.seconds.items(), key=lambda item: -item[1]))


def wrap(clock: Clock) -> None:
    """Time every part in this process, from now on."""
    for part, methods in PARTS.items():
        for path, names in methods.items():
            owner = locate(path)
            assert owner is not None, path
            for name in names:
                setattr(owner, name, clock.timed(part, getattr(owner, name)))


def measure(settings: dict[str, Any], out: Path) -> dict[str, Any]:
    """Train with every part timed, in this process; the parts stay wrapped.

    Args:
        settings: A run's configuration, as JSON.
        out: A folder for the run.

    Returns:
        Each part's share of the agent's wall time, its steps per second, what the learner used of a core where it has a
        process of its own, the comparisons that each member fits in a second where it has not, and the peak memory of
        both.
    """
    asynchronous = settings["mode"] == "async" and settings["teacher"] != "none"
    from prefrl.reward.launch import start_learner  # noqa: PLC0415 - first, as `prefrl train` does

    learner = start_learner() if asynchronous else None
    from prefrl.config import RunConfig  # noqa: PLC0415
    from prefrl.machine.memory import peak_rss_mb, workers_peak_rss_mb  # noqa: PLC0415
    from prefrl.runs.control import Control  # noqa: PLC0415
    from prefrl.runs.directory import RunDirectory  # noqa: PLC0415
    from prefrl.training import train_run  # noqa: PLC0415

    config, clock, memory = RunConfig.from_json(settings), Clock(), {}
    wrap(clock)

    def note(progress: Any) -> None:
        memory["agent_rss_mb"] = peak_rss_mb()  # the learner's ends before the policy is evaluated
        memory["learner_rss_mb"] = max(workers_peak_rss_mb(), memory.get("learner_rss_mb", 0.0))

    run = RunDirectory.create(out / "run", config)
    clock.start()
    summary = train_run(run, Control(report=note, learner=learner))
    if summary is None:
        raise PrefrlError("the run was stopped")
    parts = clock.finish()
    wall = sum(parts.values())
    fitting = 0.0 if asynchronous else parts.get(FITTING, 0.0)
    fitted = summary["reward_updates"] * config.reward.batch_size
    ended = os.times()  # Windows knows nothing of children that have ended, and says 0
    beside = ended.children_user + ended.children_system
    return memory | {
        "shares": {part: seconds / wall for part, seconds in parts.items()},
        "steps_per_second": summary["steps"] / wall,
        "fitted_per_second": fitted / fitting if fitting else None,
        "learner_share": beside / wall if asynchronous and beside else None,
    }


if __name__ == "__main__":
    folder = Path(sys.argv[2])
    write_json(folder / "profile.json", measure(read_json(Path(sys.argv[1]))["config"], folder))
