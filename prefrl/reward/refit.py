"""A reward model fitted anew to a run's labels, away from its training, and judged by labels that it has not seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from prefrl.experience.environments import reward_inputs
from prefrl.feedback.run_store import run_store
from prefrl.feedback.terms import Comparison
from prefrl.machine.devices import choose_device
from prefrl.reward.dataset import ReadSegment
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.fit_request import fit_request
from prefrl.reward.labels import Labels
from prefrl.reward.learner import RewardLearner
from prefrl.reward.metrics import RewardMetrics, reward_metrics

Report = Callable[[str, int, int], None]
"""phase, done and to be done, again and again"""


@dataclass(frozen=True)
class Refit:
    """What came of it."""

    root: Path
    weights: Path
    """The fitted model, as a run publishes its own."""
    fitted: int
    """Comparisons that each member fitted, the same ones again and again."""
    held_out: RewardMetrics
    training: RewardMetrics

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


def _share(found: RewardMetrics) -> str:
    if found.accuracy is None:
        return "none: all are ties"
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
    """Fit a new reward model to a share of a run's standing labels, and judge it by the rest.

    Args:
        root: The run directory; the run may be at work meanwhile.
        holdout: The share that is held out.
        seed: Of the share, and of the fit.
        comparisons: Gradient work; default: as much as the run has done, at most `MOST_COMPARISONS`.
        out: A new file for the weights; default: `reward_model/fitted.safetensors` in the run, which is replaced.
        report: Told how far it is.
        trust: Modules that a run which is not one's own may import to make its environment.

    Raises:
        UsageError: for a folder that is no run or learns no reward, and for arguments that cannot be used.
        PrefrlError: if there are too few labels, or the run's files are damaged.
    """
    request = fit_request(root, holdout=holdout, seed=seed, comparisons=comparisons, out=out)
    run, config = request.run.admit(trust), request.run.config
    with run_store(run) as store:
        source = Labels(run, store, reward_inputs(config))
        labels, read = list(source.comparisons()), source.read
    training, held_out = request.split(labels)
    # Away from a training nothing makes room for newer labels: all of them are fitted.
    reward = dataclasses.replace(config.reward, buffer=max(len(training), config.reward.batch_size))
    device = choose_device(config.device)
    learner = RewardLearner(reward, reward_inputs(config), config.queries.segment_length, seed, device)
    learner.add(training, read)
    _fit(learner, request.comparisons, report)
    learner.publish(request.weights)
    parts = []
    for name, part in (("held-out", held_out), ("training", training)):
        report(f"judging by {len(part)} {name} labels", 0, 0)
        parts.append(judged(learner.ensemble, part, read, reward.error))
    return Refit(root, request.weights, learner.trainer.fitted, *parts)


def _fit(learner: RewardLearner, comparisons: int, report: Report) -> None:
    """Take all gradient steps, a chunk at a time."""
    batch = learner.config.batch_size
    left = wanted = max(1, comparisons // batch) * batch
    while left:
        report("fitting", wanted - left, wanted)
        learner.train(chunk := min(left, learner.chunk))
        left -= chunk


def judged(ensemble: RewardEnsemble, labels: Sequence[Comparison], read: ReadSegment, error: float) -> RewardMetrics:
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
    return reward_metrics(
        torch.stack(members, dim=1),
        np.array(averaged, np.float32),
        np.array(true, np.float32),
        places.reshape(sides.shape),
        np.array([label.mu for label in labels]),
        error,
    )
