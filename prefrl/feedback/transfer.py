"""Labels from one run to others: out of a run into a file, and from a file into a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from prefrl.config import RunConfig
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.environments import reward_inputs
from prefrl.feedback.archive import LabelArchive, LabelledTask, segments_of, tally, write_archive
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.kinds.comparison import COMPARISON
from prefrl.feedback.label_history import History, read_history, read_labels
from prefrl.feedback.merge import Added, compare, free_segments, insert_changes, read_known
from prefrl.feedback.run_store import run_store
from prefrl.printable import printable
from prefrl.runs.directory import RunDirectory, version
from prefrl.storage.durable import sync
from prefrl.storage.files import write_atomically


def export_labels(root: Path, path: Path, *, without_damaged: bool = False, trust: Sequence[str] = ()) -> LabelArchive:
    """Write a run's standing labels, with their clips, to a new file; the run may be at work meanwhile.

    Args:
        root: The run directory.
        path: The file.
        without_damaged: Whether to leave labels out of which a clip is missing or damaged.
        trust: Modules that a run which is not one's own may import to make its environment.

    Returns:
        The file, read back.

    Raises:
        UsageError: if the folder is no run, has none to give, or the file is there already or cannot be written.
        PrefrlError: if there are no labels yet, or a clip is missing or damaged.
    """
    run = RunDirectory.open(root).admit(trust)
    task = labelled_task(run.config)
    if not run.labels.exists() and not run.begun:
        raise PrefrlError(f"{root} has no labels yet")
    with run_store(run) as store:
        labels, history = read_labels(store), read_history(store)
    clips = ClipFolder(run.clips)
    # What is no label is not worth an error: a query may have been flagged because its clip is damaged.
    damaged = {segment for segment in segments_of((), history) if task.problem(clips, segment)}
    if without_damaged:
        damaged |= {segment for segment in segments_of(labels) if task.problem(clips, segment)}
        labels = [label for label in labels if damaged.isdisjoint(label.segments)]
    if not labels:
        raise PrefrlError(f"{root} has no labels {'whose clips are whole' if without_damaged else 'yet'}")
    write_archive(path, version(), task, labels, clips, history.without(damaged))
    return read_archive(path)


def import_labels(path: Path, root: Path, *, trust: Sequence[str] = ()) -> int:
    """As `import_archive`; how many labels were added."""
    return import_archive(path, root, trust=trust).labels


def import_archive(file: Path | LabelArchive, root: Path, *, trust: Sequence[str] = ()) -> Added:
    """Add the labels of a file to a run that no process is at work on, and what else the file knows of them.

    Args:
        file: The file, or what was read of it.
        root: The run directory.
        trust: Modules that a run which is not one's own may import to make its environment.

    Returns:
        What was added: what the run has, or had and took back, is left out.

    Raises:
        UsageError: if the folder is no run or is in use, or the file is of another task or a newer version.
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
    """What a run's labels are about.

    Raises:
        UsageError: if it has none, being trained on the true reward.
    """
    if not config.learns_reward:
        raise UsageError(f"training {config.task} on the true reward takes no labels")
    length = config.queries.segment_length
    return LabelledTask(config.task, config.instruction, config.env_id, length, reward_inputs(config))


def check_task(archive: LabelArchive, config: RunConfig) -> None:
    """Raise UsageError unless a file's labels are of a run's task, and of the kind that it asks for."""
    if (task := labelled_task(config)) != archive.task:
        raise UsageError(f"{archive.path} holds labels of {archive.task}, which cannot serve {task}")
    asked = asked_kind(config)
    if others := [kind for kind in archive.kinds if kind != asked]:
        raise UsageError(f"{archive.path} holds answers of kind {others[0]}; the run asks for answers of kind {asked}")


def asked_kind(config: RunConfig) -> str:
    """The feedback kind of a run's queries."""
    return COMPARISON


def add_labels(run: RunDirectory, archive: LabelArchive) -> Added:
    """Add a file's labels to a run that this process has for itself; their clips first, then all of them at once.

    An answer is known again by its clips and its provenance, so that none comes twice, whichever way it went, and none
    comes again that was taken back. New segments count down from -1: the run's own count up from 0, and stay what they
    would have been.

    Returns:
        What was added.
    """
    clips = ClipFolder(run.clips)
    with run_store(run, create=not run.begun) as store:
        known = read_known(store, clips)
        changes = compare(archive, known)
        wanted = {segment: archive.digests[segment] for segment in changes.segments}
        held = {segment: known.segments[digest] for segment, digest in wanted.items() if digest in known.segments}
        new = [segment for segment in wanted if segment not in held]
        numbers = dict(zip(new, free_segments(store, len(new)), strict=True))
        _copy_clips(archive, clips, numbers)
        insert_changes(store, archive, changes, numbers, held | numbers)
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
    sync(files)  # before there are labels of them


def archive_lines(archive: LabelArchive) -> list[str]:
    """What a file of labels holds, for a person."""
    who = Counter(f"{label.teacher} {label.labeller}" if label.labeller else label.teacher for label in archive.labels)
    return [
        f"{archive.path}: {len(archive.labels)} labels of {archive.task}; written by prefrl {archive.version}",
        f"judgements: {', '.join(f'{count} {name}' for name, count in tally(archive.labels).items())}",
        f"given by: {', '.join(f'{printable(name, 80)} {count}' for name, count in who.most_common())}",
        f"clips: {len(archive.digests)}, {len(archive.videos)} of them with a video",
        *_history_lines(archive.history),
    ]


def _history_lines(history: History) -> list[str]:
    counts = {name.replace("_", " "): len(entries) for name, entries in history._asdict().items() if entries}
    return [f"beside them: {', '.join(f'{count} {name}' for name, count in counts.items())}"] if counts else []
