"""Writes tests/data/rliable.json: what rliable says of the scores that tests/test_statistics.py takes.

rliable 1.2.0 does not import with today's pandas, so it is no dependency; run this in an environment of its own:

    pip install rliable==1.2.0 "pandas<3" && python tests/rliable_reference.py
"""

import json
from pathlib import Path

import numpy as np
from rliable import library, metrics

CASES = {"five by eight": (5, 8, 0), "three by eight": (3, 8, 1), "ten by one": (10, 1, 2), "two by three": (2, 3, 3)}
"""Runs, tasks and seed of each case."""
THRESHOLDS = [0.0, 0.25, 0.5, 0.75, 1.0, 1.5]
REPEATS = 20_000


def reference(runs, tasks, seed):
    rng = np.random.default_rng(seed)
    ours = rng.normal(0.9, 0.3, (runs, tasks)).round(2)
    theirs = rng.normal(0.8, 0.4, (runs + 1, tasks)).round(2)
    aggregates = {
        "mean": metrics.aggregate_mean,
        "median": metrics.aggregate_median,
        "iqm": metrics.aggregate_iqm,
        "optimality_gap": metrics.aggregate_optimality_gap,
    }
    intervals = {}
    for name, aggregate in aggregates.items():
        np.random.seed(0)  # noqa: NPY002 - what rliable draws from
        _, found = library.get_interval_estimates({"": ours}, lambda x, f=aggregate: np.array([f(x)]), reps=REPEATS)
        intervals[name] = found[""][:, 0].tolist()
    np.random.seed(0)  # noqa: NPY002 - what rliable draws from
    _, found = library.get_interval_estimates(
        {"": [ours, theirs]}, lambda x, y: np.array([metrics.probability_of_improvement(x, y)]), reps=REPEATS // 10
    )
    return {
        "ours": ours.tolist(),
        "theirs": theirs.tolist(),
        "aggregates": {name: float(aggregate(ours)) for name, aggregate in aggregates.items()},
        "intervals": intervals,
        "improvement": float(metrics.probability_of_improvement(ours, theirs)),
        "improvement_interval": found[""][:, 0].tolist(),
        "profile": library.score_distributions(ours, np.array(THRESHOLDS)).tolist(),
    }


if __name__ == "__main__":
    found = {"thresholds": THRESHOLDS, "cases": {name: reference(*case) for name, case in CASES.items()}}
    path = Path(__file__).parent / "data" / "rliable.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
