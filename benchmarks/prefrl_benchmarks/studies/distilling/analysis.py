"""What students keep of their teachers' returns, and where the student of an abstaining teacher abstains."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes

from prefrl.arrays import Array
from prefrl_benchmarks.report.style import COLOURS, Draw, finish
from prefrl_benchmarks.studies.abstaining.experiment import threshold
from prefrl_benchmarks.studies.distilling.experiment import QUESTIONS
from prefrl_benchmarks.studies.study import Measured, Outcome, Row, judged
from prefrl_benchmarks.studies.trained import Trained, bars, spread

_ALL, _WITHOUT = "all", "without velocities"


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    trained = Trained(measured)
    kept = {
        (task, name): _kept(measured, task, name, trained.random[task])
        for task in trained.tasks
        for name in measured.settings["observe"][task]
    }
    whole = [bool(kept[task, _ALL].mean() >= 0.95) for task in trained.tasks]
    lost = [bool(kept[task, _WITHOUT].mean() < 0.9) for task in ("hopper", "cheetah")]
    apart = max(float(np.abs(np.subtract(*_both(measured, task))).max()) for task in QUESTIONS)
    said = "; ".join(f"{task}, {name}: {spread(values)}" for (task, name), values in kept.items())
    findings = (
        "Returns of students over their teachers', both above a random policy's: "
        f"{said}. The student of the abstaining teacher abstains with the teacher's probability, at most {apart:.2f} "
        f"from it, both where it knows nothing itself and where it knows all. It answers most questions of which its "
        f"teacher is right with a probability above {threshold(measured.settings['cost']):g}, and so invents where it "
        "knows nothing."
    )
    panels: list[Draw] = [
        *(
            bars(
                task,
                "share of the teacher's return",
                {name: kept[task, name] for each, name in kept if each == task},
                1.0,
            )
            for task in trained.tasks
        ),
        partial(_draw, measured=measured),
    ]
    return Outcome(judged(*whole, *lost, apart < 0.05), findings, _table(measured, kept), panels)


def _kept(measured: Measured, task: str, observed: str, random: float) -> Array:
    rows = [row for row in measured.rows if (row["task"], row["observed"]) == (task, observed)]
    teacher, student = (np.array([float(row[who]) for row in rows]) for who in ("teacher", "student"))
    return np.asarray((student - random) / (teacher - random))


def _both(measured: Measured, task: str) -> tuple[Array, Array]:
    """Return the teacher's and the student's probabilities of abstaining, means over the seeds: (levels,) each."""
    seeds = {row["seed"] for row in measured.rows if row["task"] == task}
    means = [
        np.array([float(row[who]) for row in measured.rows if row["task"] == task]).reshape(len(seeds), -1).mean(axis=0)
        for who in ("teacher", "student")
    ]
    return means[0], means[1]


def _table(measured: Measured, kept: dict[tuple[str, str], Array]) -> list[Row]:
    return [
        {
            "task": task,
            "the student observes": name,
            "share of the teacher's return": spread(values),
            "returns of teacher and student by seed": "; ".join(
                f"{float(row['teacher']):,.0f}, {float(row['student']):,.0f}"
                for row in measured.rows
                if (row["task"], row["observed"]) == (task, name)
            ),
        }
        for (task, name), values in kept.items()
    ]


def _draw(axes: Axes, measured: Measured) -> None:
    for colour, task in zip(COLOURS, QUESTIONS, strict=False):
        levels = sorted({float(row["observed"]) for row in measured.rows if row["task"] == task})
        teacher, student = _both(measured, task)
        axes.plot(levels, student, "o-", color=colour, label=task.removeprefix("questions, "), alpha=0.7)
    axes.plot(levels, teacher, color="black", linewidth=1, label="the teacher")
    axes.axvline(threshold(measured.settings["cost"]), color="black", linestyle="--", linewidth=1)
    finish(axes, "Copying a teacher who abstains", "P(abstains)", "the teacher's P(right)")
