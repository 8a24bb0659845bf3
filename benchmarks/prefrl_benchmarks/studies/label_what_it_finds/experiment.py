"""Go on with each run of the suite in two ways: with labels on what a fresh agent finds, and with normal queries."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from prefrl.api import resume
from prefrl.arrays import Array, Floats
from prefrl.feedback.terms import Label
from prefrl.probing.probe import probe
from prefrl.probing.queueing import queue_clips
from prefrl.probing.request import probe_request
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.published import load_published
from prefrl.reward.refit import LabelledClips, labelled_clips
from prefrl.runs.directory import RunDirectory, read_summary
from prefrl.storage.files import read_json, write_json
from prefrl_benchmarks.studies.study import Row, find_study

ARMS = ("found", "usual")
Sum = Callable[[Array], float]
"""Predicted sum of rewards of a segment's features."""


def measure_runs(settings: dict[str, Any], folder: Path) -> list[Row]:
    """Return a row for each run, arm and round: its labels, failures and new kinds of them, and the return after it."""
    suite = find_study("label-what-it-finds").suite
    assert suite
    return [
        {"task": cell.task, "seed": cell.seed, "arm": arm, **row}
        for cell in suite.cells()
        if cell.variant == "start"
        for arm in ARMS
        for row in _arm(folder / cell.name, folder / "arms" / f"{cell.name}-{arm}", arm, settings)
    ]


def _arm(start: Path, work: Path, arm: str, settings: dict[str, Any]) -> list[Row]:
    """Return the rows of an arm; one that was interrupted begins anew."""
    done = work / "rows.json"
    if done.exists():
        return list(read_json(done))
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(start, work / "run")
    failures = Failures.of(labelled_clips(RunDirectory.open(work / "run")))
    rows = [_round(work, number, arm, settings, failures) for number in range(settings["rounds"])]
    write_json(done, rows)
    return rows


def _round(work: Path, number: int, arm: str, settings: dict[str, Any], failures: Failures) -> Row:
    run = RunDirectory.open(work / "run")
    predicted, known = _predictor(run), {label.id for label in labelled_clips(run).labels}
    if arm == "found":
        how = {"steps": settings["probe_steps"], "episodes": settings["episodes"], "clips": settings["labels"]}
        request = probe_request(run.root, kl="0", out=work / f"probe-{number}", **how)
        probe(request)
        queue_clips(request)
    wanted = run.config.queries.labels + settings["labels"]
    resume(run.root, labels=wanted, steps=run.config.steps + settings["steps"])
    clips = labelled_clips(RunDirectory.open(run.root))
    new = [label for label in clips.labels if label.id not in known]
    wrong, kinds = failures.add(new, clips, predicted)
    reached = read_summary(run.root)["evaluation_return_mean"]
    return {"round": number, "labels": len(new), "failures": wrong, "kinds": kinds, "return": reached}


def _predictor(run: RunDirectory) -> Sum:
    """Return the predicted sum of rewards by a run's reward model as it is now."""
    ensemble = RewardEnsemble(run.config.reward, labelled_clips(run).inputs)
    load_published(run.weights, ensemble)
    return lambda features: float(ensemble.reward(ensemble.inputs.steps(torch.from_numpy(features))).sum())


@dataclass
class Failures:
    """The failures of a reward model so far, by the clips that it overrates."""

    deviation: Floats
    """(D,) standard deviation of the labelled clips' means at the start."""
    radius: float
    """Distance from which a failure is of a new kind."""
    seen: list[Floats] = field(default_factory=list)
    """(D,) each: the overrated clips of the failures so far."""

    @classmethod
    def of(cls, clips: LabelledClips) -> Failures:
        """Measure the clips of the start."""
        segments = sorted({segment for label in clips.labels for segment in label.segments})
        means = np.stack([clip_mean(clips.read(segment)[0]) for segment in segments])
        deviation = np.maximum(means.std(axis=0), 1e-6)
        return cls(deviation, nearest_neighbour(means / deviation))

    def add(self, labels: Sequence[Label], clips: LabelledClips, predicted: Sum) -> tuple[int, int]:
        """Add the failures among new labels; return how many there are, and how many of a new kind."""
        wrong = kinds = 0
        for label in labels:
            features = [clips.read(segment)[0] for segment in label.segments]
            overrated = fails(label.target, [predicted(each) for each in features])
            if overrated is None:
                continue
            place = clip_mean(features[overrated]) / self.deviation
            new = all(np.linalg.norm(place - other) > self.radius for other in self.seen)
            wrong, kinds = wrong + 1, kinds + new
            self.seen.append(place)
        return wrong, kinds


def fails(target: Any, sums: Sequence[float]) -> int | None:
    """Return which of two clips is overrated; None if the prediction agrees with the label, or that is a tie."""
    if target == 0.5 or (sums[0] > sums[1]) == (target > 0.5):
        return None
    return int(target > 0.5)


def clip_mean(features: Array) -> Floats:
    """Return the mean of a clip's inputs over its steps, (L, D) to (D,)."""
    return np.asarray(features.reshape(len(features), -1).mean(axis=0, dtype=np.float64))


def nearest_neighbour(points: Floats) -> float:
    """Return the median distance of (N, D) points to their nearest other one."""
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    return float(np.median(apart.min(axis=1)))
