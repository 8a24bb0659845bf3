"""The studies' bookkeeping; what they run is tested elsewhere."""

import csv
import json
import math

import pytest
from prefrl_benchmarks import learning, people
from prefrl_benchmarks.cells import Cell
from prefrl_benchmarks.learning import TRUE, Study, Variant, score_lines
from prefrl_benchmarks.speed import steady_rate

from prefrl.metrics import MetricsFile

FULL, RANDOM = Variant("full"), Variant("random-queries", ablation="random-queries")


def study(out, **changes):
    settings = {"tasks": ("cheetah", "reacher"), "algo": "ppo", "variants": (FULL, RANDOM), "seeds": 2}
    return Study("test", out, **(settings | changes), steps=1000, labels=50)


def finish(cell, out, value, correlation=0.5):
    root = out / cell.name
    root.mkdir()
    summary = {"task": cell.task, "seed": cell.seed, "true_return_mean": value, "reward_correlation": correlation}
    (root / "summary.json").write_text(json.dumps(summary | {"steps_per_second": 100.0}))


def test_a_cell_s_arguments_are_those_of_the_command(tmp_path):
    words = Cell("hopper", "ppo", "oracle", "sync", 3, 1000, 50, "target", {"agent.n_envs": 2}).arguments(tmp_path)
    assert words[:2] == ["train", "hopper"]
    pairs = dict(zip(words[2::2], words[3::2], strict=True))
    assert pairs["--labels"] == "50"
    assert pairs["--ablation"] == "target"
    assert pairs["--set"] == "agent.n_envs=2"
    assert "--labels" not in Cell("hopper", "ppo", "none", "sync", 3, 1000, 50).arguments(tmp_path)


def test_every_run_has_a_folder_of_its_own(tmp_path):
    names = [cell.name for cells in study(tmp_path).columns() for cell in cells]
    assert len(set(names)) == len(names) == 2 * 3 * 2  # tasks, ways, seeds


def test_scores_are_normalised_between_random_actions_and_the_true_reward(tmp_path, monkeypatch):
    monkeypatch.setattr(learning, "random_return", {"cheetah": -100.0, "reacher": -10.0}.__getitem__)
    ours = study(tmp_path)
    for task, true, labels in (("cheetah", (300.0, 500.0), (200.0, 400.0)), ("reacher", (-2.0, -4.0), (-3.0, -5.0))):
        for cell, value in zip(ours.cells(task, TRUE), true, strict=True):
            finish(cell, tmp_path, value, None)
        for cell, value in zip(ours.cells(task, FULL), labels, strict=True):
            finish(cell, tmp_path, value)
    text = "\n".join(score_lines(ours))
    assert "random-queries   no finished runs" in text
    # cheetah (300 + 100) / (400 + 100) = 0.8; reacher (-4 + 10) / (-3 + 10) = 0.857
    rows = {line.split()[0]: line.split() for line in text.splitlines() if " full " in line}
    assert [rows[task][6] for task in ("cheetah", "reacher")] == ["0.80", "0.86"]
    assert float(rows["together"][2]) == pytest.approx((0.8 + 6 / 7) / 2, abs=1e-3)


def test_the_table_of_runs_says_which_ablation(tmp_path):
    ours = study(tmp_path, tasks=("cheetah",), seeds=1)
    for variant, value in ((TRUE, 1.0), (FULL, math.pi), (RANDOM, 2.0)):
        finish(ours.cells("cheetah", variant)[0], tmp_path, value)
    rows = list(csv.DictReader(ours.write_csv().read_text().splitlines()))
    assert [(row["ablation"], float(row["true_return_mean"])) for row in rows] == [
        ("", 1.0),
        ("", pytest.approx(math.pi)),
        ("random-queries", 2.0),
    ]


def test_the_steady_rate_leaves_out_what_comes_before_the_first_round(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.csv")
    for step, seconds in ((1000, 50.0), (2000, 52.0), (5000, 58.0)):
        metrics.append({"step": step, "time_seconds": seconds})
    assert steady_rate(tmp_path / "metrics.csv") == 4000 / 8


def test_what_people_cost_is_told_by_its_median_and_spread():
    runs = {"human": [{"labels_answered": n} for n in (30, 31, 32)], "oracle": []}
    (line,) = people.report_lines({"ratios": [0.8, 0.95, 0.9], "runs": runs})
    assert "0.900 (0.800 to 0.950)" in line
    assert line.endswith("30, 31, 32")
