"""Export labels from a run to a file, and import them into other runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefrl.config import RunConfig
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.environments import recorded_step
from prefrl.experience.inputs import feature_inputs
from prefrl.feedback.archive import LabelArchive, LabelledTask, segments_of, tally, write_archive
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.kinds import kinds_of
from prefrl.feedback.label_history import History, read_history, read_labels
from prefrl.feedback.merge import Added, compare, free_segments, insert_changes, read_known
from prefrl.feedback.run_store import run_store
from prefrl.printable import printable
from prefrl.runs.directory import RunDirectory, version
from prefrl.storage.durable import sync
from prefrl.storage.files import write_atomically


def export_labels(root: Path, path: Path, *, without_damaged: bool = False, trust: Sequence[str] = ()) -> LabelArchive:
    """Export a run's standing labels and their clips to a new file. The run may be training.

    Args:
        root: The run directory.
        path: The file.
        without_damaged: Whether to leave out labels with a missing or damaged clip.
        trust: Modules that a run of someone else's may import to create its environment.

    Returns:
        The exported file, as read back.

    Raises:
        UsageError: if the folder is not a run, the run takes no labels, or the file exists or cannot be written.
        PrefrlError: if there are no labels yet, or a clip is missing or damaged.
    """
    run = RunDirectory.open(root).admit(trust)
    task = labelled_task(run.config)
    if not run.labels.exists() and not run.begun:
        raise PrefrlError(f"{root} has no labels yet")
    with run_store(run) as store:
        labels, history = read_labels(store), read_history(store)
    clips = ClipFolder(run.clips)
    # Damage to a clip of the history alone is not an error: its query may have been flagged because of the damage.
    damaged = {segment for segment in segments_of((), history) if task.problem(clips, segment)}
    if without_damaged:
        damaged |= {segment for segment in segments_of(labels) if task.problem(clips, segment)}
        labels = [label for label in labels if damaged.isdisjoint(label.segments)]
    if not labels:
        raise PrefrlError(f"{root} has no labels {'with intact clips' if without_damaged else 'yet'}")
    write_archive(path, version(), task, labels, clips, history.without(damaged))
    return read_archive(path)


def import_labels(path: Path, root: Path, *, trust: Sequence[str] = ()) -> int:
    """Import a file of labels, and return the number of labels added; see `import_archive`."""
    return import_archive(path, root, trust=trust).labels


def import_archive(file: Path | LabelArchive, root: Path, *, trust: Sequence[str] = ()) -> Added:
    """Import the labels of a file, with their history, into a run that is not training.

    Args:
        file: The file, or its content.
        root: The run directory.
        trust: Modules that a run of someone else's may import to create its environment.

    Returns:
        What was added. Answers that the run has or had are not added again.

    Raises:
        UsageError: if the folder is not a run or is in use, or the file is for another task or of a newer version.
        PrefrlError: if the file or the run is damaged.
    """
    archive = read_archive(file) if isinstance(file, Path) else file
    run = RunDirectory.open(root).admit(trust)
    check_task(archive, run.config)
    lock = run.lock()
    try:
        return add_labels(run, archive)
    finally:
        lock.release()


def labelled_task(config: RunConfig) -> LabelledTask:
    """Return the task that a run's labels are about.

    Raises:
        UsageError: if the run trains on the true reward, and so has no labels.
    """
    if not config.takes_labels:
        raise UsageError(f"training {config.task} on the true reward takes no labels")
    length, recorded = config.queries.segment_length, recorded_step(config)
    inputs = feature_inputs(config, recorded.observation, math.prod(recorded.action))
    return LabelledTask(config.task, config.instruction, config.env_id, length, inputs, recorded)


def check_task(archive: LabelArchive, config: RunConfig) -> None:
    """Raise UsageError unless a file's labels are for a run's task, and of the kind that the run asks for."""
    if (task := labelled_task(config)) != archive.task:
        raise UsageError(f"{archive.path} contains labels of {archive.task}, which cannot be used for {task}")
    if archive.task.recorded not in (None, task.recorded):
        raise UsageError(f"{archive.path} contains {archive.task.recorded}, whereas the run records {task.recorded}")
    if config.draws_actions and archive.task.recorded is None:
        raise UsageError(
            f"{archive.path} is of an older version, which kept no actions, and reward.reads_actions is set"
        )
    kinds = kinds_of(config)
    if others := [kind for kind in archive.kinds if kind not in kinds]:
        asked = " and ".join(kinds)
        raise UsageError(f"{archive.path} contains answers of kind {others[0]}; the run asks for kind {asked}")
    for label in (*archive.labels, *archive.history.answers, *archive.history.late):
        try:
            kinds[label.kind].parse(label.value)
        except ValueError as error:
            raise UsageError(
                f"{archive.path} contains the {label.kind} {label.value}, but in the run, {error}"
            ) from None


def add_labels(run: RunDirectory, archive: LabelArchive) -> Added:
    """Add a file's labels to a run that this process has locked. Clips are written before the labels.

    Answers are identified by their clips and provenance, so that no answer is added twice, and none that was undone is
    added again. New segments get ids from -1 downwards, which leaves the ids of the run's own segments unchanged.

    Returns:
        What was added.
    """
    clips = ClipFolder(run.clips)
    with run_store(run, create=not run.begun) as store:
        known = read_known(store, clips)
        changes = compare(archive, known)
        wanted = {segment: archive.digests[segment] for segment in changes.segments}
        existing = {segment: known.segments[digest] for segment, digest in wanted.items() if digest in known.segments}
        new = [segment for segment in wanted if segment not in existing]
        numbers = dict(zip(new, free_segments(store, len(new)), strict=True))
        _copy_clips(archive, clips, numbers)
        insert_changes(store, archive, changes, numbers, existing | numbers)
    return changes.added


def _copy_clips(archive: LabelArchive, clips: ClipFolder, numbers: Mapping[int, int]) -> None:
    files: list[Path] = []
    for segment, clip, video in archive.read_clips(numbers):
        written = {clips.file(numbers[segment]): clip}
        if video is not None:
            written[clips.video(numbers[segment])] = video
        for file, content in written.items():
            write_atomically(file, content, private=True)
        files += written
    sync(files)  # before the labels refer to them


def archive_lines(archive: LabelArchive) -> list[str]:
    """Describe a file of labels, in lines of text."""
    who = Counter(f"{label.teacher} {label.labeller}" if label.labeller else label.teacher for label in archive.labels)
    counts = ", ".join(f"{count} {name}" for name, count in tally(archive.labels).items() if count)
    return [
        f"{archive.path}: {len(archive.labels)} labels of {archive.task}; written by prefrl {archive.version}",
        f"judgements: {counts or 'none'}",
        f"given by: {', '.join(f'{printable(name, 80)} {count}' for name, count in who.most_common())}",
        f"clips: {len(archive.digests)}, {len(archive.videos)} of them with a video",
        *_history_lines(archive.history),
    ]


def _history_lines(history: History) -> list[str]:
    counts = {name.replace("_", " "): len(entries) for name, entries in history._asdict().items() if entries}
    return [f"in addition: {', '.join(f'{count} {name}' for name, count in counts.items())}"] if counts else []
