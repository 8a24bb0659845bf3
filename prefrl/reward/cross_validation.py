"""Predict the outcome of each of a run's comparisons from the other comparisons."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from prefrl.arrays import Array
from prefrl.config import RunConfig
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.kinds.comparison import COMPARISON
from prefrl.feedback.outcomes import outcome_probabilities
from prefrl.feedback.terms import GivenAnswer
from prefrl.reward.answerable_inputs import fit_to_answers, query_inputs, segment_inputs
from prefrl.reward.outcome_request import OutcomeRequest, outcome_request, split_folds
from prefrl.reward.outcome_results import OutcomeResults, Prediction, outcome_of
from prefrl.reward.refit import LabelledClips, Report, fitted_learner, labelled_clips

_AT_ONCE = 16
"""Queries that are predicted at once: of images, each takes megabytes."""


def cross_validate(
    root: Path,
    *,
    folds: int = 5,
    seed: int = 0,
    comparisons: int | None = None,
    out: Path | None = None,
    report: Report = lambda phase, done, wanted: None,
    trust: Sequence[str] = (),
) -> OutcomeResults:
    """Cross-validate the predicted outcomes of a run's comparisons, and write the results.

    For each fold, a new reward model and a new model of which queries can be told are fitted to the other answers. The
    reward model also learns from the run's labels of other kinds, and from automatic labels.

    Args:
        root: The run directory; for the others, see `outcome_request`.
        folds: Number of folds.
        seed: Seed of the folds and of the fits.
        comparisons: Comparisons that each member fits, for each fold.
        out: Folder for the results.
        report: Called with the progress.
        trust: Modules that a run of someone else's may import to create its environment.

    Raises:
        UsageError: if an argument is invalid, or the run has not enough comparisons.
        PrefrlError: if the run's files are damaged.
    """
    request = outcome_request(root, folds=folds, seed=seed, comparisons=comparisons, out=out)
    run, config = request.run.admit(trust), dataclasses.replace(request.run.config, seed=seed)
    clips = labelled_clips(run)
    answers = [answer for answer in clips.given if answer.kind == COMPARISON]
    places, predictions = split_folds(answers, folds, seed), []
    for fold in range(folds):

        def told(phase: str, done: int, wanted: int, fold: int = fold) -> None:
            report(phase, fold * wanted + done, folds * wanted)

        held_out = [answer for answer, place in zip(answers, places, strict=True) if place == fold]
        training = [answer for answer, place in zip(answers, places, strict=True) if place != fold]
        found = _predicted(request, config, clips, training, held_out, told)
        predictions += [
            Prediction(answer.id, fold, outcome_of(answer), *map(float, row))
            for answer, row in zip(held_out, found, strict=True)
        ]
    results = OutcomeResults(
        str(root), config.task, folds, seed, request.comparisons, sorted(predictions, key=lambda each: each.answer)
    )
    results.write(request.out)
    return results


def _predicted(
    request: OutcomeRequest,
    config: RunConfig,
    clips: LabelledClips,
    training: Sequence[GivenAnswer],
    held_out: Sequence[GivenAnswer],
    report: Report,
) -> Array:
    """Predict the outcomes of held-out answers, (N, 3), from the others."""
    left_out = {answer.id for answer in held_out}
    labels = [label for label in clips.labels if label.id not in left_out]
    ensemble = fitted_learner(config, clips, labels, request.comparisons, report).ensemble
    answerable = fit_to_answers(training, lambda segment: clips.read(segment)[0], ensemble, request.seed)
    folder, rows = ClipFolder(request.run.clips), []
    for begin in range(0, len(held_out), _AT_ONCE):
        asked = held_out[begin : begin + _AT_ONCE]
        segments = [folder.load(number) for answer in asked for number in answer.segments]
        queries = np.arange(len(segments)).reshape(len(asked), -1)
        first = ensemble.predict_preferences(segments, queries).mean(axis=0, dtype=np.float64)
        untold = np.zeros(len(asked))
        if answerable is not None:
            inputs = segment_inputs(ensemble, (ensemble.inputs.features(segment) for segment in segments))
            untold = answerable.predict(query_inputs(inputs, queries))
        rows.append(outcome_probabilities(first, untold))
    return np.concatenate(rows)
