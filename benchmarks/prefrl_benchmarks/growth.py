"""How the cost of a label grows with the labels there are already, and with the ensemble's members.

Everything is the real thing but the agent: segments are random walks with the shape of a task's.
"""

from __future__ import annotations

import resource
import tempfile
import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prefrl.clips import ClipFolder
from prefrl.config import RunConfig
from prefrl.environments import reward_inputs
from prefrl.loop import PreferenceLoop
from prefrl.recipes import resolve
from prefrl.reward.inputs import Inputs
from prefrl.reward.learner import RewardLearner
from prefrl.reward.workers import InlineLearner
from prefrl.run import RunDirectory, commit, version
from prefrl.store import LabelStore
from prefrl.teachers import make_teacher
from prefrl.types import Segment
from prefrl_benchmarks.results import machine

_ROUND = 20
"""Labels asked for at a time, and gradient work for as many agent steps as a round lasts."""
_MEASURED = 200
"""Labels over which a figure is the mean."""


class Growing:
    """A run that gets labels and no agent."""

    def __init__(self, root: Path, config: RunConfig) -> None:
        """Begin."""
        self.config, self._rng = config, np.random.default_rng(0)
        self.run = RunDirectory.create(root, config)
        self._inputs: Inputs = reward_inputs(config)
        store = LabelStore(self.run.labels, create=True)
        learner = RewardLearner(config.reward, self._inputs, config.queries.segment_length, seed=0)
        self.worker = InlineLearner(self.run, store, learner, torch.get_num_threads())
        self._pool: deque[Segment] = deque(maxlen=config.queries.pool)
        teacher = make_teacher("oracle", 0, lambda: None)
        self.loop = PreferenceLoop(config, store, ClipFolder(self.run.clips), self._pool, teacher, self.worker)
        self.store, self._recorded, self._step = store, 0, 0
        self.seconds: dict[str, float] = {}

    def _record(self, count: int) -> None:
        length, (features,) = self.config.queries.segment_length, self._inputs.step
        for _ in range(count):
            walk = self._rng.normal(size=(length, features)).cumsum(axis=0).astype(np.float32)
            rewards = walk[:, 0] - walk[:, 1]
            self._pool.append(Segment(self._recorded, walk, np.zeros((length, 0), np.float32), rewards))
            self._recorded += 1

    @contextmanager
    def _timed(self, part: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[part] = self.seconds.get(part, 0.0) + time.perf_counter() - started

    def grow(self, labels: int) -> None:
        """Ask for labels up to this many, a round at a time, and fit."""
        while (have := self.store.counts()["answered"]) < labels:
            self._record(_ROUND * 4)
            due = min(have + _ROUND, labels)
            with self._timed("asking"):
                self.loop.ask(self._step, due)
            self._step += _ROUND * self.config.steps // self.config.queries.labels
            with self._timed("learning"):
                self.worker.work(self._step, None)
                while not self.worker.ready:
                    self.worker.work(self._step, None)

    def select(self) -> float:
        """Seconds to choose a round's queries."""
        started = time.perf_counter()
        self.loop._choose(self._step, _ROUND)
        return time.perf_counter() - started


def measure(task: str, *, labels: tuple[int, ...], members: tuple[int, ...]) -> dict[str, Any]:
    """Grow runs.

    Args:
        task: Whose segments' shape and recipe they have; its observations must be vectors.
        labels: How many there are where a figure is taken, ascending, for the recipe's members.
        members: Ensembles' sizes, each measured at the first of `labels`.

    Returns:
        For each point: milliseconds a label for asking (selection, clips, store, answer) and for learning, milliseconds
        for selecting a round's queries, kilobytes a label on the disk, and the process's peak memory so far.
    """
    with tempfile.TemporaryDirectory() as folder:
        most = labels[-1] + _MEASURED
        default = Growing(Path(folder) / "labels", _config(task, most, None))
        by_labels = [_point(default, count) for count in labels]
        grown = [(count, Growing(Path(folder) / f"members{count}", _config(task, most, count))) for count in members]
        by_members = [_point(run, labels[0]) for _, run in grown]
    about = {"task": task, "machine": machine(), "version": version(), "commit": commit()}
    return about | {"by_labels": by_labels, "by_members": by_members}


def _config(task: str, labels: int, members: int | None) -> RunConfig:
    settings: dict[str, Any] = {"queries.labels": labels, "steps": 430 * labels}  # as 700 labels in 300,000 steps
    return resolve(task, settings=settings | ({"reward.members": members} if members else {}))


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
        "store_kb": _kilobytes(run.run.root.glob("labels.sqlite*")) / (labels + _MEASURED),
        "clips_kb": _kilobytes(run.run.clips.iterdir()) / (labels + _MEASURED),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _kilobytes(files: Iterable[Path]) -> float:
    return sum(file.stat().st_size for file in files) / 1024


def report_lines(result: dict[str, Any]) -> list[str]:
    """A table, and the cost of a label at the most labels over that at the fewest."""
    lines = ["labels  members   asking  learning  selection   store   clips  memory"]
    for point in (*result["by_labels"], *result["by_members"]):
        line = f"{point['labels']:6.0f}  {point['members']:7.0f}  {point['asking_ms']:5.1f}ms"
        line += f"  {point['learning_ms']:6.1f}ms  {point['selection_ms']:7.1f}ms"
        line += f"  {point['store_kb']:4.1f}kB  {point['clips_kb']:4.1f}kB"
        lines.append(f"{line}  {point['peak_rss_mb']:4.0f}MB")
    cost = {point["labels"]: point["asking_ms"] + point["learning_ms"] for point in result["by_labels"]}
    first, last = min(cost), max(cost)
    return [*lines, f"a label at {last} over one at {first}: {cost[last] / cost[first]:.2f}"]
