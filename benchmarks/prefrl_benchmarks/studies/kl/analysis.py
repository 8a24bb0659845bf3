"""The divergence that was reached, against the one that was asked for, and what an infinite penalty keeps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib.axes import Axes

from prefrl_benchmarks.report.style import COLOURS, Draw, finish
from prefrl_benchmarks.studies.study import Measured, Outcome, Row, judged
from prefrl_benchmarks.studies.trained import Trained, column, score_rows, spread

VARIANTS = ("reference", "free", "near", "far", "infinite")
_KL = "kl_to_reference"


def analyse(measured: Measured) -> Outcome:
    """Judge the claim; see `prefrl_benchmarks.studies.study`."""
    trained, targets = Trained(measured, baseline="reference"), measured.settings["targets"]
    held, same, said = [], [], []
    for task in trained.tasks:
        for name, target in targets.items():
            reached = trained.late(task, name, _KL)
            held.append(bool(abs(reached.mean() / target - 1) <= measured.settings["tolerance"]))
            said.append(f"{task}, target {target:g}: {spread(reached)}")
        kept, reference = trained.returns(task, "infinite"), trained.returns(task, "reference")
        spread_of = np.abs(kept - reference).max()
        same.append(bool(abs(kept.mean() - reference.mean()) <= _deviation(trained, task)))
        said.append(
            f"{task}, infinite penalty: a return of {spread(kept, 0)} where the references have "
            f"{spread(reference, 0)}, at most {spread_of:,.0f} apart by seed; without a penalty, the divergence is "
            f"{spread(trained.late(task, 'free', _KL), 1)}"
        )
    findings = f"Divergence per step in the second half, in nats, with 95 % intervals: {'; '.join(said)}."
    return Outcome(
        judged(*held, *same), findings, score_rows(trained, VARIANTS, _divergence(trained)), _panels(trained)
    )


def _deviation(trained: Trained, task: str) -> float:
    """Return the spread of the reference: the deviation of its returns over episodes, averaged over seeds."""
    runs = trained.runs(task, "reference")
    return float(np.mean([(run.summary or {}).get("evaluation_return_std", np.nan) for run in runs]))


def _divergence(trained: Trained) -> Callable[[str, str], Row]:
    def more(task: str, variant: str) -> Row:
        return {"divergence in nats": spread(trained.late(task, variant, _KL)) if variant != "reference" else "-"}

    return more


def _panels(trained: Trained) -> list[Draw]:
    def draw_of(task: str) -> Draw:
        def draw(axes: Axes) -> None:
            for colour, name in zip(COLOURS, VARIANTS[1:], strict=False):
                for place, run in enumerate(trained.runs(task, name)):
                    axes.plot(*column(run, _KL).T, color=colour, alpha=0.6, label=name if not place else None)
            for target in trained.measured.settings["targets"].values():
                axes.axhline(target, color="black", linestyle="--", linewidth=1)
            axes.set_yscale("log")
            finish(axes, f"{task}: divergence from the reference", "nats per step", "agent steps")

        return draw

    return [draw_of(task) for task in trained.tasks]
