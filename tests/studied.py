"""Finished runs of studies whose figures are known, for tests of what the analyses make of them."""

import json

import pytest
from prefrl_benchmarks.results import write_manifest
from prefrl_benchmarks.studies.study import find_study

from prefrl.runs.directory import RunDirectory
from prefrl.runs.metrics import MetricsFile

POINT = "prefrl_benchmarks.studies.horizon_one.environments:Point-v0"
RANDOM = {"cheetah": -100.0, "hopper": 0.0, "walker": 0.0, "reacher": -10.0, "moving-dot": -40.0, POINT: -38.0}
TRUE = {"cheetah": 900.0, "hopper": 1000.0, "walker": 1000.0, "reacher": 0.0, "moving-dot": 960.0, POINT: 962.0}


def return_at(task, score):
    """The return with this score, if a random policy has 0 and the true reward's agent 1."""
    return RANDOM[task] + score * (TRUE[task] - RANDOM[task])


def ran(name, folder, told):
    """Analyse a study whose runs have these figures."""
    return find_study(name).analyse(rows_of(name), finished(name, folder, told))


def finished(name, folder, told):
    """Leave finished runs of a study's suite.

    `told` maps a variant to its score, or to its score and the columns of its metrics: each a list over the run.
    """
    study = find_study(name)
    folder.mkdir()
    write_manifest(study.suite, folder)
    (folder / "random.json").write_text(json.dumps({"episodes": 30, "returns": RANDOM}))
    for cell in study.suite.cells():
        said = told(cell) if callable(told) else told.get(cell.variant)
        if said is None:
            continue
        score, columns, more = (*said, {}, {})[:3] if isinstance(said, tuple) else (said, {}, {})
        run = RunDirectory.create(folder / cell.name, cell.config)
        metrics, value = MetricsFile(run.metrics), return_at(cell.task, score)
        rows = max(map(len, columns.values()), default=2)
        for row in range(rows):
            given = {key: values[row] for key, values in columns.items()}
            metrics.append({"step": cell.steps * (row + 1) // rows, "true_return_mean": value} | given)
        summary = {"task": cell.task, "seed": cell.seed, "steps": cell.steps, "true_return_mean": value}
        summary |= {"evaluation_return_mean": value + cell.seed, "evaluation_return_std": 5.0}
        summary |= {"evaluation_episodes": 10, "steps_per_second": 1.0, "wall_seconds": 1.0, "version": "0", **more}
        run.summary.write_text(json.dumps(summary))
    return folder


def rows_of(name):
    return [] if not find_study(name).has_experiment else pytest.importorskip("test_studies")._rows(name)
