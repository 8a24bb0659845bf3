"""Reading a file of labels that anybody may have made: all of it is checked before any of it is used."""

from __future__ import annotations

import datetime
import errno
import hashlib
import math
import zipfile
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_type_hints

from prefrl.config.migrations import check_format, upgraded
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.clips import LARGEST_CLIP, LARGEST_FRAMES, ClipFolder
from prefrl.experience.inputs import Inputs
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
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.label_history import Flag, History, Label, Repeat, TakenBack, Unflagged
from prefrl.printable import printable
from prefrl.storage.files import DamagedFileError
from prefrl.storage.reading import MEBIBYTE, parse_json

_LARGEST_CONTENTS = 16 * MEBIBYTE
"""Of what is said of labels: some 300 bytes each."""
_HEADER, _DIRECTORY_SIZE = 30, 5
"""Bytes of a member's header without its names; which of the fields at a zip's end is the size of its list."""
_LARGEST_DIRECTORY = 8 * MEBIBYTE
"""Of the list of members: some 75 bytes each."""
_LARGEST = 2**63
"""A database holds whole numbers below this."""
_BROKEN = (zipfile.BadZipFile, ArithmeticError, EOFError, KeyError, RuntimeError, TypeError, ValueError)
"""What is raised by reading what is no zip, or another program's, or damaged."""


def read_archive(path: Path) -> LabelArchive:
    """Read a file of labels, and check everything in it.

    Raises:
        UsageError: if there is no such file, or it was made by a newer version.
        DamagedFileError: if it is no file of labels, or any of it is missing or altered.
    """
    if not path.is_file():
        raise UsageError(f"there is no file {path}")
    told = printable(path)
    try:
        _check_directory(path)
        with zipfile.ZipFile(path) as file:
            _check_places(file)
            return _checked(path, file)
    except _BROKEN as error:
        raise DamagedFileError(f"{told} is damaged, or no file of labels: {printable(error, 200)}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the file's beginning
            raise
        raise DamagedFileError(f"{path} is damaged: it points outside itself") from None


def _check_directory(path: Path) -> None:
    """Raise ValueError for a list of members so long that reading it would take seconds, and memory by the gigabyte."""
    with path.open("rb") as file:
        end = getattr(zipfile, "_EndRecData", lambda file: None)(file)  # nothing public tells before it is all read
    if end and end[_DIRECTORY_SIZE] > _LARGEST_DIRECTORY:
        raise ValueError("it lists too many members")


def _check_places(file: zipfile.ZipFile) -> None:
    """Raise ValueError where two members share bytes: a small file could hold any amount then."""
    end = 0
    for entry in sorted(file.infolist(), key=lambda entry: entry.header_offset):
        if entry.header_offset < end:
            raise ValueError("its members overlap")
        end = entry.header_offset + _HEADER + len(entry.orig_filename) + entry.compress_size
    if end > file.start_dir:
        raise ValueError("its members overlap their list")


def _checked(path: Path, file: zipfile.ZipFile) -> LabelArchive:
    contents = _typed(dict, parse_json(read_member(file, CONTENTS, _LARGEST_CONTENTS)), "its content")
    if contents.get("kind") != KIND:
        raise ValueError("another program's")
    version = _name(contents, "prefrl")
    contents = _upgraded(path, contents, version)
    task = _task(contents)
    labels = tuple(_label(row) for row in _typed(list, contents["labels"], "labels"))
    history = _history(contents)
    _check_ids(labels, history)
    segments = segments_of(labels, history)
    videos = frozenset(segment for segment in segments if video_name(segment) in file.NameToInfo)
    if contents["counts"] != counts_of(labels, len(videos), history):
        raise ValueError("it does not hold as much as it says")
    for segment in videos:
        read_member(file, video_name(segment), LARGEST_FRAMES)
    digests = _digests(file, segments, task)
    return LabelArchive(path, version, task, labels, digests, videos, history)


def _upgraded(path: Path, contents: dict[str, Any], version: str) -> dict[str, Any]:
    """What an archive says, in this version's formats: the archive's own, and that of its labels."""
    found = check_format("label", contents.get("label_format", 1), path, version)
    contents = upgraded("archive", contents, check_format("archive", contents["format"], path, version), path)
    for name in ("labels", "taken_back", "repeats", "late"):
        contents[name] = [upgraded("label", row, found, path) for row in _typed(list, contents[name], name)]
    return contents


def _digests(file: zipfile.ZipFile, segments: Iterable[int], task: LabelledTask) -> dict[int, str]:
    """Read every clip as a run would, and give its SHA-256."""
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


def _task(contents: dict[str, Any]) -> LabelledTask:
    told = _typed(dict, contents["inputs"], "inputs")
    step = tuple(_whole(size, "inputs") for size in _typed(list, told["step"], "inputs"))
    inputs = Inputs(step, _whole(told["stack"], "inputs"))
    stacked = inputs.images and inputs.stack == step[0]
    if len(step) not in {1, 3} or told["dtype"] != str(inputs.dtype) or not (inputs.stack == 1 or stacked):
        raise ValueError(f"inputs cannot be {told!r:.60}")
    instruction, length = _typed(str, contents["instruction"], "instruction"), contents["segment_length"]
    names = (_name(contents, "task"), instruction, _name(contents, "env_id"))
    task = LabelledTask(*names, _whole(length, "segment_length"), inputs)
    if task.clip_bytes > LARGEST_CLIP:
        raise ValueError("its clips are larger than a clip can be")
    return task


def _label(row: Any) -> Label:
    label: Label = _fields(Label, row, "a label", get_type_hints(Label) | {"judgement": str})
    for name in ("id", "agent_step"):
        _whole(getattr(label, name), name)
    if not math.isfinite(label.response_seconds or 0):
        raise ValueError("response_seconds must be finite")
    datetime.datetime.fromisoformat(label.created_at)
    return label._replace(judgement=Judgement(label.judgement))


def _history(contents: dict[str, Any]) -> History:
    lists = {name: _typed(list, contents[name], name) for name in History._fields}
    taken_back = tuple(TakenBack(*_label_with("undone_at", row)) for row in lists["taken_back"])
    repeats = tuple(Repeat(*_label_with("repeats", row)) for row in lists["repeats"])
    unflagged = tuple(Unflagged(_flag(row), at) for row, at in map(_with_undone_at, lists["flags_taken_back"]))
    for at in (*(back.undone_at for back in taken_back), *(back.undone_at for back in unflagged)):
        datetime.datetime.fromisoformat(_typed(str, at, "undone_at"))
    for repeat in repeats:
        _whole(repeat.repeats, "repeats")
    late = tuple(_label(row) for row in lists["late"])
    return History(taken_back, repeats, tuple(_flag(row) for row in lists["flags"]), late, unflagged)


def _with_undone_at(row: Any) -> tuple[dict[str, Any], Any]:
    fields = dict(_typed(dict, row, "a flag"))
    at = fields.pop("undone_at")
    return fields, at


def _label_with(name: str, row: Any) -> tuple[Label, Any]:
    """A label, and what is said of it beside."""
    fields = dict(_typed(dict, row, "a label"))
    value = fields.pop(name)
    return _label(fields), value


def _flag(row: Any) -> Flag:
    flag: Flag = _fields(Flag, row, "a flag", get_type_hints(Flag))
    _whole(flag.agent_step, "agent_step")
    datetime.datetime.fromisoformat(flag.created_at)
    return flag


def _fields(kind: Any, row: Any, name: str, hints: dict[str, Any]) -> Any:
    """A named tuple from an object that has its fields, each of its type, and no others."""
    fields = _typed(dict, row, name)
    if fields.keys() != set(kind._fields):
        raise ValueError(f"{name} cannot have the fields {sorted(fields)!r:.60}")
    return kind(**{field: _typed(hints[field], value, field) for field, value in fields.items()})


def _check_ids(labels: Iterable[Label], history: History) -> None:
    """Refuse what no run could have written: one id for two answers, one answer under two ids, a repeat of nothing.

    A run never asks about a pair of segments twice, but to repeat it later. So two answers about one pair with all the
    same provenance are one, whatever else they say. Two segments may be alike, and two answers about them with them.
    """
    first = [*labels, *(back.label for back in history.taken_back)]
    answers = [*labels, *history.answers]
    ids = [answer.id for answer in (*answers, *history.late)]
    if len(set(ids)) < len(ids):
        raise ValueError("two labels have the same id")
    given: dict[tuple[Any, ...], int] = {}
    for answer in answers:
        given_as = (*sorted((answer.left, answer.right)), *answer[Label._fields.index("teacher") :])
        if (other := given.setdefault(given_as, answer.id)) != answer.id:
            raise ValueError(f"the labels {other} and {answer.id} are the same one")
    if missing := {repeat.repeats for repeat in history.repeats} - {answer.id for answer in first}:
        raise ValueError(f"there is no label {min(missing)} that could be repeated")
    flags = [*history.flags, *(unflagged.flag for unflagged in history.flags_taken_back)]
    if len(set(flags)) < len(flags):
        raise ValueError("two flags are the same one")


def _typed(kind: Any, value: Any, name: str) -> Any:
    """The value, if it is of the type and a database can hold it."""
    if not isinstance(value, kind) or isinstance(value, bool) or (isinstance(value, int) and abs(value) >= _LARGEST):
        raise ValueError(f"{name} cannot be {value!r:.60}")
    if isinstance(value, str):
        value.encode()  # refuses halves of characters, which JSON can spell
    return value


def _name(contents: dict[str, Any], key: str) -> str:
    """A name that will be shown: without what could steer a terminal."""
    if not _typed(str, contents[key], key).isprintable():
        raise ValueError(f"{key} cannot be {contents[key]!r:.60}")
    return str(contents[key])


def _whole(value: Any, name: str) -> int:
    if _typed(int, value, name) < 0:
        raise ValueError(f"{name} cannot be {value}")
    return int(value)
