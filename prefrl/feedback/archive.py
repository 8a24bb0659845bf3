"""The file in which labels outlive their run: a zip of clips, and one JSON file with what was said of them.

Beside the labels that stand it holds what else is known of them (`prefrl.feedback.label_history`), so that what was
taken back does not come again, and the quality of the labels can be reported wherever they are. Answers may be of any
feedback kind.

It holds JSON, arrays and videos, stored as they are: nothing in it can be executed, none of its names becomes a path,
and nothing in it is larger than the file itself. `prefrl.feedback.archive_admission` reads it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prefrl.config.migrations import current_format
from prefrl.errors import PrefrlError, UsageError, explain, is_disk_full
from prefrl.experience.clips import LARGEST_FRAMES, ClipFolder
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.label_history import NO_HISTORY, History, Label
from prefrl.storage.files import DamagedFileError, replacing
from prefrl.storage.reading import MEBIBYTE

KIND, CONTENTS = "prefrl labels", "labels.json"


@dataclass(frozen=True)
class LabelledTask:
    """What labels are about. Runs for which it is equal can share them."""

    name: str = dataclasses.field(compare=False)
    """What the user called it."""
    instruction: str = dataclasses.field(compare=False)
    """What people were asked to prefer."""
    env_id: str
    segment_length: int
    """L, steps."""
    inputs: Inputs
    """What a reward model reads of a step."""

    def __str__(self) -> str:
        step = f"{'x'.join(map(str, self.inputs.step))} {self.inputs.dtype}"
        return f"{self.name} ({self.env_id}, clips of {self.segment_length} steps, {step} a step)"

    @property
    def clip_bytes(self) -> int:
        """Of a clip's features, as a reward model reads them."""
        return math.prod(self.inputs.segment(self.segment_length)) * self.inputs.dtype.itemsize

    @property
    def largest_clip(self) -> int:
        """Bytes of the file of a clip, with true rewards and headers; images may deflate to a little more."""
        return self.clip_bytes + self.clip_bytes // 64 + 8 * self.segment_length + MEBIBYTE

    def flaw(self, clips: ClipFolder, segment: int) -> str | None:
        """What is wrong with a clip, in words; None where it is one of this task's.

        Raises:
            PrefrlError: if it is missing or damaged.
        """
        features, true_rewards = clips.load(segment, self.clip_bytes)
        length = self.segment_length
        right = features.shape == self.inputs.segment(length) and features.dtype == self.inputs.dtype
        if not right or true_rewards.shape != (length,) or true_rewards.dtype != np.float32:
            return f"is not of {self}"
        finite = np.isfinite(features).all() and np.isfinite(true_rewards).all()
        return None if finite else "holds values that are not finite"

    def problem(self, clips: ClipFolder, segment: int) -> str | None:
        """Why a run's clip cannot be given away: missing, damaged, or of something else; None where it can."""
        try:
            flaw = self.flaw(clips, segment)
        except PrefrlError as error:
            return explain(error)
        return f"the clip {clips.file(segment)} {flaw}" if flaw else None


@dataclass(frozen=True)
class LabelArchive:
    """What a file of labels holds; all of it was checked."""

    path: Path
    version: str
    """Of prefrl, that wrote it."""
    task: LabelledTask
    labels: tuple[Label, ...]
    digests: Mapping[int, str]
    """The SHA-256 of each segment's training copy, by the segment's id."""
    videos: frozenset[int]
    """Segments whose video is there too."""
    history: History = NO_HISTORY

    @property
    def answered(self) -> int:
        """Labels that count."""
        return sum(KINDS[label.kind].counts(label.value) for label in self.labels)

    @property
    def kinds(self) -> list[str]:
        """The feedback kinds of what it holds."""
        return sorted({entry.kind for entry in (*self.labels, *self.history.entries)})

    def read_clips(self, segments: Iterable[int]) -> Iterator[tuple[int, bytes, bytes | None]]:
        """Segments with the content of their training copy and of their video, None where there is none."""
        with zipfile.ZipFile(self.path) as file:
            for segment in segments:
                video = read_member(file, video_name(segment), LARGEST_FRAMES) if segment in self.videos else None
                yield segment, read_member(file, clip_name(segment), self.task.largest_clip), video


def write_archive(
    path: Path,
    version: str,
    task: LabelledTask,
    labels: Sequence[Label],
    clips: ClipFolder,
    history: History = NO_HISTORY,
) -> None:
    """Write labels and their clips to a new file, atomically.

    Args:
        path: The file.
        version: Of this package.
        task: What the labels are about.
        labels: The labels.
        clips: Where their clips are.
        history: What else is known of them.

    Raises:
        UsageError: if the file is there already, or cannot be written.
        PrefrlError: if a clip is missing or damaged.
    """
    if path.exists():
        raise UsageError(f"{path} is there already; choose another name")
    segments = segments_of(labels, history)
    for segment in segments:
        if problem := task.problem(clips, segment):
            raise DamagedFileError(f"{problem}; --without-damaged leaves its labels out")
    members = {clip_name(segment): clips.file(segment) for segment in segments}
    members |= {video_name(segment): clips.video(segment) for segment in segments if clips.video(segment).exists()}
    try:
        with replacing(path, durable=True, private=True) as target, zipfile.ZipFile(target, "w") as file:
            file.writestr(_entry(CONTENTS), _contents(version, task, labels, history, len(members) - len(segments)))
            for name, source in members.items():
                file.writestr(_entry(name), source.read_bytes())
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UsageError(f"{path} cannot be written: {error.strerror}") from None


def _contents(version: str, task: LabelledTask, labels: Sequence[Label], history: History, videos: int) -> str:
    inputs = task.inputs
    contents = {
        "kind": KIND,
        "format": current_format("archive"),
        "label_format": current_format("label"),
        "prefrl": version,
        "task": task.name,
        "instruction": task.instruction,
        "env_id": task.env_id,
        "segment_length": task.segment_length,
        "inputs": {"step": inputs.step, "stack": inputs.stack, "dtype": str(inputs.dtype)},
        "counts": counts_of(labels, videos, history),
        "labels": [vars(label) for label in labels],
    } | {name: [vars(entry) for entry in entries] for name, entries in history._asdict().items()}
    return json.dumps(contents, indent=1)


def segments_of(labels: Iterable[Label], history: History = NO_HISTORY) -> list[int]:
    """The segments that labels and their history are about, each once."""
    return sorted({segment for entry in (*labels, *history.entries) for segment in entry.segments})


def counts_of(labels: Sequence[Label], videos: int, history: History) -> Counter[str]:
    """How much there is of everything; labels also by what they say."""
    beside = {name: len(entries) for name, entries in history._asdict().items()}
    clips = len(segments_of(labels, history))
    return Counter(tally(labels) | {"labels": len(labels), **beside, "clips": clips, "videos": videos})


def tally(labels: Iterable[Label]) -> dict[str, int]:
    """How many labels say what, by the names of their kinds; first, and in order, the values that can be listed."""
    said = [(KINDS[label.kind], label.value) for label in labels]
    kinds = [KINDS[name] for name in sorted({kind.name for kind, _ in said})]
    listed = {kind.tally(value): 0 for kind in kinds for value in kind.values or ()}
    return {**listed, **Counter(kind.tally(value) for kind, value in said)}


def clip_name(segment: int) -> str:
    """A training copy's name in the file."""
    return f"clips/{segment}.safetensors"


def video_name(segment: int) -> str:
    """A video's name in the file."""
    return f"clips/{segment}.avi"


def read_member(file: zipfile.ZipFile, name: str, most: int) -> bytes:
    """A member's content, its checksum verified; never of one that is compressed, which could be of any size.

    Args:
        file: The file.
        name: The member's name.
        most: Bytes that it may have.

    Raises:
        ValueError: if it is missing, compressed or larger, and what else `zipfile` raises.
    """
    if name not in file.NameToInfo:
        raise ValueError(f"it lacks {name}")
    entry = file.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ValueError(f"{name} is compressed")
    if entry.file_size > most:
        raise ValueError(f"{name} is larger than it can be")
    return file.read(entry)


def _entry(name: str) -> zipfile.ZipInfo:
    """A member without a date, so that the same labels give the same file; readable where somebody unpacks it."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o644 << 16
    return entry
