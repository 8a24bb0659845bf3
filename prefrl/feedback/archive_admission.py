"""Read archives of labels. They may come from anyone, so everything is validated before it is used."""

from __future__ import annotations

import dataclasses
import datetime
import errno
import hashlib
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypedDict, get_type_hints

from prefrl.config.migrations import check_format, upgraded
from prefrl.config.typed import conform
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.clips import LARGEST_CLIP, LARGEST_FRAMES, ClipFolder
from prefrl.experience.inputs import Inputs, Recorded
from prefrl.feedback.archive import (
    CONTENTS,
    KIND,
    LabelArchive,
    LabelledTask,
    clip_name,
    counts_of,
    read_member,
    segments_of,
    video_name,
)
from prefrl.feedback.kinds import KINDS, from_json, to_json
from prefrl.feedback.label_history import Flag, History, RecordedAnswer
from prefrl.printable import printable
from prefrl.storage.files import DamagedFileError
from prefrl.storage.reading import MEBIBYTE, parse_json

_LARGEST_CONTENTS = 16 * MEBIBYTE
"""Size limit in bytes of the JSON file; a label takes about 300 bytes."""
_HEADER, _DIRECTORY_SIZE = 30, 5
"""Size in bytes of a member's header without its names; index of the directory's size in the zip's end record."""
_LARGEST_DIRECTORY = 8 * MEBIBYTE
"""Size limit in bytes of the zip's directory; a member takes about 75 bytes."""
_BROKEN = (zipfile.BadZipFile, ArithmeticError, EOFError, KeyError, RuntimeError, TypeError, ValueError)
"""Errors that result from files that are damaged or not archives."""
_NUMBERS, _TIMES = ("id", "agent_step", "repeats"), ("created_at", "undone_at")


def read_archive(path: Path) -> LabelArchive:
    """Read an archive and validate all of its content.

    Raises:
        UsageError: if there is no such file, or it was made by a newer version.
        DamagedFileError: if it is not an archive of labels, or any part is missing or altered.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    name = printable(path)
    try:
        _check_directory(path)
        with zipfile.ZipFile(path) as file:
            _check_places(file)
            return _checked(path, file)
    except _BROKEN as error:
        raise DamagedFileError(f"{name} is damaged, or not an archive of labels: {printable(error, 200)}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # an offset before the beginning of the file
            raise
        raise DamagedFileError(f"{path} is damaged: an offset lies outside the file") from None


def _check_directory(path: Path) -> None:
    """Raise ValueError if the zip's directory is so large that reading it takes seconds and gigabytes of memory."""
    with path.open("rb") as file:
        end = getattr(zipfile, "_EndRecData", lambda file: None)(file)  # no public function reads only this record
    if end and end[_DIRECTORY_SIZE] > _LARGEST_DIRECTORY:
        raise ValueError("it lists too many members")


def _check_places(file: zipfile.ZipFile) -> None:
    """Raise ValueError if members overlap: a small file could then expand to any size."""
    end = 0
    for entry in sorted(file.infolist(), key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise ValueError("its members overlap")
        end = entry.header_offset + _HEADER + len(entry.orig_filename) + entry.compress_size
    if end > file.start_dir:
        raise ValueError("its members overlap its directory")


class _Inputs(TypedDict):
    step: tuple[int, ...]
    stack: int
    dtype: str


class _Recorded(TypedDict):
    observation: tuple[int, ...]
    action: tuple[int, ...]


class _About(TypedDict):
    """The fields of `labels.json` that describe the archive as a whole."""

    prefrl: str
    task: str
    instruction: str
    env_id: str
    segment_length: int
    inputs: _Inputs
    recorded: _Recorded | None
    counts: dict[str, int]


def _checked(path: Path, file: zipfile.ZipFile) -> LabelArchive:
    contents = parse_json(read_member(file, CONTENTS, _LARGEST_CONTENTS))
    if not isinstance(contents, dict) or contents.get("kind") != KIND:
        raise ValueError("it was made by another program")
    contents = _upgraded(path, contents)
    about = _typed(_About, contents, "")
    task = _task(about)
    labels, history = _entries(path, contents)
    _check_ids(labels, history)
    for answer in (*labels, *history.answers, *history.late):
        KINDS[answer.kind].check(answer.value, [about["segment_length"]] * len(answer.segments))
    segments = segments_of(labels, history)
    videos = frozenset(segment for segment in segments if video_name(segment) in file.NameToInfo)
    if Counter(about["counts"]) != counts_of(labels, len(videos), history):
        raise ValueError("its counts do not match its content")
    for segment in videos:
        read_member(file, video_name(segment), LARGEST_FRAMES)
    digests = _digests(file, segments, task)
    return LabelArchive(path, about["prefrl"], task, labels, digests, videos, history)


def _upgraded(path: Path, contents: dict[str, Any]) -> dict[str, Any]:
    """Upgrade the content to the current formats of archives and of labels."""
    version = contents.get("prefrl")
    found = check_format("label", contents.get("label_format", 1), path, version)
    contents = upgraded("archive", contents, check_format("archive", contents["format"], path, version), path)
    answers = ("labels", "taken_back", "repeats", "late")
    return contents | {name: [upgraded("label", row, found, path) for row in contents[name]] for name in answers}


def _digests(file: zipfile.ZipFile, segments: Iterable[int], task: LabelledTask) -> dict[int, str]:
    """Read every clip as a run would, and return the SHA-256 of each by segment id."""
    digests = {}
    with TemporaryDirectory() as scratch:
        clips = ClipFolder(Path(scratch))
        for segment in segments:
            clips.file(0).write_bytes(content := read_member(file, clip_name(segment), task.largest_clip))
            try:
                flaw = task.flaw(clips, 0)
            except (*_BROKEN, PrefrlError):
                flaw = "is damaged"
            if flaw:
                raise ValueError(f"{clip_name(segment)} {flaw}")
            digests[segment] = hashlib.sha256(content).hexdigest()
    return digests


def _task(about: _About) -> LabelledTask:
    shape, length = about["inputs"], about["segment_length"]
    step, inputs = shape["step"], Inputs(shape["step"], shape["stack"])
    stacked = inputs.images and inputs.stack == step[0]
    if len(step) not in {1, 3} or shape["dtype"] != str(inputs.dtype) or not (inputs.stack == 1 or stacked):
        raise ValueError(f"inputs cannot be {shape!r:.60}")
    if min(*step, length) < 0:
        raise ValueError(f"a clip cannot be {length} times {step!r:.60}")
    for name in (about["prefrl"], about["task"], about["env_id"]):  # these are displayed
        if not name.isprintable():
            raise ValueError(f"a name cannot be {name!r:.60}")
    recorded = about["recorded"]
    if recorded and min(*recorded["observation"], *recorded["action"], 0) < 0:
        raise ValueError(f"a recorded step cannot have {recorded!r:.60}")
    shapes = recorded and Recorded(**recorded, itemsize=1 if inputs.images else 8)
    task = LabelledTask(about["task"], about["instruction"], about["env_id"], length, inputs, shapes)
    if task.clip_bytes > LARGEST_CLIP:
        raise ValueError("its clips are too large")
    return task


def _entries(path: Path, contents: dict[str, Any]) -> tuple[tuple[RecordedAnswer, ...], History]:
    """Read the labels and their history.

    Raises:
        UsageError: if a feedback kind is unknown to this installation.
        ValueError: if an entry is invalid.
    """
    labels = _typed(tuple[RecordedAnswer, ...], contents["labels"], "labels")
    history = History(*(_typed(hint, contents[name], name) for name, hint in get_type_hints(History).items()))
    for kind in sorted({entry.kind for entry in (*labels, *history.entries)}):
        try:
            KINDS.check(kind)
        except UsageError as error:
            raise UsageError(f"{printable(path)} contains an {error}") from None
    admitted, *entries = (tuple(map(_admitted, entries)) for entries in (labels, *history))
    return admitted, History(*entries)


def _admitted(entry: RecordedAnswer | Flag) -> Any:
    """Check an answer or a flag, and parse the answer's value."""
    kind = KINDS[entry.kind]
    if len(entry.segments) != kind.arity:
        raise ValueError(f"an entry of kind {kind.name} has {kind.arity} segments, not {len(entry.segments)}")
    if min(getattr(entry, name, 0) for name in _NUMBERS) < 0:
        raise ValueError(f"{', '.join(_NUMBERS)} must not be negative")
    for name in _TIMES:
        datetime.datetime.fromisoformat(getattr(entry, name, entry.created_at))
    if not isinstance(entry, RecordedAnswer):
        return entry
    return dataclasses.replace(entry, value=from_json(kind, to_json(kind, entry.value)))


def _typed(hint: Any, value: Any, name: str) -> Any:
    """Call `conform`; raise ValueError if the value does not fit."""
    try:
        return conform(hint, value, name)
    except UsageError as error:
        raise ValueError(str(error)) from None


def _check_ids(labels: Iterable[RecordedAnswer], history: History) -> None:
    """Refuse ids that no run could have written: an id of two answers, an answer with two ids, or a dangling repeat.

    A run asks about the same segments only once, except for a repeat. So two answers of one kind to the same segments
    with the same provenance are one answer, whatever their values. Different segments may have identical content, and
    so may two answers to them.
    """
    first = [*labels, *history.taken_back]
    answers = [*labels, *history.answers]
    ids = [answer.id for answer in (*answers, *history.late)]
    if len(set(ids)) < len(ids):
        raise ValueError("two labels have the same id")
    given: dict[tuple[Any, ...], int] = {}
    for answer in answers:
        given_as = (answer.kind, *sorted(answer.segments), *answer.provenance)
        if (other := given.setdefault(given_as, answer.id)) != answer.id:
            raise ValueError(f"the labels {other} and {answer.id} are duplicates")
    if missing := {repeat.repeats for repeat in history.repeats} - {answer.id for answer in first}:
        raise ValueError(f"a repeat refers to the missing label {min(missing)}")
    flags = [*history.flags, *history.flags_taken_back]
    if len({(flag.segments, flag.agent_step, flag.identity) for flag in flags}) < len(flags):
        raise ValueError("two flags are duplicates")
