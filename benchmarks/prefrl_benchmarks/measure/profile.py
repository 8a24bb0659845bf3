"""Profile a run: the time spent in each part, without the time of the parts it calls.

`prefrl bench speed` runs it as `python -m prefrl_benchmarks.measure.profile CONFIG.json OUT`. Methods are wrapped from
outside, so that prefrl contains no profiling code. Slow imports happen inside functions, because the learner's process
imports this module too.
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
    LOOP: {
        "prefrl.agents.on_policy.OnPolicyAgent": ("collect", "improve"),
        "prefrl.agents.off_policy.OffPolicyAgent": ("collect", "improve"),
    },
    "environment": {
        "stable_baselines3.common.vec_env.DummyVecEnv": ("step_wait",),
        "prefrl.experience.engines.EngineVecEnv": ("step_wait",),
    },
    "wrappers": {"prefrl.experience.monitor.EpisodeMonitor": ("step_wait",)}
    | {
        f"stable_baselines3.common.vec_env.{name}": ("step_async", "step_wait")
        for name in ("VecMonitor", "VecCheckNan", "VecTransposeImage", "VecNormalize")
    },
    "policy forward": {
        "stable_baselines3.common.policies.ActorCriticPolicy": ("forward", "predict_values"),
        "prefrl.agents.soft_actor_critic.SoftActorCritic": ("predict",),
    },
    "policy update": {
        "stable_baselines3.PPO": ("train",),
        "stable_baselines3.A2C": ("train",),
        "sb3_contrib.TRPO": ("train",),
        "prefrl.agents.soft_actor_critic.SoftActorCritic": ("train",),
    },
    "recording": {"prefrl.experience.recorder.SegmentRecorder": ("step_async", "step_wait", "take", "cut")},
    "scoring": {
        "prefrl.agents.predicted_reward.PredictedReward": ("score_ahead",),
        "prefrl.agents.reward_terms.AgentReward": ("__call__", "relabel", "score"),
        "prefrl.reward.published.PublishedReward": ("refresh",),
    },
    "query selection": {"prefrl.selection.asker.Asker": ("choose",)},
    FITTING: {"prefrl.reward.learner.RewardLearner": ("add", "train", "publish")},
    "store": {
        "prefrl.feedback.store.LabelStore": (
            *("add_queries", "add_answers", "labels", "counts", "pending", "unanswered"),
        ),
        "prefrl.experience.clips.ClipFolder": ("save", "load"),
    },
    "metrics and checkpoints": {
        "prefrl.bookkeeping.records.Records": ("write",),
        "prefrl.bookkeeping.keeper.Keeper": ("checkpoint",),
        "prefrl.bookkeeping.reporter.Reporter": ("say",),
    },
}
"""The methods of each part, by class. Time outside all parts counts as `REST`."""


class Clock:
    """Measures the seconds spent in each part itself."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self.start()

    def start(self) -> None:
        """Reset all times and start."""
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._running: list[str] = []
        self._since = self._now()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its time counts for a part, and not for the calling part."""

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
        """The seconds of each part so far, longest first."""
        self._count(REST)
        return dict(sorted(self.seconds.items(), key=lambda item: -item[1]))


def wrap(clock: Clock) -> None:
    """Wrap the methods of all parts in this process."""
    for part, methods in PARTS.items():
        for path, names in methods.items():
            owner = locate(path)
            assert owner is not None, path
            for name in names:
                setattr(owner, name, clock.timed(part, getattr(owner, name)))


def _after_kernels() -> float:
    """The time once the GPU has finished its work, so that this counts for the part that requested it."""
    import torch  # noqa: PLC0415

    torch.cuda.synchronize()
    return time.perf_counter()


class _Window:
    """Limits a profile to the time between the start of the training loop and a deadline.

    Attributes:
        before: Seconds of each part before the loop.
        steps: Agent steps in the loop.
        over: Whether the deadline has passed.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._first = seconds, 0
        self.before: dict[str, float] = {}
        self.steps, self.over = 0, False

    def note(self, step: int, looping: bool, spent: dict[str, float]) -> None:
        """Note the agent's step count, whether the loop has begun, and the seconds that each part has taken so far."""
        if looping and not self.before:
            self.before, self._first = dict(spent), step
        self.steps = step - self._first if self.before else 0
        self.over = sum(spent.values()) > self._seconds


def measure(settings: dict[str, Any], out: Path, seconds: float | None = None) -> dict[str, Any]:
    """Profile a training run in this process. The methods stay wrapped afterwards.

    Args:
        settings: Configuration of the run, as JSON.
        out: Folder for the run.
        seconds: Time after which the run is stopped. Shares and rates then leave out the first labels and pretraining,
            which took `start_seconds`; the rate of comparisons is unknown. None profiles the whole run.

    Returns:
        The share of each part in the agent's wall time; steps per second; the learner's share of a core if it has its
        own process, or else the comparisons that each member fits per second; and the peak memory of both processes.

    Raises:
        PrefrlError: if the run was stopped.
    """
    asynchronous = settings["mode"] == "async" and settings["teacher"] != "none"
    from prefrl.reward.launch import start_learner  # noqa: PLC0415 - started first, as `prefrl train` does

    learner = start_learner() if asynchronous else None
    from prefrl.config import RunConfig  # noqa: PLC0415
    from prefrl.machine.devices import choose_device  # noqa: PLC0415
    from prefrl.machine.memory import peak_rss_mb, workers_peak_rss_mb  # noqa: PLC0415
    from prefrl.runs.control import Control  # noqa: PLC0415
    from prefrl.runs.directory import RunDirectory  # noqa: PLC0415
    from prefrl.runs.progress import Phase  # noqa: PLC0415
    from prefrl.training import train_run  # noqa: PLC0415

    config, memory = RunConfig.from_json(settings), {}
    clock = Clock(_after_kernels if choose_device(config.device) == "cuda" else time.perf_counter)
    wrap(clock)
    control, window = Control(learner=learner), None if seconds is None else _Window(seconds)

    def note(progress: Any) -> None:
        memory["agent_rss_mb"] = peak_rss_mb()  # the learner's process ends before the evaluation
        memory["learner_rss_mb"] = max(workers_peak_rss_mb(), memory.get("learner_rss_mb", 0.0))
        if window:
            window.note(progress.step, progress.phase is Phase.TRAINING, clock.seconds)
            control.stop |= window.over

    control.report = note
    run = RunDirectory.create(out / "run", config)
    clock.start()
    summary = train_run(run, control)
    if summary is None and not (window and window.over):
        raise PrefrlError("the run was stopped")
    parts = clock.finish()
    whole = sum(parts.values())
    ended = os.times()  # on Windows, times of ended child processes are 0
    learner_seconds = ended.children_user + ended.children_system
    result = memory | {"learner_share": learner_seconds / whole if asynchronous and learner_seconds else None}
    if window:
        return result | _within(window, parts)
    assert summary is not None
    fitting = 0.0 if asynchronous else parts.get(FITTING, 0.0)
    fitted = summary["reward_updates"] * config.reward.batch_size
    return result | {
        "shares": {part: own / whole for part, own in parts.items()},
        "steps_per_second": summary["steps"] / whole,
        "fitted_per_second": fitted / fitting if fitting else None,
    }


def _within(window: _Window, parts: dict[str, float]) -> dict[str, Any]:
    """The figures of the training loop, or of the whole time if it was not reached."""
    own = {part: seconds - window.before.get(part, 0.0) for part, seconds in parts.items()}
    wall = sum(own.values())
    shares = {part: seconds / wall for part, seconds in sorted(own.items(), key=lambda item: -item[1])}
    start = sum(window.before.values()) if window.before else None
    rate = window.steps / wall
    return {"shares": shares, "steps_per_second": rate, "fitted_per_second": None, "start_seconds": start}


if __name__ == "__main__":
    from prefrl_benchmarks.executors.child import end_with_parent

    end_with_parent()
    folder, asked = Path(sys.argv[2]), read_json(Path(sys.argv[1]))
    write_json(folder / "profile.json", measure(asked["config"], folder, asked["seconds"]))
