"""The arguments of `prefrl reward fit`, which are checked before slow imports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefrl.errors import PrefrlError, UsageError
from prefrl.feedback.run_store import run_store
from prefrl.feedback.terms import Label
from prefrl.runs.directory import RunDirectory
from prefrl.seeding import stream

MOST_COMPARISONS = 40_000
"""Default limit on the comparisons that are fitted: two minutes for vectors."""


@dataclass(frozen=True)
class FitRequest:
    """A reward model to fit to a part of a run's labels."""

    run: RunDirectory
    holdout: float
    """Fraction of the labels that is held out."""
    seed: int
    comparisons: int
    """Comparisons that each member fits."""
    weights: Path
    """File for the weights."""
    labels: int
    """Number of standing labels, including those with damaged clips."""

    def split(self, labels: Sequence[Label]) -> tuple[list[Label], list[Label]]:
        """Split labels into a training set and a held-out set.

        Raises:
            PrefrlError: if there are too few labels for both.
        """
        training, held_out = split(labels, self.holdout, self.seed)
        if not training or not held_out:
            count, share = len(labels), self.holdout
            raise PrefrlError(f"{self.run.root} has {count} labels: too few to hold out a share of {share:g}")
        return training, held_out


def fit_request(
    root: Path, *, holdout: float = 0.2, seed: int = 0, comparisons: int | None = None, out: Path | None = None
) -> FitRequest:
    """Check the arguments. For arguments and errors, see `prefrl.reward.refit.refit`."""
    run = RunDirectory.open(root)
    weights = _check_arguments(run, holdout, seed, comparisons, out)
    if not run.labels.exists() and not run.begun:
        raise PrefrlError(f"{root} has no labels yet")
    with run_store(run) as store:
        labels = store.labels(*run.config.shares)
    request = FitRequest(run, holdout, seed, comparisons or default_comparisons(run, len(labels)), weights, len(labels))
    request.split(labels)
    return request


def split(labels: Sequence[Label], holdout: float, seed: int) -> tuple[list[Label], list[Label]]:
    """Split labels at random into a training set and a held-out set. Labels about the same segments stay together.

    Args:
        labels: The labels.
        holdout: Fraction of these sets of segments that is held out.
        seed: Seed of the split.
    """
    asked = sorted({_asked(label) for label in labels})
    chosen = stream(seed, "holdout").permutation(len(asked))[: round(holdout * len(asked))]
    held_out = {asked[index] for index in chosen}
    parts: tuple[list[Label], list[Label]] = ([], [])
    for label in labels:
        parts[_asked(label) in held_out].append(label)
    return parts


def _asked(label: Label) -> tuple[int, ...]:
    return tuple(sorted(label.segments))


def _check_arguments(run: RunDirectory, holdout: float, seed: int, comparisons: int | None, out: Path | None) -> Path:
    """Check the arguments, and return the file for the weights."""
    if not run.config.takes_labels:
        raise UsageError(f"{run.root} {run.config.unrewarded}")
    if not 0 < holdout < 1:
        raise UsageError("--holdout must be between 0 and 1")
    if not 0 <= seed < 2**32:
        raise UsageError("--seed must be in [0, 2^32)")
    if comparisons is not None and comparisons < 1:
        raise UsageError("--comparisons must be at least 1")
    if out is None:
        return run.weights.with_name("fitted.safetensors")
    if out.exists() or not out.parent.is_dir():
        raise UsageError(f"{out} {'exists already' if out.exists() else 'is not in a folder'}; choose another --out")
    return out


def default_comparisons(run: RunDirectory, labels: int) -> int:
    """Return the number of comparisons that the run has fitted so far, or that a session on all labels fits at most."""
    progress = run.read_progress()
    step = progress.step if progress else run.config.steps
    reward = run.config.reward
    if passes := reward.session_passes(labels):
        return min(MOST_COMPARISONS, passes * labels)
    return min(MOST_COMPARISONS, int(reward.pretrain_comparisons + reward.comparisons_per_step * step))
