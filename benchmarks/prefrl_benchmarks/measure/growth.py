"""Measure how the cost of a label grows with the number of existing labels, and with the size of the ensemble.

Store, clips, queries, teacher and learner are the real ones. There is no agent: segments are random walks with the
shape of a task's observations. The learner has one thread, as in an asynchronous run; each ensemble runs in its own
process.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prefrl.config import RunConfig
from prefrl.errors import UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.environments import reward_inputs
from prefrl.experience.find_task import find_task
from prefrl.experience.inputs import Inputs
from prefrl.experience.segment import Segment
from prefrl.feedback.store import LabelStore
from prefrl.machine.memory import keep_freed_memory, peak_rss_mb
from prefrl.recipes import resolve
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.learner import RewardLearner
from prefrl.reward.workers import InlineLearner
from prefrl.runs.directory import RunDirectory, commit, version
from prefrl.seeding import stream
from prefrl.selection.asker import Asker
from prefrl.teachers import make_teacher
from prefrl_benchmarks.results import machine

_ROUND = 20
"""Labels per round; each round has the gradient steps of as many agent steps as it would last in a run."""
_STEPS_A_LABEL = 430
"""Agent steps per label, as in a run of 300,000 steps with 700 labels."""
_MEASURED = 200
"""Number of labels over which costs are averaged."""


class Growing:
    """A run with labels but without an agent."""

    def __init__(self, root: Path, config: RunConfig) -> None:
        """Create the run directory with an empty store."""
        self.config, self._rng = config, stream(0, "made-up clips")
        self.run = RunDirectory.create(root, config)
        self._inputs: Inputs = reward_inputs(config)
        store = LabelStore(self.run.labels, create=True)
        learner = RewardLearner(config.reward, self._inputs, config.queries.segment_length, seed=0)
        self.worker = InlineLearner(self.run, store, learner, torch.get_num_threads())
        self._pool: deque[Segment] = deque(maxlen=config.queries.pool)
        teacher = make_teacher("oracle", 0, lambda: None)
        self.asker = Asker(config, store, ClipFolder(self.run.clips), self._pool, teacher, self._ensemble)
        self.store, self._recorded, self._step = store, 0, 0
        self.seconds: dict[str, float] = {}

    def _ensemble(self) -> RewardEnsemble | None:
        return self.worker.ensemble if self.worker.ready else None

    def _record(self, count: int) -> None:
        length, (features,) = self.config.queries.segment_length, self._inputs.step
        for _ in range(count):
            walk = self._rng.normal(size=(length, features)).cumsum(axis=0).astype(np.float32)
            rewards = walk[:, 0] - walk[:, 1]
            steps = (walk, np.zeros((length, 0), np.float32), rewards, *np.zeros((2, length), bool))
            self._pool.append(Segment(self._recorded, *steps))
            self._recorded += 1

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started

    def grow(self, labels: int) -> None:
        """Ask for labels round by round up to this number, fitting the reward model after each round."""
        while (have := self.store.counts()["answered"]) < labels:
            self._record(_ROUND * 4)
            due = min(have + _ROUND, labels)
            with self._timed("asking"):
                self.asker.ask_once(self._step, due)
            self._step += _ROUND * self.config.steps // self.config.queries.labels
            with self._timed("learning"):
                self.worker.fit(self._step, None)
                while not self.worker.ready:
                    self.worker.fit(self._step, None)

    def stored_kilobytes(self) -> float:
        """Size of `labels.sqlite` in kB, after its write-ahead log is merged into it."""
        with contextlib.closing(sqlite3.connect(self.run.labels)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return self.run.labels.stat().st_size / 1024

    def select(self) -> float:
        """Seconds to select the queries of one round."""
        started = time.perf_counter()
        self.asker.choose(self._step, _ROUND)
        return time.perf_counter() - started


def measure(task: str, *, labels: tuple[int, ...], members: tuple[int, ...]) -> dict[str, Any]:
    """Measure the cost of a label at several numbers of labels and ensemble sizes.

    Args:
        task: Task whose recipe and observation shape are used; observations must be vectors.
        labels: Numbers of labels at which to measure, ascending, with the recipe's ensemble size.
        members: Ensemble sizes, each measured at the first of `labels`.

    Returns:
        For each point: milliseconds per label for asking (selection, clips, store, answer) and for learning,
        milliseconds for selecting the queries of a round, kilobytes per label on disk, and the peak memory of the
        process so far.

    Raises:
        UsageError: for a task with image observations, and for numbers that cannot be measured.
    """
    if find_task(task).images:
        raise UsageError(f"{task} has image observations; this measurement needs vectors")
    if not labels or any(later - earlier < _MEASURED for earlier, later in itertools.pairwise(labels)):
        raise UsageError(
            f"--labels must ascend in steps of at least {_MEASURED}, the number of labels measured at each point"
        )
    if any(count < 1 for count in (labels[0], *members)):
        raise UsageError("--labels and --members must be at least 1")
    default = resolve(task).reward.members
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        by_labels = pool.submit(_grow, task, default, labels).result()
        by_members = [point for count in members for point in pool.submit(_grow, task, count, labels[:1]).result()]
    about = {"task": task, "machine": machine(), "version": version(), "commit": commit()}
    return about | {"by_labels": by_labels, "by_members": by_members}


def _grow(task: str, members: int, labels: tuple[int, ...]) -> list[dict[str, float]]:
    keep_freed_memory()
    torch.set_num_threads(1)
    most = labels[-1] + _MEASURED
    settings = {"queries.labels": most, "steps": _STEPS_A_LABEL * most, "reward.members": members}
    with tempfile.TemporaryDirectory() as folder:
        run = Growing(Path(folder) / "run", resolve(task, settings=settings))
        return [_point(run, count) for count in labels]


def _point(run: Growing, labels: int) -> dict[str, float]:
    run.grow(labels)
    run.seconds.clear()
    run.grow(labels + _MEASURED)
    selecting = [run.select() for _ in range(10)]
    return {
        "labels": labels,
        "members": run.config.reward.members,
        "asking_ms": 1000 * run.seconds["asking"] / _MEASURED,
        "learning_ms": 1000 * run.seconds["learning"] / _MEASURED,
        "selection_ms": 1000 * float(np.median(selecting)),
        "store_kb": run.stored_kilobytes() / (labels + _MEASURED),
        "clips_kb": sum(file.stat().st_size for file in run.run.clips.iterdir()) / 1024 / (labels + _MEASURED),
        "peak_rss_mb": peak_rss_mb(),
    }


def report_lines(result: dict[str, Any]) -> list[str]:
    """A table, and the cost of a label at the largest number of labels relative to the others."""
    lines = ["labels  members   asking  learning  selection   store   clips  memory"]
    for point in (*result["by_labels"], *result["by_members"]):
        line = f"{point['labels']:6.0f}  {point['members']:7.0f}  {point['asking_ms']:5.1f}ms"
        line += f"  {point['learning_ms']:6.1f}ms  {point['selection_ms']:7.1f}ms"
        line += f"  {point['store_kb']:4.1f}kB  {point['clips_kb']:4.1f}kB"
        lines.append(f"{line}  {point['peak_rss_mb']:4.0f}MB")
    cost = {point["labels"]: point["asking_ms"] + point["learning_ms"] for point in result["by_labels"]}
    last = max(cost)
    compared = [f"{cost[last] / spent:.2f} over one at {count}" for count, spent in cost.items() if count < last]
    return (
        [*lines, f"relative cost of a label (asking and learning) at {last} labels: {', '.join(compared)}"]
        if compared
        else lines
    )
