"""Fit a new reward model to a run's labels after training, and evaluate it on held-out labels."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from prefrl.arrays import Array, Floats
from prefrl.config import RewardConfig, RunConfig
from prefrl.errors import PrefrlError
from prefrl.experience.environments import reward_inputs
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds import FeedbackKind, kinds_of
from prefrl.feedback.run_store import run_store
from prefrl.feedback.terms import GivenAnswer, Label
from prefrl.machine.devices import choose_device
from prefrl.registry import LOSSES, LossKind
from prefrl.reward.batch import Batch
from prefrl.reward.dataset import ReadSegment, target_rows
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.fit_request import fit_request
from prefrl.reward.judging import described, learned_answerable
from prefrl.reward.label_reader import LabelReader
from prefrl.reward.learner import RewardLearner
from prefrl.reward.loss import Loss
from prefrl.reward.metrics import RewardMetrics, reward_metrics
from prefrl.reward.segment_table import SegmentTable
from prefrl.runs.directory import RunDirectory

Report = Callable[[str, int, int], None]
"""Called repeatedly with the phase, the work done and the total work."""


@dataclass(frozen=True)
class KindFit:
    """How well the model predicts the labels of one feedback kind."""

    kind: str
    likelihood: LossKind
    """The default loss of the kind."""
    held_out: RewardMetrics
    training: RewardMetrics

    def lines(self) -> list[str]:
        """Describe the predictions in lines of text."""
        seen, unseen = self.training, self.held_out
        related = "none" if unseen.correlation is None else f"{unseen.correlation:.3f}"
        chances = ("; chance: 0.500", "; chance: 0.693") if self.likelihood.log_loss else ("", "")
        name, unit = ("log loss", " nats") if self.likelihood.log_loss else ("loss", "")
        return [
            f"held-out accuracy {_share(unseen)}{chances[0]}",
            f"held-out {name} {unseen.loss:.3f}{unit}{chances[1]}",
            f"correlation of predicted and true sums of the held-out clips: {related}",
            f"training accuracy {_share(seen)}, {name} {seen.loss:.3f}{unit}",
        ]


@dataclass(frozen=True)
class Refit:
    """The result of a fit."""

    root: Path
    weights: Path
    """File of the fitted model, in the format of a run's published weights."""
    fitted: int
    """Labels that each member fitted, counting repeated passes."""
    kinds: tuple[KindFit, ...]
    """The predictions of each feedback kind that has labels in both parts."""

    @property
    def held_out(self) -> RewardMetrics:
        """The predictions of held-out labels of the run's first feedback kind."""
        return self.kinds[0].held_out

    @property
    def training(self) -> RewardMetrics:
        """The predictions of fitted labels of the run's first feedback kind."""
        return self.kinds[0].training

    def lines(self) -> list[str]:
        """Describe the result in lines of text."""
        seen, unseen = sum(k.training.labels for k in self.kinds), sum(k.held_out.labels for k in self.kinds)
        lines = [f"{self.root}: {seen} labels fitted ({self.fitted:,} comparisons), {unseen} held out"]
        for each in self.kinds:
            lines += ([f"{each.kind}: {each.held_out.labels} held out"] if len(self.kinds) > 1 else []) + each.lines()
        return [*lines, f"weights: {self.weights}"]


def _share(found: RewardMetrics) -> str:
    if found.accuracy is None:
        return "none: no label is decided"
    ties = f", {found.ties} ties left out" if found.ties else ""
    return f"{found.accuracy:.3f} ({found.right} of {found.decided}{ties})"


def refit(
    root: Path,
    *,
    holdout: float = 0.2,
    seed: int = 0,
    comparisons: int | None = None,
    out: Path | None = None,
    report: Report = lambda phase, done, wanted: None,
    trust: Sequence[str] = (),
) -> Refit:
    """Fit a new reward model to a part of a run's standing labels, and evaluate it on the rest.

    Args:
        root: The run directory; the run may be training.
        holdout: Fraction of the labels that is held out.
        seed: Seed of the split and of the fit.
        comparisons: Comparisons that each member fits (default: as many as in the run, at most `MOST_COMPARISONS`).
        out: New file for the weights (default: `reward_model/fitted.safetensors` in the run, which is replaced).
        report: Called with the progress.
        trust: Modules that a run of someone else's may import to create its environment.

    Raises:
        UsageError: if the folder is not a run, the run learns no reward, or an argument is invalid.
        PrefrlError: if there are too few labels, or the run's files are damaged.
    """
    request = fit_request(root, holdout=holdout, seed=seed, comparisons=comparisons, out=out)
    run, config = request.run.admit(trust), dataclasses.replace(request.run.config, seed=seed)
    clips = labelled_clips(run)
    training, held_out = request.split(clips.labels)
    learner = fitted_learner(config, clips, training, request.comparisons, report)
    left_out = {label.id for label in held_out}
    given = [answer for answer in clips.given if answer.id not in left_out]
    answerable = learned_answerable(config, given, clips.read, learner.ensemble)
    learner.publish(request.weights, described(config, answerable))
    kinds = []
    for name, kind in kinds_of(config).items():
        parts = {"held-out": held_out, "training": training}
        own = {which: [label for label in part if label.kind == name] for which, part in parts.items()}
        if all(own.values()):
            found = []
            for which, part in own.items():
                report(f"judging by {len(part)} {which} labels", 0, 0)
                found.append(judged(kind, learner.ensemble, part, clips.read, config.reward))
            kinds.append(KindFit(name, LOSSES[kind.likelihood], *found))
    if not kinds:
        raise PrefrlError(f"{root} has too few labels of each kind to hold out a share of {holdout:g}")
    return Refit(root, request.weights, learner.trainer.fitted, tuple(kinds))


class LabelledClips(NamedTuple):
    """A run's usable labels, and how to read their clips."""

    labels: list[Label]
    """The standing labels, in order."""
    given: list[GivenAnswer]
    """The standing answers, including "can't tell", in order."""
    read: ReadSegment
    inputs: Inputs


def labelled_clips(run: RunDirectory) -> LabelledClips:
    """Read the labels of an admitted run. Labels with damaged clips are left out with a warning."""
    inputs = reward_inputs(run.config)
    with run_store(run) as store:
        source = LabelReader(run, store, inputs)
        labels = list(source.standing())
        return LabelledClips(labels, source.given({label.id for label in labels}), source.read, inputs)


def fitted_learner(
    config: RunConfig, clips: LabelledClips, training: Sequence[Label], comparisons: int, report: Report
) -> RewardLearner:
    """Fit a new reward model to labels.

    Args:
        config: The settings of the reward model, and the seed of the fit.
        clips: Reads the clips.
        training: The labels to fit.
        comparisons: Comparisons that each member fits, in whole batches.
        report: Called with the progress.

    Raises:
        UsageError: if the network cannot read the observations.
    """
    # There are no newer labels to come, so the buffer is large enough for all labels.
    reward = dataclasses.replace(config.reward, buffer=max(len(training), config.reward.batch_size))
    fitted = dataclasses.replace(config, reward=reward)
    learner = RewardLearner.of_run(fitted, clips.inputs, choose_device(config.device))
    learner.add(training, clips.read)
    left = wanted = max(1, comparisons // reward.batch_size) * reward.batch_size
    while left:
        report("fitting", wanted - left, wanted)
        learner.train(chunk := min(left, learner.chunk))
        left -= chunk
    return learner


def judged(
    kind: FeedbackKind, ensemble: RewardEnsemble, labels: Sequence[Label], read: ReadSegment, config: RewardConfig
) -> RewardMetrics:
    """Compute metrics of a fitted ensemble's predictions on labels."""
    asked = np.array([label.segments for label in labels])
    segments, places = np.unique(asked, return_inverse=True)
    members, averaged, true = [], [], []
    for segment in segments.tolist():
        features, true_rewards = read(segment)
        outputs = ensemble.predict(ensemble.inputs.steps(torch.from_numpy(features)))
        members.append(outputs.cpu())
        averaged.append(ensemble.combine(outputs).cpu().numpy())
        true.append(true_rewards)
    batch = _whole_batch(labels, places.reshape(asked.shape), true, len(members[0]))
    sums = np.array([rewards.sum() for rewards in true], np.float32)
    return reward_metrics(
        kind, torch.stack(members, dim=1), np.stack(averaged), sums, batch, config, _likelihood(kind, ensemble)
    )


def _likelihood(kind: FeedbackKind, ensemble: RewardEnsemble) -> Loss | None:
    """Return the fitted likelihood of a kind, on the CPU; None if it has no parameters."""
    fitted = ensemble.likelihoods
    return copy.deepcopy(fitted[kind.likelihood]).cpu() if kind.likelihood in fitted else None


def _whole_batch(labels: Sequence[Label], slots: Array, true: Sequence[Floats], members: int) -> Batch:
    """Create a batch of all labels for each member, with the true rewards of the segments, but without features.

    Args:
        labels: B labels.
        slots: (B, A) indices of their segments.
        true: (L,) true rewards of each segment.
        members: K, the number of members.
    """
    table = SegmentTable(Inputs((0,)), len(true[0]), len(true), "cpu")
    for segment, rewards in enumerate(true):
        table.hold(segment, np.zeros((len(rewards), 0), np.float32), rewards)
    target = torch.from_numpy(target_rows(labels, len(true[0])))
    drawn = torch.ones(members, dtype=torch.bool)
    return Batch(table, torch.from_numpy(slots).expand(members, -1, -1), target.expand(members, *target.shape), drawn)
