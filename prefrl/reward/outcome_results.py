"""How good predicted outcomes are: risk against coverage and calibration, as files and a figure."""

from __future__ import annotations

import csv
import dataclasses
import importlib.util
import io
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from prefrl.arrays import Array
from prefrl.feedback.outcomes import (
    CANNOT_TELL,
    OUTCOMES,
    Curve,
    Reliability,
    log_loss,
    of_the_most_likely,
    reliability,
    risk_coverage,
)
from prefrl.feedback.terms import GivenAnswer
from prefrl.storage.files import write_atomically, write_json

COVERAGES = (0.5, 0.8, 1.0)
"""Coverages at which the accuracy is reported."""
_SMALLEST = 1e-12
"""Smallest probability by which one divides."""


def outcome_of(answer: GivenAnswer) -> str:
    """Return the outcome of a comparison: a name of `OUTCOMES`, or `equal`."""
    return {1.0: "left", 0.0: "right", 0.5: "equal", None: OUTCOMES[CANNOT_TELL]}[answer.target]  # type: ignore[index]


@dataclass(frozen=True)
class Prediction:
    """The predicted outcome of a comparison that was held out."""

    answer: int
    """The answer's id."""
    fold: int
    outcome: str
    """The answer; see `outcome_of`."""
    left: float
    """Probability of the outcome; so are the next two."""
    right: float
    incomparable: float


@dataclass(frozen=True)
class OutcomeResults:
    """The predicted outcomes of a run's comparisons, as in `outcomes.json` and `outcomes.csv`."""

    run: str
    task: str
    folds: int
    seed: int
    comparisons: int
    """Comparisons that each member fitted, for each fold."""
    predictions: list[Prediction]

    @property
    def answers(self) -> dict[str, int]:
        """Number of answers by outcome."""
        count = Counter(each.outcome for each in self.predictions)
        return {name: count[name] for name in ("left", "right", "equal", "incomparable")}

    @cached_property
    def _decided(self) -> tuple[Array, Array]:
        """Predictions, (N, 3), and the indices of the outcomes, (N,). Ties are left out: they are none of the three."""
        decided = [each for each in self.predictions if each.outcome in OUTCOMES]
        probabilities = np.array([(each.left, each.right, each.incomparable) for each in decided])
        return probabilities, np.array([OUTCOMES.index(each.outcome) for each in decided])

    @property
    def curve(self) -> Curve:
        """Risk against coverage if the model answers the queries whose likelier side is most probable.

        An answer is wrong if the labeller preferred the other side or could not tell.
        """
        probabilities, outcomes = self._decided
        sides = probabilities[:, :CANNOT_TELL]
        return risk_coverage(sides.max(axis=1), sides.argmax(axis=1) != outcomes)

    @property
    def curve_of_sides(self) -> Curve:
        """The same if the probability of can't tell is ignored."""
        probabilities, outcomes = self._decided
        sides = probabilities[:, :CANNOT_TELL]
        told = np.maximum(sides.sum(axis=1), _SMALLEST)
        return risk_coverage(sides.max(axis=1) / told, sides.argmax(axis=1) != outcomes)

    @property
    def calibration(self) -> Reliability:
        """Calibration of the most likely of the three outcomes; ties are left out."""
        return reliability(*of_the_most_likely(*self._decided))

    @property
    def calibration_of_untold(self) -> Reliability:
        """Calibration of the probability of can't tell; a tie was told."""
        return reliability(*self._untold)

    @property
    def _untold(self) -> tuple[Array, Array]:
        predicted = np.array([each.incomparable for each in self.predictions])
        return predicted, np.array([each.outcome == OUTCOMES[CANNOT_TELL] for each in self.predictions])

    def to_json(self) -> dict[str, Any]:
        """Return the content of `outcomes.json`."""
        predicted, true = self._untold
        about = {name: getattr(self, name) for name in ("run", "task", "folds", "seed", "comparisons", "answers")}
        return about | {
            "with_incomparable": _described(self.curve),
            "sides_alone": _described(self.curve_of_sides),
            "calibration_error": self.calibration.error,
            "calibration_error_incomparable": self.calibration_of_untold.error,
            "log_loss_incomparable": log_loss(predicted, true),
            "log_loss_incomparable_rate": log_loss(np.full(len(true), true.mean()), true),
        }

    def write(self, folder: Path) -> list[Path]:
        """Write `outcomes.json`, `outcomes.csv` and, if matplotlib is installed, `outcomes.png`; return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / "outcomes.json", folder / "outcomes.csv"]
        write_json(paths[0], self.to_json())
        write_atomically(paths[1], self._table().encode())
        if importlib.util.find_spec("matplotlib"):
            paths.append(folder / "outcomes.png")
            write_atomically(paths[2], figure(self))
        return paths

    def _table(self) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, [each.name for each in dataclasses.fields(Prediction)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(dataclasses.asdict(each) for each in self.predictions)
        return text.getvalue()

    def lines(self) -> list[str]:
        """Describe the results in lines for the user."""
        counts = ", ".join(f"{count} {_NAMES[name]}" for name, count in self.answers.items())
        predicted, true = self._untold
        shares = ", ".join(f"{share:.0%}" for share in COVERAGES)
        lines = [
            f"{self.run}: {len(self.predictions)} answers ({counts}), predicted in {self.folds} folds",
            f"accuracy at a coverage of {shares}, and area under the risk:",
        ]
        for name, curve in (("with can't tell", self.curve), ("sides alone", self.curve_of_sides)):
            accuracies = ", ".join(f"{curve.accuracy(share):.3f}" for share in COVERAGES)
            lines.append(f"  {name:<16} {accuracies}; {curve.area:.3f}")
        return [
            *lines,
            f"calibration error: {self.calibration.error:.3f}; of can't tell: {self.calibration_of_untold.error:.3f}",
            f"log loss of can't tell: {log_loss(predicted, true) + 0.0:.3f} nats; "
            f"of its rate: {log_loss(np.full(len(true), true.mean()), true):.3f}",
        ]


_NAMES = {"left": "left", "right": "right", "equal": "equal", "incomparable": "can't tell"}


def _described(curve: Curve) -> dict[str, Any]:
    accuracy = {f"{share:g}": curve.accuracy(share) for share in COVERAGES}
    return {
        "accuracy_at_coverage": accuracy,
        "area_under_risk": curve.area,
        "coverage": curve.coverage.tolist(),
        "risk": curve.risk.tolist(),
    }


def figure(results: OutcomeResults) -> bytes:
    """Draw risk against coverage, and the calibration: a PNG image."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - optional

    drawn = Figure(figsize=(9, 4.5), layout="constrained")
    risks, calibrated = drawn.subplots(1, 2)
    for name, curve in (("with can't tell", results.curve), ("sides alone", results.curve_of_sides)):
        risks.plot(curve.coverage, curve.risk, label=f"{name}: area {curve.area:.3f}")
    risks.set(xlabel="coverage: share of queries answered", ylabel="risk: share of wrong answers", xlim=(0, 1))
    risks.set_ylim(bottom=0)
    for name, found in (
        ("most likely outcome", results.calibration),
        ("can't tell", results.calibration_of_untold),
    ):
        filled = found.number > 0
        sizes = 10 + 300 * found.number[filled] / found.number.sum()
        label = f"{name}: error {found.error:.3f}"
        calibrated.scatter(found.predicted[filled], found.true[filled], sizes, alpha=0.7, label=label)
    calibrated.plot([0, 1], [0, 1], color="grey", linestyle=":")
    calibrated.set(xlabel="predicted probability (size: number of predictions)", ylabel="share that came true")
    for axes in (risks, calibrated):
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False, fontsize="small")
    answers = results.answers
    drawn.suptitle(f"{results.task}: {sum(answers.values())} answers, {answers['incomparable']} of them can't tell")
    content = io.BytesIO()
    drawn.savefig(content, format="png", dpi=150)
    return content.getvalue()
