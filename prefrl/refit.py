"""A reward model fitted anew to a run's labels, away from its training, and judged by labels that it has not seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prefrl.agents import choose_device
from prefrl.environments import reward_inputs
from prefrl.errors import PrefrlError, UsageError
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.figures import Figures, figures
from prefrl.reward.labels import Labels
from prefrl.reward.learner import ReadSegment, RewardLearner
from prefrl.run import RunDirectory
from prefrl.store import LabelStore
from prefrl.types import Comparison

MOST_COMPARISONS = 40_000
"""The most that is fitted unless more is asked for: two minutes for vectors."""


@dataclass(frozen=True)
class Refit:
    """What came of it."""

    root: Path
    weights: Path
    """The fitted model, as a run publishes its own."""
    fitted: int
    """Comparisons that each member fitted, the same ones again and again."""
    held_out: Figures
    training: Figures

    def lines(self) -> list[str]:
        """For a person."""
        seen, unseen = self.training, self.held_out
        related = "none" if unseen.correlation is None else f"{unseen.correlation:.3f}"
        return [
            f"{self.root}: {seen.decided + seen.ties} labels fitted ({self.fitted:,} comparisons), "
            f"{unseen.decided + unseen.ties} held out",
            f"held-out accuracy {_share(unseen)}; chance: 0.500",
            f"held-out log loss {unseen.log_loss:.3f} nats; chance: 0.693",
            f"correlation of predicted and true sums of the held-out clips: {related}",
            f"training accuracy {_share(seen)}, log loss {seen.log_loss:.3f} nats",
            f"weights: {self.weights}",
        ]


def _share(found: Figures) -> str:
    if found.accuracy is None:
        return "none: all are ties"
    ties = f", {found.ties} ties left out" if found.ties else ""
    return f"{found.accuracy:.3f} ({found.right} of {found.decided}{ties})"


def refit(
    root: Path, *, holdout: float = 0.2, seed: int = 0, comparisons: int | None = None, out: Path | None = None
) -> Refit:
    """Fit a new reward model to a share of a run's standing labels, and judge it by the rest.

    Args:
        root: The run directory; the run may be at work meanwhile.
        holdout: The share that is held out.
        seed: Of the share, and of the fit.
        comparisons: Gradient work; default: as much as the run has done, at most `MOST_COMPARISONS`.
        out: A new file for the weights; default: `reward_model/fitted.safetensors` in the run, which is replaced.

    Raises:
        UsageError: for a folder that is no run or learns no reward, and for arguments that cannot be used.
        PrefrlError: if there are too few labels, or the run's files are damaged.
    """
    run = RunDirectory.open(root)
    config = run.config
    weights = _check_arguments(run, holdout, seed, comparisons, out)
    if not run.labels.exists() and not run.begun:
        raise PrefrlError(f"{root} has no labels yet")
    store = LabelStore(run.labels)
    source = Labels(run, store)
    labels, read = list(source.comparisons()), source.read
    store.close()
    training, held_out = split(labels, holdout, seed)
    if not training or not held_out:
        raise PrefrlError(f"{root} has {len(labels)} labels: too few to hold out a share of {holdout:g}")
    # Away from a training nothing makes room for newer labels: all of them are fitted.
    reward = dataclasses.replace(config.reward, buffer=max(len(training), config.reward.batch_size))
    device = choose_device(config.device)
    learner = RewardLearner(reward, reward_inputs(config), config.queries.segment_length, seed, device)
    learner.add(training, read)
    learner.train(_work(run) if comparisons is None else comparisons)
    learner.publish(weights)
    seen, unseen = (judged(learner.ensemble, part, read, reward.error) for part in (training, held_out))
    return Refit(root, weights, learner.fitted, unseen, seen)


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
    step = run.read_progress().get("step", run.config.steps)
    reward = run.config.reward
    return min(MOST_COMPARISONS, int(reward.pretrain_comparisons + reward.comparisons_per_step * step))


def split(labels: Sequence[Comparison], holdout: float, seed: int) -> tuple[list[Comparison], list[Comparison]]:
    """Labels to train on, and a random share to judge by; those about the same pair are on the same side."""
    pairs = sorted({_pair(label) for label in labels})
    chosen = np.random.default_rng(seed).permutation(len(pairs))[: round(holdout * len(pairs))]
    held_out = {pairs[index] for index in chosen}
    parts: tuple[list[Comparison], list[Comparison]] = ([], [])
    for label in labels:
        parts[_pair(label) in held_out].append(label)
    return parts


def _pair(label: Comparison) -> tuple[int, int]:
    return min(label.left, label.right), max(label.left, label.right)


def judged(ensemble: RewardEnsemble, labels: Sequence[Comparison], read: ReadSegment, error: float) -> Figures:
    """How well a fitted ensemble predicts labels."""
    sides = np.array([(label.left, label.right) for label in labels])
    segments, places = np.unique(sides, return_inverse=True)
    members, averaged, true = [], [], []
    for segment in segments.tolist():
        features, true_rewards = read(segment)
        outputs = ensemble.predict(ensemble.inputs.steps(torch.from_numpy(features)))
        members.append(outputs.sum(dim=1).cpu())
        averaged.append(float(ensemble.combine(outputs).sum()))
        true.append(float(true_rewards.sum()))
    return figures(
        torch.stack(members, dim=1),
        np.array(averaged, np.float32),
        np.array(true, np.float32),
        places.reshape(sides.shape),
        np.array([label.mu for label in labels]),
        error,
    )
