"""The bookkeeping of suites; training itself is tested elsewhere."""

import csv
import math
from dataclasses import replace

import pytest
from bench_runs import finish, finish_suite, suite
from prefrl_benchmarks.cells import Cell
from prefrl_benchmarks.learning import score_lines, write_csv
from prefrl_benchmarks.measure import people
from prefrl_benchmarks.results import read_results
from prefrl_benchmarks.suites import Variant

FULL, RANDOM = Variant("full"), Variant("random-queries", ablation="random-queries")


def test_a_cell_s_arguments_are_those_of_the_command(tmp_path):
    cell = Cell("hopper", mode="sync", seed=3, steps=1000, labels=50, ablation="target", settings={"agent.n_envs": 2})
    words = cell.arguments(tmp_path)
    assert words[:2] == ["train", "hopper"]
    pairs = dict(zip(words[2::2], words[3::2], strict=True))
    assert pairs["--labels"] == "50"
    assert pairs["--ablation"] == "target"
    assert pairs["--set"] == "agent.n_envs=2"
    assert "--labels" not in replace(cell, teacher="none").arguments(tmp_path)


def test_scores_are_normalised_between_random_actions_and_the_true_reward(tmp_path):
    returns = {
        ("cheetah", "true"): (300.0, 500.0),
        ("cheetah", "full"): (200.0, 400.0),
        ("reacher", "true"): (-2.0, -4.0),
        ("reacher", "full"): (-3.0, -5.0),
    }
    finish_suite(suite(variants=(FULL, RANDOM)), tmp_path, returns)
    lines = score_lines(read_results([tmp_path]), {"cheetah": -100.0, "reacher": -10.0})
    # cheetah (300 + 100) / (400 + 100) = 0.8; reacher (-4 + 10) / (-3 + 10) = 0.857
    rows = {line.split()[0]: line.split() for line in lines if " full " in line}
    assert [rows[task][6] for task in ("cheetah", "reacher")] == ["0.80", "0.86"]
    # Runs score 0.6 and 1 on cheetah, 1 and 5 / 7 on reacher: without the lowest and the highest, (1 + 5 / 7) / 2.
    assert float(rows["IQM"][2]) == pytest.approx((1 + 5 / 7) / 2, abs=5e-3)
    # The lowest resample has 0.6 and 5 / 7 twice each, the middle of which is their mean; the highest has 1 throughout.
    assert rows["IQM"][3:6:2] == ["(0.66", "1.00)"]
    assert "partial: 4 of 12 cells are not finished" in lines
    assert not [line for line in lines if line.startswith("IQM") and "random-queries" in line]


def test_the_table_of_runs_says_which_ablation(tmp_path):
    ours = suite(tasks=("cheetah",), seeds=(0,), variants=(FULL, RANDOM))
    finish_suite(ours, tmp_path, {})
    for cell, value in zip(ours.cells(), (1.0, math.pi, 2.0), strict=True):
        finish(cell, tmp_path, value)
    write_csv(read_results([tmp_path]), tmp_path / "table.csv")
    rows = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(row["ablation"], float(row["true_return_mean"])) for row in rows] == [
        ("", 1.0),
        ("", pytest.approx(math.pi)),
        ("random-queries", 2.0),
    ]


def test_what_people_cost_is_told_by_its_median_and_spread():
    runs = {"human": [{"labels_answered": n} for n in (30, 31, 32)], "oracle": []}
    (line,) = people.report_lines({"ratios": [0.8, 0.95, 0.9], "runs": runs})
    assert "0.900 (0.800 to 0.950)" in line
    assert line.endswith("30, 31, 32")
