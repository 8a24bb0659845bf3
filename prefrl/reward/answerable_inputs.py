"""What the model of which queries can be told reads of a query.

It is the same whichever segment is shown first: the predicted sums of rewards, sorted, and the mean of the
segments' summaries. Predicted sums are those of the ensemble as it is, so the model is fitted again whenever the
ensemble has changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
import torch

from prefrl.arrays import Array
from prefrl.errors import PrefrlError
from prefrl.experience.inputs import Inputs
from prefrl.feedback.terms import GivenAnswer
from prefrl.reward.answerable import Answerable, can_fit, fit, rate_of
from prefrl.reward.ensemble import RewardEnsemble

_CELLS = 7
"""Cells along each side of an image."""
_AT_ONCE = 32
"""Segments whose rewards are predicted at once: of images, each takes megabytes."""


def summary(features: Array) -> Array:
    """Return a summary of a segment's steps: their mean; of images, over 7 x 7 cells.

    Args:
        features: (L, F) features, or the (..., H, W) frames of images.

    Returns:
        (F,), or one number for each cell.
    """
    if features.dtype != np.uint8:
        return np.asarray(features.mean(axis=0, dtype=np.float64))
    image = features.reshape(-1, *features.shape[-2:]).mean(axis=0) / 255
    rows = np.array_split(image, min(_CELLS, len(image)), axis=0)
    cells = [np.array_split(row, min(_CELLS, image.shape[1]), axis=1) for row in rows]
    return np.array([cell.mean() for row in cells for cell in row])


def input_width(inputs: Inputs, arity: int) -> int:
    """Return D, the number of inputs of a query.

    Args:
        inputs: The inputs of a step.
        arity: A, the number of segments of a query.
    """
    height, width = inputs.step[-2:] if inputs.images else (0, 0)
    return arity + (min(_CELLS, height) * min(_CELLS, width) if inputs.images else inputs.step[0])


def input_prior(width: int, arity: int) -> Array:
    """Return the prior deviation of the weights of each input, (D,); see `answerable.fit`.

    The summaries together weigh as much as one of the sums.

    Args:
        width: D.
        arity: A, the number of segments of a query.
    """
    prior = np.full(width, 1 / np.sqrt(max(1, width - arity)))
    prior[:arity] = 1
    return prior


def query_inputs(segments: Array, queries: Array) -> Array:
    """Return the inputs of queries, whichever segment is shown first.

    Args:
        segments: (S, 1 + F) of each segment; see `segment_inputs`.
        queries: (B, A) indices of segments.

    Returns:
        (B, A + F): the sums, sorted, and the mean of the summaries.
    """
    each = segments[queries]
    return np.concatenate([np.sort(each[..., 0], axis=1), each[..., 1:].mean(axis=1)], axis=1)


def segment_inputs(ensemble: RewardEnsemble, features: Iterable[Array]) -> Array:
    """Return the predicted sum of rewards and the summary of each segment, (S, 1 + F).

    Args:
        ensemble: The reward model.
        features: Features of S segments, read a few at a time.
    """
    remaining, rows = iter(features), [np.zeros((0, input_width(ensemble.inputs, 1)))]
    while few := list(islice(remaining, _AT_ONCE)):
        steps = ensemble.inputs.steps(torch.from_numpy(np.stack(few)))
        rewards = ensemble.reward(steps.flatten(0, 1)).reshape(steps.shape[:2])
        sums = rewards.sum(dim=1, dtype=torch.float64).cpu().numpy()
        seen = [each[:, :-1] for each in few] if ensemble.inputs.reads_actions else few
        rows.append(np.column_stack([sums, np.stack([summary(each) for each in seen])]))
    return np.concatenate(rows)


def fit_to_answers(
    answers: Iterable[GivenAnswer], features: Callable[[int], Array], ensemble: RewardEnsemble, seed: int
) -> Answerable | None:
    """Fit a model to answers of one feedback kind. Those with an unreadable clip are left out.

    Args:
        answers: The answers.
        features: Returns the features of a segment by its id; may raise PrefrlError.
        ensemble: The reward model.
        seed: Seed of the initial weights.

    Returns:
        None if all queries were told.
    """
    given = list(answers)
    untold = np.array([not answer.told for answer in given], bool)
    if not untold.any():
        return None
    if not can_fit(untold):
        return Answerable(rate_of(untold), {})
    place: dict[int, int] = {}

    def readable() -> Iterator[Array]:
        for segment in sorted({segment for answer in given for segment in answer.segments}):
            with contextlib.suppress(PrefrlError):
                found = features(segment)
                place[segment] = len(place)
                yield found

    segments = segment_inputs(ensemble, readable())
    given = [answer for answer in given if place.keys() >= set(answer.segments)]
    untold = np.array([not answer.told for answer in given], bool)
    if not can_fit(untold):
        return Answerable(rate_of(untold), {})
    queries = np.array([[place[segment] for segment in answer.segments] for answer in given])
    inputs = query_inputs(segments, queries)
    return fit(inputs, untold, input_prior(inputs.shape[1], queries.shape[1]), seed)
