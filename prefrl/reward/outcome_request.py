"""The arguments of `prefrl reward outcomes`, which are checked before slow imports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prefrl.arrays import Array
from prefrl.errors import UsageError
from prefrl.feedback.kinds.comparison import COMPARISON
from prefrl.feedback.label_changes import LabelChanges
from prefrl.feedback.run_store import run_store
from prefrl.feedback.terms import GivenAnswer
from prefrl.printable import printable
from prefrl.reward.fit_request import default_comparisons
from prefrl.runs.directory import RunDirectory
from prefrl.seeding import stream


@dataclass(frozen=True)
class OutcomeRequest:
    """A cross-validation of the predicted outcomes of a run's comparisons."""

    run: RunDirectory
    folds: int
    """Number of parts, each of which is predicted from the others."""
    seed: int
    """Seed of the folds and of the fits."""
    comparisons: int
    """Comparisons that each member fits, for each fold."""
    out: Path
    """Folder for the results."""
    answers: int
    """Number of answers, including those with damaged clips."""


def outcome_request(
    root: Path, *, folds: int = 5, seed: int = 0, comparisons: int | None = None, out: Path | None = None
) -> OutcomeRequest:
    """Check the arguments.

    Args:
        root: The run directory; the run may be training.
        folds: Number of parts of the answers.
        seed: Seed of the folds and of the fits.
        comparisons: Comparisons that each member fits, for each fold; None for as many as in the run.
        out: A new or empty folder for the results; None for the run's name with `-outcomes` added.

    Raises:
        UsageError: if an argument is invalid, or the run has not enough comparisons.
        PrefrlError: if the run's files are damaged.
    """
    run = RunDirectory.open(root)
    if not run.config.learns_reward:
        raise UsageError(f"{printable(root)} learns no reward: it predicts no outcomes")
    if COMPARISON not in run.config.shares:
        asked = " and ".join(run.config.shares)
        raise UsageError(f"{printable(root)} has the feedback {asked}: only outcomes of comparisons are predicted")
    if folds < 2:
        raise UsageError("--folds must be at least 2")
    if not 0 <= seed < 2**32:
        raise UsageError("--seed must be in [0, 2^32)")
    if comparisons is not None and comparisons < 1:
        raise UsageError("--comparisons must be at least 1")
    out = root.with_name(f"{root.resolve().name}-outcomes") if out is None else out.expanduser()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UsageError(f"{printable(out)} is in use: choose another --out")
    answers = _answers(run)
    split_folds(answers, folds, seed)
    wanted = comparisons or default_comparisons(run, sum(answer.told for answer in answers))
    return OutcomeRequest(run, folds, seed, wanted, out, len(answers))


def _answers(run: RunDirectory) -> list[GivenAnswer]:
    if not run.labels.exists():
        raise UsageError(f"{printable(run.root)} has no answers yet")
    with run_store(run) as store:
        return LabelChanges(store, COMPARISON).given()


def split_folds(answers: Sequence[GivenAnswer], folds: int, seed: int) -> Array:
    """Split answers at random into folds. Answers about the same segments stay together.

    Args:
        answers: N answers.
        folds: Number of folds.
        seed: Seed of the split.

    Returns:
        (N,) the fold of each answer.

    Raises:
        UsageError: if there are too few answers.
    """
    if not any(answer.target in (0.0, 1.0) for answer in answers):
        raise UsageError("there are no answers that prefer a side: there is nothing to predict")
    asked = sorted({tuple(sorted(answer.segments)) for answer in answers})
    if len(asked) < folds:
        raise UsageError(f"there are answers to {len(asked)} queries: too few for {folds} folds")
    order = stream(seed, "can't tell", 1).permutation(len(asked))
    fold = {asked[place]: index % folds for index, place in enumerate(order)}
    found = np.array([fold[tuple(sorted(answer.segments))] for answer in answers])
    told = np.array([answer.told for answer in answers])
    if any(not told[found != number].any() for number in range(folds)):
        raise UsageError(f"too few answers prefer a side for {folds} folds")
    return found
