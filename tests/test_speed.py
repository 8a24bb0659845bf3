"""What `prefrl bench` measures of speed: the bookkeeping by hand, and each command once for real."""

import json
import time

import pytest
from prefrl_benchmarks import defaults, growth, speed
from prefrl_benchmarks.cells import Cell
from prefrl_benchmarks.split import REST, Clock
from runs import prefrl

from prefrl.files import read_json
from prefrl.metrics import MetricsFile, read_metrics


def test_the_steady_rate_leaves_out_what_comes_before_the_first_round(tmp_path):
    metrics = MetricsFile(tmp_path / "metrics.csv")
    for step, seconds in ((1000, 50.0), (2000, 52.0), (5000, 58.0)):
        metrics.append({"step": step, "time_seconds": seconds})
    assert speed.steady_rate(tmp_path / "metrics.csv") == 4000 / 8


def test_a_part_s_time_is_its_own():
    clock = Clock()
    inner = clock.timed("inner", lambda: time.sleep(0.02))

    def outer():
        time.sleep(0.01)
        inner()
        inner()

    clock.start()
    clock.timed("outer", outer)()
    time.sleep(0.03)
    seconds = clock.finish()
    assert seconds["inner"] == pytest.approx(0.04, rel=0.3)
    assert seconds["outer"] == pytest.approx(0.01, rel=0.5)
    assert seconds[REST] == pytest.approx(0.03, rel=0.3)


def test_a_part_that_fails_is_counted_all_the_same():
    clock = Clock()

    def fail():
        time.sleep(0.01)
        raise KeyError

    with pytest.raises(KeyError):
        clock.timed("failing", fail)()
    time.sleep(0.02)
    seconds = clock.finish()
    assert seconds["failing"] == pytest.approx(0.01, rel=0.5)
    assert seconds[REST] >= 0.02


def rows(*points):
    return [{"step": step, "true_return_mean": value, "time_seconds": seconds} for step, value, seconds in points]


def test_time_to_the_return_that_the_defaults_end_with():
    theirs = rows((1, None, 1.0), (2, 10.0, 20.0), (3, 30.0, 40.0), (4, 25.0, 60.0))
    ours = rows((1, 5.0, 4.0), (2, 26.0, 8.0), (3, 90.0, 12.0))
    # They end at 25, which they first had at 30 after 40 s; the recipe had 26 after 8 s.
    assert defaults.compare(theirs, ours) == {
        "return": 25.0,
        "defaults_seconds": 40.0,
        "recipe_seconds": 8.0,
        "ratio": 5.0,
    }
    assert defaults.compare(theirs, ours[:1])["ratio"] is None


CELL = Cell("pendulum", "ppo", "oracle", "sync", 0, 6000, 20)


def test_plain_training_has_the_recipe_s_settings_and_no_prefrl_in_its_way(tmp_path):
    root = speed.run_module("plain", Cell("pendulum", "ppo", "none", "sync", 0, 6000, 0), tmp_path)
    summary = read_json(root / "summary.json")
    assert 6000 <= summary["steps"] < 6000 + 2048 + 1
    assert summary["steps_per_second"] == pytest.approx(summary["steps"] / summary["wall_seconds"])
    assert read_metrics(root / "metrics.csv")[0]["step"] >= 4096


def test_the_split_of_a_run_adds_up_and_names_what_it_did(tmp_path):
    root = speed.run_module("split", CELL, tmp_path)
    result = read_json(root / "split.json")
    assert sum(result["shares"].values()) == pytest.approx(1.0)
    done = {"environment", "policy forward", "policy update", "recording", "scoring", "query selection"}
    done |= {"reward training", "store", "metrics and checkpoints", "normalisation", REST}
    assert set(result["shares"]) == done
    assert result["agent_rss_mb"] > 100
    assert result["fitted_per_second"] > 100


@pytest.mark.slow
def test_the_command_compares_with_plain_stable_baselines(tmp_path):
    out = tmp_path / "speed.json"
    words = ("--task", "pendulum", "--steps", "8000", "--labels", "20", "--alternations", "1", "--out", out)
    done = prefrl("bench", "speed", *words)
    assert done.code == 0, done.err
    result = json.loads(out.read_text())
    assert set(result["runs"]) == {"plain", "sync", "async"}
    assert 0.05 < result["ratios"]["async"][0] < 3
    assert set(result["split"]) == {"true", "sync", "async"}
    assert "ratio median" in done.out
    assert "the learner beside it" in done.out


def test_a_label_costs_the_same_however_many_there_are():
    result = growth.measure("reacher", labels=(20, 60), members=(1, 3))
    points = result["by_labels"]
    assert [point["labels"] for point in points] == [20, 60]
    assert all(point["learning_ms"] > 0 and point["asking_ms"] > 0 and point["store_kb"] > 0.1 for point in points)
    assert [point["members"] for point in result["by_members"]] == [1, 3]
    assert growth.report_lines(result)[-1].startswith("a label at 60 over one at 20: ")
