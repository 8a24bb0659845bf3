"""Suite folders for tests, with runs that look finished without training."""

import json

import numpy as np
from prefrl_benchmarks.learning import TRUE
from prefrl_benchmarks.results import write_manifest
from prefrl_benchmarks.suites import Suite, Variant

from prefrl.runs.directory import RunDirectory
from prefrl.runs.metrics import MetricsFile

FULL = Variant("full")
RANDOM_BASELINES = {"cheetah": -100.0, "reacher": -10.0}
RETURNS = {
    ("cheetah", "true"): (300.0, 500.0),
    ("cheetah", "full"): (200.0, 400.0),
    ("reacher", "true"): (-2.0, -4.0),
    ("reacher", "full"): (-3.0, -5.0),
}
"""Normalised: cheetah 0.6 and 1.0, reacher 1 and 5/7."""


def suite(*, variants=(FULL,), name="test", tasks=("cheetah", "reacher"), seeds=(0, 1), steps=10_000, labels=50):
    """A small suite with a true-reward variant."""
    return Suite(name, tasks, seeds, steps, (TRUE, *variants), labels).validate()


def finish(cell, folder, value, *, correlation=0.5, rows=5, evaluation=None, success=None, clocks=None):
    """Leave a finished run that rises to its final return; one without an evaluation is an older version's.

    `success` is the share of its episodes of each kind, and `clocks` the columns of times with their last values.
    """
    run = RunDirectory.create(folder / cell.name, cell.config)
    metrics = MetricsFile(run.metrics)
    for share in np.linspace(1 / rows, 1, rows):
        reached = None if value is None else value * share
        times = {name: last * share for name, last in (clocks or {}).items()}
        metrics.append({"step": int(cell.steps * share), "true_return_mean": reached} | times)
    summary = {
        "task": cell.task,
        "seed": cell.seed,
        "steps": cell.steps,
        "true_return_mean": value,
        "reward_correlation": correlation,
    }
    if evaluation is not None:
        summary |= {"evaluation_return_mean": evaluation, "evaluation_return_std": 1.0, "evaluation_episodes": 10}
    if success is not None:
        summary |= {"success_rate": success / 2, "evaluation_success_rate": success}
    more = {"steps_per_second": 100.0, "wall_seconds": 1.0, "version": "0.1.0", "commit": None}
    run.summary.write_text(json.dumps(summary | more))


def finish_suite(ours, folder, returns, *, rows=5, evaluations=None):
    """Finish the cells that have a return: `returns[task, variant]`, one a seed; None leaves a cell out.

    `evaluations` are as `returns`; None leaves a cell without one.
    """
    folder.mkdir(exist_ok=True)
    write_manifest(ours, folder)
    for cell in ours.cells():
        if (found := returns.get((cell.task, cell.variant))) is None:
            continue
        value = found[ours.seeds.index(cell.seed)]
        if value is not None:
            evaluated = (evaluations or {}).get((cell.task, cell.variant))
            evaluation = evaluated and evaluated[ours.seeds.index(cell.seed)]
            finish(cell, folder, value, rows=rows, evaluation=evaluation)


def made(out, returns=RETURNS, **changes):
    """A finished suite, its random policy's returns known."""
    finish_suite(suite(**changes), out, returns)
    (out / "random.json").write_text(json.dumps({"episodes": 30, "returns": RANDOM_BASELINES}))
    return out


def without(*cells):
    """The returns, but for the second seed of some (task, variant)."""
    return {key: (values[0], None) if key in cells else values for key, values in RETURNS.items()}
