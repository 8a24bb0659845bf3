"""Runs that ask people, with pairs to show, created in milliseconds."""

import numpy as np
from helpers import segments

from prefrl.experience.clips import ClipFolder
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.recipes import resolve
from prefrl.rendering.clip_video import write_clip_video
from prefrl.runs.directory import RunDirectory

LENGTH = 15
POOL = segments(40)


def make_run(tmp_path, pairs=6, feedback="comparison", **settings):
    """A run that asks people, with rendered pairs; clip N shows the colour (N, N, N)."""
    chosen = {"queries.labels": 20, "steps": 2000} | settings
    config = resolve("moving-dot", teacher="human", feedback=feedback, settings=chosen)
    run = RunDirectory.create(tmp_path / "run", config)
    store = LabelStore(run.labels, create=True)
    queue, clips = LabelQueue(store), ClipFolder(run.clips)
    for segment in POOL[: 2 * pairs]:
        clips.save(segment)
    store.add_queries([pair_query(1, rank, POOL[2 * rank], POOL[2 * rank + 1], 10) for rank in range(pairs)])
    while ids := queue.to_render():
        for number in ids:
            frames = np.full((LENGTH, 24, 24, 3), number, np.uint8)
            write_clip_video(clips.video(number), frames, 15)
            queue.rendered(number, LENGTH)
    return run, store


def queries(count, *, first=0, round_=1, step=100):
    """Queries of a round, each about two segments of its own."""
    return [
        pair_query(round_, rank, POOL[2 * (first + rank)], POOL[2 * (first + rank) + 1], step) for rank in range(count)
    ]


def answer(query_id, judgement=Judgement.LEFT, **details):
    """An oracle's answer."""
    return Answer(query_id, judgement, details.pop("teacher", "oracle"), details.pop("agent_step", 100), **details)
