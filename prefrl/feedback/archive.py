"""Archives of labels, which can be imported into other runs: zip files with clips and a JSON file of labels.

An archive contains the standing labels and their history (`prefrl.feedback.label_history`). So answers that were undone
are not imported again, and the quality of the labels can be reported anywhere. Answers may be of any feedback kind.

The members are JSON, arrays and videos, stored without compression. Nothing in an archive is executed, no name in it is
used as a path, and no member is larger than the archive. `prefrl.feedback.archive_admission` reads archives.
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
from prefrl.experience.clips import LARGEST_CLIP, LARGEST_FRAMES, ClipFolder
from prefrl.experience.inputs import Inputs, Recorded
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.label_history import NO_HISTORY, History, RecordedAnswer
from prefrl.feedback.terms import DEMONSTRATIONS
from prefrl.storage.files import DamagedFileError, replacing
from prefrl.storage.reading import MEBIBYTE

KIND, CONTENTS = "prefrl labels", "labels.json"


@dataclass(frozen=True)
class LabelledTask:
    """The task that labels are about. Runs with equal tasks can share labels."""

    name: str = dataclasses.field(compare=False)
    """Name of the task, as the user gave it."""
    instruction: str = dataclasses.field(compare=False)
    """Instruction that was shown to people."""
    env_id: str
    segment_length: int
    """L, the number of steps in a segment."""
    inputs: Inputs
    """The reward model's inputs of a step."""
    recorded: Recorded | None = dataclasses.field(default=None, compare=False)
    """Shapes of a recorded step. Unknown for archives up to format 3, whose clips contain only features."""

    def __str__(self) -> str:
        step = f"{'x'.join(map(str, self.inputs.step))} {self.inputs.dtype}"
        return f"{self.name} ({self.env_id}, clips of {self.segment_length} steps, {step} a step)"

    @property
    def clip_bytes(self) -> int:
        """Size of a clip's features in bytes, as the reward model reads them."""
        return math.prod(self.inputs.segment(self.segment_length)) * self.inputs.dtype.itemsize

    @property
    def largest_clip(self) -> int:
        """Size limit of a clip's file in bytes, with rewards, ends and headers; compression may enlarge images."""
        return self._most + self._most // 64 + 8 * self.segment_length + MEBIBYTE

    @property
    def _most(self) -> int:
        """Size limit of a clip's observations and actions in bytes."""
        recorded = self.recorded.nbytes(self.segment_length, self.inputs.stack) if self.recorded else 0
        return max(self.clip_bytes, min(recorded, LARGEST_CLIP))

    def flaw(self, clips: ClipFolder, segment: int) -> str | None:
        """Check that a clip fits this task.

        Returns:
            A description of the problem; None if there is none.

        Raises:
            PrefrlError: if it is missing or damaged.
        """
        kept = clips.load(segment, self._most)
        features, true_rewards, length = kept.features, kept.true_rewards, self.segment_length
        right = features.shape == self.inputs.segment(length) and features.dtype == self.inputs.dtype
        right &= kept.is_encoded or (self.recorded is not None and self.recorded.holds(kept))
        if not right or true_rewards.shape != (length,) or true_rewards.dtype != np.float32:
            return f"is not of {self}"
        finite = all(np.isfinite(part).all() for part in (features, kept.actions, true_rewards))
        return None if finite else "holds values that are not finite"

    def problem(self, clips: ClipFolder, segment: int) -> str | None:
        """Describe why a clip cannot be exported; None if it can. It may be missing, damaged or of another task."""
        try:
            flaw = self.flaw(clips, segment)
        except PrefrlError as error:
            return explain(error)
        return f"the clip {clips.file(segment)} {flaw}" if flaw else None


@dataclass(frozen=True)
class LabelArchive:
    """The content of an archive, which was fully validated."""

    path: Path
    version: str
    """Version of prefrl that wrote it."""
    task: LabelledTask
    labels: tuple[RecordedAnswer, ...]
    digests: Mapping[int, str]
    """SHA-256 of each segment's clip, by the segment's id."""
    videos: frozenset[int]
    """Segments that have a video."""
    history: History = NO_HISTORY

    @property
    def answered(self) -> int:
        """Number of labels that count towards a budget; automatic labels do not."""
        counted = (label for label in self.labels if label.teacher != DEMONSTRATIONS)
        return sum(KINDS[label.kind].counts(label.value) for label in counted)

    @property
    def kinds(self) -> list[str]:
        """The feedback kinds of the labels and their history."""
        return sorted({entry.kind for entry in (*self.labels, *self.history.entries)})

    def read_clips(self, segments: Iterable[int]) -> Iterator[tuple[int, bytes, bytes | None]]:
        """Iterate over segments with the content of their clip, and of their video if there is one."""
        with zipfile.ZipFile(self.path) as file:
            for segment in segments:
                video = read_member(file, video_name(segment), LARGEST_FRAMES) if segment in self.videos else None
                yield segment, read_member(file, clip_name(segment), self.task.largest_clip), video


def write_archive(
    path: Path,
    version: str,
    task: LabelledTask,
    labels: Sequence[RecordedAnswer],
    clips: ClipFolder,
    history: History = NO_HISTORY,
) -> None:
    """Write labels and their clips to a new archive, atomically.

    Args:
        path: The archive.
        version: Version of this package.
        task: The task of the labels.
        labels: The labels.
        clips: The folder of the clips.
        history: The history of the labels.

    Raises:
        UsageError: if the file exists already, or cannot be written.
        PrefrlError: if a clip is missing or damaged.
    """
    if path.exists():
        raise UsageError(f"{path} exists already; choose another name")
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


def _contents(version: str, task: LabelledTask, labels: Sequence[RecordedAnswer], history: History, videos: int) -> str:
    inputs, recorded = task.inputs, task.recorded
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
        "recorded": recorded and {"observation": recorded.observation, "action": recorded.action},
        "counts": counts_of(labels, videos, history),
        "labels": [vars(label) for label in labels],
    } | {name: [vars(entry) for entry in entries] for name, entries in history._asdict().items()}
    return json.dumps(contents, indent=1)


def segments_of(labels: Iterable[RecordedAnswer], history: History = NO_HISTORY) -> list[int]:
    """Return the ids of all segments of labels and their history, sorted and without duplicates."""
    return sorted({segment for entry in (*labels, *history.entries) for segment in entry.segments})


def counts_of(labels: Sequence[RecordedAnswer], videos: int, history: History) -> Counter[str]:
    """Count the entries of each kind; labels are also counted by value."""
    others = {name: len(entries) for name, entries in history._asdict().items()}
    clips = len(segments_of(labels, history))
    return Counter(tally(labels) | {"labels": len(labels), **others, "clips": clips, "videos": videos})


def tally(labels: Iterable[RecordedAnswer]) -> dict[str, int]:
    """Count labels by the names of their values. Values that can be enumerated come first, in their kind's order."""
    values = [(KINDS[label.kind], label.value) for label in labels]
    kinds = [KINDS[name] for name in sorted({kind.name for kind, _ in values})]
    enumerated = {kind.tally(value): 0 for kind in kinds for value in kind.values or ()}
    return {**enumerated, **Counter(kind.tally(value) for kind, value in values)}


def clip_name(segment: int) -> str:
    """Return the name of a clip in an archive."""
    return f"clips/{segment}.safetensors"


def video_name(segment: int) -> str:
    """Return the name of a video in an archive."""
    return f"clips/{segment}.avi"


def read_member(file: zipfile.ZipFile, name: str, most: int) -> bytes:
    """Read a member and verify its checksum. Compressed members are refused, because they can expand to any size.

    Args:
        file: The archive.
        name: The member's name.
        most: Size limit in bytes.

    Raises:
        ValueError: if it is missing, compressed or too large. `zipfile` may raise other errors.
    """
    if name not in file.NameToInfo:
        raise ValueError(f"it lacks {name}")
    entry = file.getinfo(name)
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ValueError(f"{name} is compressed")
    if entry.file_size > most:
        raise ValueError(f"{name} is too large")
    return file.read(entry)


def _entry(name: str) -> zipfile.ZipInfo:
    """Create a member without a date, so that equal labels give equal archives; everyone can read it when unpacked."""
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o644 << 16
    return entry
