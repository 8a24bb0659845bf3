"""Fit reward models to growing numbers of labels, and judge them by the same held-out labels."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from prefrl.feedback.kinds import FeedbackKind, kinds_of
from prefrl.feedback.terms import Label
from prefrl.reward.dataset import target_rows
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.refit import LabelledClips, Report, fitted_learner, judged
from prefrl_benchmarks.measure.anatomy.request import AnatomyRequest, Variant


@dataclass(frozen=True)
class Fit:
    """How well a fitted reward model predicts the held-out labels that are decided, i.e. no ties."""

    variant: str
    labels: int
    """Labels that were fitted, ties included."""
    seed: int
    tie_share: float
    """Share of ties among the fitted labels."""
    comparisons: int
    """Comparisons that each member fitted, counting repeated passes."""
    accuracy: float
    member_accuracies: tuple[float, ...]
    """The accuracy of each member alone."""
    unseen: int
    """Held-out labels none of whose clips is in a fitted label. Pairs share clips, which makes the others easier."""
    unseen_accuracy: float | None
    """The accuracy on these alone; None if there are none."""
    log_loss: float
    """Mean loss of the members, by the feedback kind's likelihood."""
    cpu_seconds: float
    """Processor time of the fit, over all threads."""

    @property
    def member_accuracy(self) -> float:
        """Mean accuracy of the single members."""
        return float(np.mean(self.member_accuracies))


def decided(kind: FeedbackKind, labels: Sequence[Label]) -> list[Label]:
    """Return the labels that a prediction can agree with; of comparisons, those that are no ties."""
    length = max((len(label.target) for label in labels if isinstance(label.target, tuple)), default=1)
    nothing = np.zeros((len(labels), kind.arity, length), np.float32)
    told = np.isfinite(kind.correct(nothing, target_rows(labels, length)))
    return [label for label, counts in zip(labels, told, strict=True) if counts]


def unseen(labels: Sequence[Label], fitted: Sequence[Label]) -> list[Label]:
    """Return the labels none of whose segments occurs in a fitted label."""
    known = {segment for label in fitted for segment in label.segments}
    return [label for label in labels if known.isdisjoint(label.segments)]


def fit_all(
    request: AnatomyRequest, clips: LabelledClips, training: Sequence[Label], held_out: Sequence[Label], report: Report
) -> Iterator[tuple[Fit, RewardEnsemble]]:
    """Fit each variant with each number of labels and each seed, the cheapest first.

    Args:
        request: The variants, numbers of labels and seeds.
        clips: Reads the clips.
        training: The labels to fit, in order.
        held_out: The labels to judge by, without ties.
        report: Called with the progress.

    Yields:
        Each fit with its reward model.
    """
    for count in request.counts(len(training)):
        for variant in request.variants:
            for seed in range(request.seeds):
                yield fit_one(request, variant, seed, clips, training[:count], held_out, report)


def fit_one(
    request: AnatomyRequest,
    variant: Variant,
    seed: int,
    clips: LabelledClips,
    labels: Sequence[Label],
    held_out: Sequence[Label],
    report: Report,
) -> tuple[Fit, RewardEnsemble]:
    """Fit one reward model to labels; arguments as for `fit_all`."""
    config, kind = request.config(variant, seed), next(iter(kinds_of(request.run.config).values()))
    told = partial(_told, report, f"{variant.name}, {len(labels)} labels, seed {seed}")
    started = time.process_time()
    learner = fitted_learner(config, clips, labels, request.comparisons, told)
    seconds = time.process_time() - started
    found = judged(kind, learner.ensemble, held_out, clips.read, config.reward)
    strange = unseen(held_out, labels)
    apart = judged(kind, learner.ensemble, strange, clips.read, config.reward) if strange else None
    fit = Fit(
        variant=variant.name,
        labels=len(labels),
        seed=seed,
        tie_share=1 - len(decided(kind, labels)) / len(labels),
        comparisons=learner.trainer.fitted,
        accuracy=found.right / found.decided,
        member_accuracies=tuple(right / found.decided for right in found.members_right),
        unseen=len(strange),
        unseen_accuracy=apart.accuracy if apart else None,
        log_loss=found.loss,
        cpu_seconds=seconds,
    )
    return fit, learner.ensemble


def _told(report: Report, what: str, phase: str, done: int, wanted: int) -> None:
    report(f"{phase} {what}", done, wanted)
