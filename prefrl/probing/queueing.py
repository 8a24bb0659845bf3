"""Put the clips of a probe into the queue of its run."""

from __future__ import annotations

import dataclasses

from prefrl.errors import UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.segment import Segment
from prefrl.feedback.run_store import run_store
from prefrl.feedback.terms import Query
from prefrl.printable import command, printable
from prefrl.probing.request import ProbeRequest
from prefrl.probing.results import read_results

_FIRST_ID = 2 * 10**9
"""Smallest number of a queued clip: those that the run itself records have smaller ones."""


def queue_clips(request: ProbeRequest) -> int:
    """Put the clips of a finished probe into the queue of its run, as queries that are asked when it is resumed.

    Args:
        request: The probe; its run must not be training.

    Returns:
        The number of queries.

    Raises:
        UsageError: if the run is in use, or the clips have been queued before.
        PrefrlError: if a clip is missing or damaged.
    """
    results, run = read_results(request.out), request.run
    if results.queued:
        raise UsageError(f"the clips of {request.out} are in the queue already")
    source, target, lock = ClipFolder(request.clip_folder), ClipFolder(run.clips), run.lock()
    try:
        with run_store(run) as store:
            number, round_, queries = max(_FIRST_ID, store.last_segment() + 1), store.last_round() + 1, []
            for rank, each in enumerate(results.clips):
                segments = tuple(_renumbered(source, old, number + place) for place, old in enumerate(each.segments))
                queries.append(Query(request.kind.name, segments, round_, rank, run.config.steps))
                number += len(segments)
            for segment in (segment for query in queries for segment in query.segments):
                target.save(segment)
                target.save_scene(segment)
            target.sync()
            store.queue(queries)
        dataclasses.replace(results, queued=True).write(request.out)
    finally:
        lock.release()
    return len(queries)


def queued_line(request: ProbeRequest, count: int) -> str:
    """Tell that so many queries are in the queue, and how they are asked."""
    run = request.run
    budget = ("--labels", str(run.config.queries.labels + count), "--steps", "N")
    asked = f"to ask them: {command('resume', run.root, *budget)}"
    return f"{count} {'query is' if count == 1 else 'queries are'} in the queue of {printable(run.root)}; {asked}"


def _renumbered(clips: ClipFolder, number: int, new: int) -> Segment:
    """Read a clip with what is needed to show it, under a new number."""
    segment = clips.load(number)
    scene = clips.load_scene(number)[0] if clips.has_scene(number) else None
    return dataclasses.replace(segment, id=new, scene=scene)
