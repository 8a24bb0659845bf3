"""What `prefrl reward fit` is asked to do, checked before anything slow is imported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from prefrl.errors import PrefrlError, UsageError
from prefrl.feedback.run_store import run_store
from prefrl.feedback.terms import Comparison
from prefrl.runs.directory import RunDirectory
from prefrl.seeding import stream

MOST_COMPARISONS = 40_000
"""The most that is fitted unless more is asked for: two minutes for vectors."""


@dataclass(frozen=True)
class FitRequest:
    """A reward model to be fitted to a share of a run's labels."""

    run: RunDirectory
    holdout: float
    """The share that is held out."""
    seed: int
    comparisons: int
    """Gradient work."""
    weights: Path
    """Where the model is to go."""
    labels: int
    """Labels that stand, those included whose clips turn out to be damaged."""

    def split(self, labels: Sequence[Comparison]) -> tuple[list[Comparison], list[Comparison]]:
        """Labels to train on, and those to judge by.

        Raises:
            PrefrlError: if there are too few for both.
        """
        training, held_out = split(labels, self.holdout, self.seed)
        if not training or not held_out:
            count, share = len(labels), self.holdout
            raise PrefrlError(f"{self.run.root} has {count} labels: too few to hold out a share of {share:g}")
        return training, held_out


def fit_request(
    root: Path, *, holdout: float = 0.2, seed: int = 0, comparisons: int | None = None, out: Path | None = None
) -> FitRequest:
    """Check the arguments of `prefrl.reward.refit.refit`, which has them and its errors in its docstring."""
    run = RunDirectory.open(root)
    weights = _check_arguments(run, holdout, seed, comparisons, out)
    if not run.labels.exists() and not run.begun:
        raise PrefrlError(f"{root} has no labels yet")
    with run_store(run) as store:
        labels = store.comparisons()
    request = FitRequest(run, holdout, seed, comparisons or _work(run), weights, len(labels))
    request.split(labels)
    return request


def split(labels: Sequence[Comparison], holdout: float, seed: int) -> tuple[list[Comparison], list[Comparison]]:
    """Labels to train on, and a random share to judge by; those about the same pair are on the same side."""
    pairs = sorted({_pair(label) for label in labels})
    chosen = stream(seed, "holdout").permutation(len(pairs))[: round(holdout * len(pairs))]
    held_out = {pairs[index] for index in chosen}
    parts: tuple[list[Comparison], list[Comparison]] = ([], [])
    for label in labels:
        parts[_pair(label) in held_out].append(label)
    return parts


def _pair(label: Comparison) -> tuple[int, int]:
    return min(label.left, label.right), max(label.left, label.right)


def _check_arguments(run: RunDirectory, holdout: float, seed: int, comparisons: int | None, out: Path | None) -> Path:
    """Where the weights are to go."""
    if not run.config.learns_reward:
        raise UsageError(f"{run.root} trains on the true reward: there is no learned one")
    if not 0 < holdout < 1:
        raise UsageError("--holdout must be between 0 and 1")
    if not 0 <= seed < 2**32:
        raise UsageError("--seed must be in [0, 2^32)")
    if comparisons is not None and comparisons < 1:
        raise UsageError("--comparisons must be at least 1")
    if out is None:
        return run.weights.with_name("fitted.safetensors")
    if out.exists() or not out.parent.is_dir():
        raise UsageError(f"{out} {'is there already' if out.exists() else 'is in no folder'}; choose another --out")
    return out


def _work(run: RunDirectory) -> int:
    """Comparisons that the run has fitted by the step that it has come to."""
    progress = run.read_progress()
    step = progress.step if progress else run.config.steps
    reward = run.config.reward
    return min(MOST_COMPARISONS, int(reward.pretrain_comparisons + reward.comparisons_per_step * step))
