"""Untrained runs with labels, created in milliseconds."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.experience.clips import ClipFolder
from prefrl.experience.segment import Segment
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.label_history import Label, read_labels
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.recipes import resolve
from prefrl.rendering.clip_video import write_clip_video
from prefrl.runs.directory import RunDirectory

LABELS = 12
"""Labels in the file that many tests start from."""

SHAPES = {"reacher": (15, (15, 10), 2), "moving-dot": (15, (18, 48, 48), 4)}
"""Steps of a clip, the shape of its frames, and numbers in an action."""


def random_segment(number: int, task: str = "reacher", seed: int = 0) -> Segment:
    """A segment as the task's recorder would cut it, with a true reward that can be learned."""
    steps, shape, actions = SHAPES[task]
    rng = np.random.default_rng([seed, number])
    taken = rng.normal(size=(steps, actions)).astype(np.float32)
    if len(shape) == 2:
        frames = rng.normal(size=shape).astype(np.float32)
        true_rewards = 2 * frames[:, 0] - frames[:, 3] + taken[:, 1]
        return Segment(number, frames, taken, true_rewards.astype(np.float32))
    film = rng.integers(0, 255, shape, dtype=np.uint8)
    return Segment(number, film, taken, rng.normal(size=steps).astype(np.float32), stack=4)


def make_run(root: Path, task: str = "reacher", **settings: object) -> RunDirectory:
    """An empty run."""
    chosen = {"queries.labels": 20, "steps": 6000, "mode": "sync"} | settings
    return RunDirectory.create(root, resolve(task, settings={k.replace("__", "."): v for k, v in chosen.items()}))


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


def labels_of(run: RunDirectory) -> list[Label]:
    store = LabelStore(run.labels)
    try:
        return read_labels(store)
    finally:
        store.close()


def told(label: Label) -> tuple[Any, ...]:
    """All of a label but for ids."""
    return label.value, *label.provenance


def query(run: RunDirectory, text: str) -> list[tuple[Any, ...]]:
    with contextlib.closing(sqlite3.connect(run.labels)) as connection:
        return connection.execute(text).fetchall()
