"""Find labels that cannot be used for training."""

from __future__ import annotations

from prefrl.errors import PrefrlError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.store import LabelStore


def unusable_labels(store: LabelStore, clips: ClipFolder, *kinds: str) -> set[int]:
    """Return the ids of labels of some feedback kinds that cannot be used for training.

    These are labels with a missing or damaged clip, and damaged answers.
    """
    labels, damaged = store.labels(*kinds), store.damaged()
    segments = {segment for label in labels for segment in label.segments}
    broken = {segment for segment in segments if not _is_whole(clips, segment)}
    unusable = {label.id for label in labels if label.id in damaged or not broken.isdisjoint(label.segments)}
    return unusable | store.unreadable()


def _is_whole(clips: ClipFolder, segment: int) -> bool:
    try:
        clips.load(segment)
    except (PrefrlError, OSError):
        return False
    return True
