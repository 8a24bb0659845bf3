"""Which queries can be told, predicted from the answers so far, for query rules that avoid the others."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefrl.arrays import Array
from prefrl.errors import DamagedFileError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.inputs import Inputs
from prefrl.experience.segment import Segment
from prefrl.feedback.label_changes import LabelChanges
from prefrl.feedback.store import LabelStore
from prefrl.reward.answerable_inputs import fit_to_answers, query_inputs, segment_inputs
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.selection.rules import all_answerable

NEWEST = 500
"""Answers that are learned from, the newest ones: those of the present policy. It also bounds the work with images."""
_KEPT_BYTES = 2**26
"""Features of clips that are kept in memory; others are read again each time."""


class Answerability:
    """Predicts which queries of a feedback kind can be told. Each prediction starts from the answers in the store."""

    def __init__(self, store: LabelStore, clips: ClipFolder, kind: str, seed: int) -> None:
        """Initialise without answers.

        Args:
            store: The run's labels.
            clips: The folder with the segments of the queries.
            kind: The feedback kind.
            seed: The run's seed.
        """
        self._changes, self._clips, self._seed = LabelChanges(store, kind), clips, seed
        self._kept: dict[int, Array] = {}
        self._room = _KEPT_BYTES

    def last_row(self, round_: int, step: int) -> int:
        """See `LabelChanges.last_row`."""
        return self._changes.last_row(round_, step)

    def predict(self, ensemble: RewardEnsemble, segments: Sequence[Segment], queries: Array, upto: int | None) -> Array:
        """Return the (B,) probabilities that queries can be told.

        Args:
            ensemble: The newest reward model.
            segments: Segments, of which queries consist.
            queries: (B, A) indices of segments.
            upto: The last row of the history of answers that is learned from; None for the newest.
        """
        inputs = ensemble.inputs
        shape = inputs.features(segments[0]).shape

        def features(number: int) -> Array:
            found = self._features(number, inputs)
            if found.shape != shape:
                raise DamagedFileError(f"the clip {self._clips.file(number)} is damaged: it has another shape")
            return found

        answers = self._changes.given(upto=upto, most=NEWEST)
        model = fit_to_answers(answers, features, ensemble, self._seed)
        if model is None:
            return all_answerable(segments, queries)
        used, places = np.unique(queries, return_inverse=True)
        candidates = segment_inputs(ensemble, (inputs.features(segments[index]) for index in used))
        return 1 - model.predict(query_inputs(candidates, places.reshape(queries.shape)))

    def _features(self, number: int, inputs: Inputs) -> Array:
        if number in self._kept:
            return self._kept[number]
        found = inputs.features(self._clips.load(number))
        if found.nbytes <= self._room:
            self._kept[number] = found
            self._room -= found.nbytes
        return found
