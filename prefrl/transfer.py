"""Labels from one run to others: out of a run into a file, and from a file into a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from prefrl.admission import read_archive
from prefrl.archive import LabelArchive, LabelledTask, segments_of, write_archive
from prefrl.clips import ClipFolder
from prefrl.config import RunConfig
from prefrl.database import HISTORY, QUERIES, RENDERED, SEGMENTS, now
from prefrl.environments import reward_inputs
from prefrl.errors import PrefrlError, UsageError
from prefrl.files import write_atomically
from prefrl.printable import printable
from prefrl.run import RunDirectory, version
from prefrl.store import IMPORTED_ROUND, LabelStore
from prefrl.types import Judgement, Label


def export_labels(root: Path, path: Path, *, without_damaged: bool = False) -> LabelArchive:
    """Write a run's standing labels, with their clips, to a new file; the run may be at work meanwhile.

    Args:
        root: The run directory.
        path: The file.
        without_damaged: Whether to leave labels out of which a clip is missing or damaged.

    Returns:
        The file, read back.

    Raises:
        UsageError: if the folder is no run, has none to give, or the file is there already or cannot be written.
        PrefrlError: if there are no labels yet, or a clip is missing or damaged.
    """
    run = RunDirectory.open(root)
    task = labelled_task(run.config)
    if not run.labels.exists() and not run.begun:
        raise PrefrlError(f"{root} has no labels yet")
    store = LabelStore(run.labels)
    labels = store.labels()
    store.close()
    clips = ClipFolder(run.clips)
    if without_damaged:
        damaged = {segment for segment in segments_of(labels) if task.problem(clips, segment)}
        labels = [label for label in labels if not damaged & {label.left, label.right}]
    if not labels:
        raise PrefrlError(f"{root} has no labels {'whose clips are whole' if without_damaged else 'yet'}")
    write_archive(path, version(), task, labels, clips)
    return read_archive(path)


def import_labels(path: Path, root: Path) -> int:
    """Add the labels of a file to a run that no process is at work on.

    Returns:
        How many were added: those that the run has already are left out.

    Raises:
        UsageError: if the folder is no run or is in use, or the file is of another task or a newer version.
        PrefrlError: if the file or the run is damaged.
    """
    archive = read_archive(path)
    run = RunDirectory.open(root)
    check_task(archive, run.config)
    lock = run.lock()
    try:
        return add_labels(run, archive)
    finally:
        lock.release()


def labelled_task(config: RunConfig) -> LabelledTask:
    """What a run's labels are about.

    Raises:
        UsageError: if it has none, being trained on the true reward.
    """
    if not config.learns_reward:
        raise UsageError(f"training {config.task} on the true reward takes no labels")
    length = config.queries.segment_length
    return LabelledTask(config.task, config.instruction, config.env_id, length, reward_inputs(config))


def check_task(archive: LabelArchive, config: RunConfig) -> None:
    """Raise UsageError unless a file's labels are of a run's task."""
    if (task := labelled_task(config)) != archive.task:
        raise UsageError(f"{archive.path} holds labels of {archive.task}, which cannot serve {task}")


def add_labels(run: RunDirectory, archive: LabelArchive) -> int:
    """Add a file's labels to a run that this process has for itself; their clips first, then all of them at once.

    A label is known again by its clips and its provenance, so that none comes twice, whichever way it went. New
    segments count down from -1: the run's own count up from 0, and stay what they would have been.

    Returns:
        How many were added.
    """
    store, clips = LabelStore(run.labels, create=not run.begun), ClipFolder(run.clips)
    try:
        there = store.labels()
        digests = {segment: clips.digest(segment) for segment in segments_of(there)}
        labels = _missing(archive, there, digests)
        by_digest = {digest: segment for segment, digest in digests.items()}
        wanted = {segment: archive.digests[segment] for segment in segments_of(labels)}
        held = {segment: by_digest[digest] for segment, digest in wanted.items() if digest in by_digest}
        new = [segment for segment in wanted if segment not in held]
        numbers = dict(zip(new, _free(store, len(new)), strict=True))
        _copy_clips(archive, clips, numbers)
        _insert(store, archive, labels, numbers, held | numbers)
    finally:
        store.close()
    return len(labels)


def _copy_clips(archive: LabelArchive, clips: ClipFolder, numbers: Mapping[int, int]) -> None:
    for segment, clip, video in archive.read_clips(numbers):
        write_atomically(clips.file(numbers[segment]), clip)
        if video is not None:
            write_atomically(clips.video(numbers[segment]), video)


def _missing(archive: LabelArchive, there: Iterable[Label], digests: Mapping[int, str]) -> list[Label]:
    """A file's labels that are not there yet. Two that are alike in all respects are two."""

    def identity(label: Label, of: Mapping[int, str]) -> tuple[Any, ...]:
        return (of[label.left], of[label.right], *label[3:])

    held = Counter(identity(label, digests) for label in there)
    missing = []
    for label in archive.labels:
        key = identity(label, archive.digests)
        if not held[key]:
            missing.append(label)
        held[key] -= bool(held[key])
    return missing


def _free(store: LabelStore, count: int) -> range:
    """Numbers for imported segments; a clip under one of them was left behind by an import that came to no end."""
    with store.database.read() as connection:
        lowest = min(0, connection.scalar(sa.select(sa.func.min(SEGMENTS.c.id))) or 0)
    return range(lowest - 1, lowest - 1 - count, -1)


def _insert(
    store: LabelStore,
    archive: LabelArchive,
    labels: Sequence[Label],
    new: Mapping[int, int],
    places: Mapping[int, int],
) -> None:
    """Add labels in one transaction.

    Args:
        store: Where to.
        archive: Where from.
        labels: Those of its labels that are new.
        new: The run's ids of segments that are new, by the file's.
        places: The run's ids of all of the labels' segments.
    """
    steps = {segment: label.agent_step for label in reversed(labels) for segment in (label.left, label.right)}
    length = archive.task.segment_length
    with store.database.write() as connection:
        for segment, number in new.items():
            connection.execute(SEGMENTS.insert().values(id=number, length=length, agent_step=steps[segment]))
            if segment in archive.videos:
                connection.execute(RENDERED.insert().values(segment_id=number, frames=length, created_at=now()))
        imported = sa.select(sa.func.count()).where(QUERIES.c.round == IMPORTED_ROUND)
        for rank, label in enumerate(labels, start=connection.scalar(imported) or 0):
            _insert_label(connection, label, rank, places[label.left], places[label.right])


def _insert_label(connection: sa.Connection, label: Label, rank: int, left: int, right: int) -> None:
    """Add a query about two of the run's segments, and its answer with all that is known of it."""
    given = label._asdict() | {"judgement": label.judgement.value, "shown_left": left}
    answer = {name: value for name, value in given.items() if name in HISTORY.c and name != "id"}
    asked = {"agent_step": label.agent_step, "created_at": label.created_at}
    sides = {"segment_left": left, "segment_right": right}
    query = QUERIES.insert().values(round=IMPORTED_ROUND, rank=rank, **sides, **asked)
    number = connection.execute(query).lastrowid
    connection.execute(HISTORY.insert().values(answer | {"query_id": number}))


def archive_lines(archive: LabelArchive) -> list[str]:
    """What a file of labels holds, for a person."""
    said = Counter(label.judgement.value for label in archive.labels)
    who = Counter(f"{label.teacher} {label.labeller}" if label.labeller else label.teacher for label in archive.labels)
    return [
        f"{archive.path}: {len(archive.labels)} labels of {archive.task}; written by prefrl {archive.version}",
        f"judgements: {', '.join(f'{said[name.value]} {name.value}' for name in Judgement)}",
        f"given by: {', '.join(f'{printable(name, 80)} {count}' for name, count in who.most_common())}",
        f"clips: {len(archive.digests)}, {len(archive.videos)} of them with a video",
    ]
