"""Untrained runs with labels, and with people who label them, created in milliseconds."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefrl.experience.clips import ClipFolder
from prefrl.experience.segment import Segment
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.label_history import RecordedAnswer, read_labels
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.repeats import Repeats
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.feedback.transfer import export_labels
from prefrl.recipes import resolve
from prefrl.rendering.clip_video import write_clip_video
from prefrl.runs.directory import RunDirectory

LABELS = 12
"""Labels in the file that many tests start from."""
FOR_REPEATS = 36
"""Labels of which Ann and Bjørn gave twelve each: enough to be asked again."""

SHAPES = {"reacher": (15, (15, 10), 2), "moving-dot": (15, (18, 48, 48), 5)}
"""Steps of a clip, the shape of its frames, and numbers in an action."""


def random_segment(number: int, task: str = "reacher", seed: int = 0) -> Segment:
    """A segment as the task's recorder would cut it, with a true reward that can be learned."""
    steps, shape, actions = SHAPES[task]
    rng = np.random.default_rng([seed, number])
    taken, ends = rng.normal(size=(steps, actions)).astype(np.float32), np.zeros((2, steps), bool)
    if len(shape) == 2:
        frames = rng.normal(size=shape).astype(np.float32)
        true_rewards = 2 * frames[:, 0] - frames[:, 3] + taken[:, 1]
        return Segment(number, frames, taken, true_rewards.astype(np.float32), *ends)
    film = rng.integers(0, 255, shape, dtype=np.uint8)
    return Segment(number, film, taken, rng.normal(size=steps).astype(np.float32), *ends, stack=4)


def make_run(root: Path, task: str = "reacher", feedback: str = "comparison", **settings: object) -> RunDirectory:
    """An empty run."""
    chosen = {"queries.labels": 20, "steps": 6000, "mode": "sync"} | settings
    chosen = {name.replace("__", "."): value for name, value in chosen.items()}
    return RunDirectory.create(root, resolve(task, feedback=feedback, settings=chosen))


def better(left: Segment, right: Segment) -> Judgement:
    return Judgement.LEFT if left.true_rewards.sum() > right.true_rewards.sum() else Judgement.RIGHT


def add_labels(
    run: RunDirectory, count: int, *, first: int = 0, videos: int = 0, seed: int = 0, judge=better, round_: int = 1
) -> None:
    """Ask about `count` pairs of neighbours (so that most segments occur twice) and answer by the true reward."""
    task = run.config.task
    segments = [random_segment(number, task, seed) for number in range(first, first + count + 1)]
    store, clips = LabelStore(run.labels, create=True), ClipFolder(run.clips)
    queue = LabelQueue(store)
    for segment in segments:
        clips.save(segment)
    pairs = [(segments[n], segments[n + 1]) for n in range(count)]
    ids = store.add_queries(
        [pair_query(round_, rank, left, right, 100 + rank) for rank, (left, right) in enumerate(pairs)]
    )
    for segment in segments[:videos]:
        frames = np.random.default_rng(segment.id).integers(0, 255, (len(segment), 16, 16, 3), dtype=np.uint8)
        write_clip_video(clips.video(segment.id), frames, 15)
        queue.rendered(segment.id, len(segment))
    details = [("oracle", None, None), ("human", "Ann", 1.5), ("human", "Bjørn", 0.25)]
    store.add_answers(
        [
            Answer(number, judge(query.segments[0], query.segments[1]), who, query.agent_step + 1, labeller, seconds)
            for (number, query), (who, labeller, seconds) in zip(ids.items(), details * count, strict=False)
        ]
    )
    store.close()


def labels_of(run: RunDirectory) -> list[RecordedAnswer]:
    store = LabelStore(run.labels)
    try:
        return read_labels(store)
    finally:
        store.close()


def told(label: RecordedAnswer) -> tuple[Any, ...]:
    """All of a label but for ids."""
    return label.value, *label.provenance


def query(run: RunDirectory, text: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(run.labels)) as connection:
        return connection.execute(text).fetchall()


class People(NamedTuple):
    """A run that people label."""

    run: RunDirectory
    store: LabelStore
    queue: LabelQueue

    def export(self, path: Path) -> Path:
        export_labels(self.run.root, path)
        return path

    def ask_again(self, labeller: str, judgement: Judgement = Judgement.LEFT) -> int:
        """A repeat, answered."""
        number = Repeats(self.store, self.queue, 1.0).ask(labeller, labeller)
        assert number is not None
        assert self.queue.answer(Answer(number, judgement, "human", 900, labeller, 2.5))
        return number


def people(root: Path, labels: int = FOR_REPEATS) -> People:
    run = make_run(root, teacher="human")
    add_labels(run, labels) if labels else LabelStore(run.labels, create=True).close()
    store = LabelStore(run.labels)
    return People(run, store, LabelQueue(store))


def flag(ours: People) -> int:
    """Ann calls a pair broken that nobody has answered."""
    number = query(ours.run, "SELECT max(id) FROM queries")[0][0]
    with ours.store.database.write() as connection:
        connection.exec_driver_sql(
            f"INSERT INTO queries VALUES ({number + 1}, 'comparison', 9, 0, 777, 1, '2026-01-01T00:00:00+00:00')"
        )
        connection.exec_driver_sql(f"INSERT INTO query_segments VALUES ({number + 1}, 0, 0), ({number + 1}, 1, 5)")
    ours.queue.withdraw(number + 1, "a clip is broken", "Ann")
    return int(number) + 1


def answer_late(ours: People, labeller: str = "Cleo") -> None:
    """To a pair that has an answer."""
    assert not ours.queue.answer(Answer(3, Judgement.EQUAL, "human", 901, labeller, 4.5))
