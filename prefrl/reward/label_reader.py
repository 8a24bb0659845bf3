"""Read labels and their clips for the reward learner."""

from __future__ import annotations

import sys
from collections.abc import Container, Iterator

import numpy as np

from prefrl.arrays import Array, Floats
from prefrl.errors import DamagedFileError, PrefrlError, explain
from prefrl.experience.clips import ClipFolder
from prefrl.experience.inputs import Inputs
from prefrl.feedback.label_changes import LabelChanges
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import GivenAnswer, Label, Undone
from prefrl.printable import printable
from prefrl.runs.directory import RunDirectory


class LabelReader:
    """Reads a run's labels, of its own feedback kinds, with their clips for the reward learner.

    A label with an unreadable clip is left out with a warning, so that a damaged file does not stop the run.
    """

    def __init__(self, run: RunDirectory, store: LabelStore, inputs: Inputs | None = None) -> None:
        """Initialise the reader.

        Args:
            run: The run.
            store: The run's label store.
            inputs: The expected inputs of a step, if known; clips with other content are treated as damaged.
        """
        self._inputs, self._length = inputs, run.config.queries.segment_length
        self._store, self._clips = store, ClipFolder(run.clips)
        self._changes = LabelChanges(store, *run.config.shares)
        self._newest: dict[int, tuple[Array, Floats]] = {}
        self._flaws: set[int] = set()
        """Ids of labels that are left out."""

    @property
    def left_out(self) -> int:
        """Number of labels that were left out."""
        return len(self._flaws)

    def standing(self, *, upto: int | None = None) -> Iterator[Label]:
        """Return the usable comparisons that stand now, or stood as of a row of the history, in order."""
        return (change for change in self.changes(upto=upto) if isinstance(change, Label))

    def changes(self, *, after: int = 0, upto: int | None = None) -> Iterator[Label | Undone]:
        """Return the usable changes of `LabelChanges.changes`."""
        changes = self._changes.changes(after=after, upto=upto)
        damaged = self._store.damaged(after) if changes else ()
        for change in changes:
            if isinstance(change, Undone):
                yield change
            elif change.id in damaged:
                self._leave_out(change, f"answer {change.id} is damaged: it is not what was stored")
            elif isinstance(change.target, tuple) and len(change.target) > self._length:
                self._leave_out(change, f"answer {change.id} is about steps beyond its clip")
            elif self._is_whole(change):
                yield change

    def given(self, whole: Container[int] = (), *, most: int | None = None) -> list[GivenAnswer]:
        """Return the usable answers that stand, including "can't tell"; see `LabelChanges.given`.

        Args:
            whole: Ids of answers whose clips were read before.
            most: Return only so many of the newest answers.
        """
        given = self._changes.given(most=most)
        return [answer for answer in given if answer.id in whole or self._is_whole(answer)]

    def last_row(self, round_: int, step: int) -> int:
        """See `LabelChanges.last_row`."""
        return self._changes.last_row(round_, step)

    def read(self, segment: int) -> tuple[Array, Floats]:
        """Return a segment's features and true rewards; those of the newest label are cached."""
        return self._newest[segment] if segment in self._newest else self._encoded(segment)

    def _is_whole(self, label: Label | GivenAnswer) -> bool:
        try:
            self._newest = {segment: self._load(segment) for segment in label.segments}
        except PrefrlError as error:
            self._leave_out(label, explain(error))
            return False
        return True

    def _load(self, segment: int) -> tuple[Array, Floats]:
        features, true_rewards = self._encoded(segment)
        if self._inputs:
            step, rewards = (self._inputs.segment(self._length), self._inputs.dtype), ((self._length,), np.dtype("f4"))
            if (features.shape, features.dtype) != step or (true_rewards.shape, true_rewards.dtype) != rewards:
                raise DamagedFileError(f"the clip {self._clips.file(segment)} is damaged: it has another shape or type")
        return features, true_rewards

    def _encoded(self, segment: int) -> tuple[Array, Floats]:
        kept = self._clips.load(segment)
        features = self._inputs.features(kept) if self._inputs else kept.features
        return features, kept.true_rewards

    def _leave_out(self, label: Label | GivenAnswer, why: str) -> None:
        if label.id not in self._flaws:
            print(f"reward learner: a label is left out: {printable(why)}", file=sys.stderr)
            self._flaws.add(label.id)
