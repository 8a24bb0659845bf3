"""Runs that do not learn are reported on screen, and in `status`, the summary and the report."""

import json

from bench_runs import FULL, finish_suite, suite
from prefrl_benchmarks.report.page import analyse, write_report
from runs import prefrl, progress, summary, tiny

from prefrl.runs.metrics import MetricsFile

GUESS = "the reward model predicted held-out labels no better than a guess since step "


def test_a_reward_model_that_guesses_is_reported_once_and_early_and_in_the_end(tmp_path):
    root = tmp_path / "run"
    # So strong a penalty leaves all weights at zero.
    settings = ("round_steps=512", "reward.l2=1000.0", "reward.l2_rate=0.0", "reward.learning_rate=0.01")
    done = prefrl(*tiny("reacher", root, "--mode", "sync", settings=settings, steps=6000))
    assert done.code == 0, done.err
    (said,) = (place for place, line in enumerate(done.err.splitlines()) if GUESS in line)
    assert said < len(done.err.splitlines()) - 1  # before its end
    assert done.err.splitlines()[said].startswith(f"warning: {GUESS}")
    assert done.out.count(f"warning: {GUESS}") == 1
    (line,) = summary(root)["warnings"]
    assert line.startswith(GUESS)
    assert all(word in line for word in ("queries.segment_length", "initial_fraction", "candidate_factor", "error"))
    assert f"warning: {line}" in prefrl("status", root).out.splitlines()
    assert json.loads(prefrl("status", root, "--json").out)["warnings"] == [line]


def test_labels_that_are_ties_are_reported_before_the_agent_has_trained_far(tmp_path):
    root = tmp_path / "run"
    # Every step of a pole that stands pays one.
    settings = ("queries.labels=60", "queries.initial_fraction=0.9", "queries.segment_length=8")
    done = prefrl(*tiny("CartPole-v1", root, "--mode", "sync", settings=settings, steps=3000))
    assert done.code == 0, done.err
    (line,) = summary(root)["warnings"]
    assert line.startswith("60 of 60 labels are ties")
    first = next(line for line in done.err.splitlines() if "labels are ties" in line)
    assert first.startswith("warning: ")
    assert line not in first  # there were fewer labels then
    assert done.err.count("labels are ties") == 1
    assert f"warning: {line}" in done.out.splitlines()


def test_a_run_that_learns_warns_of_nothing(finished):
    assert summary(finished)["warnings"] == []
    assert json.loads(prefrl("status", finished, "--json").out)["warnings"] == []
    assert "warning" not in prefrl("status", finished).out
    assert progress(finished)["state"] == "training"


def test_a_report_names_a_cell_whose_reward_model_guessed(tmp_path):
    folder, ours = tmp_path / "suite", suite(tasks=("cheetah",), seeds=(0, 1))
    finish_suite(ours, folder, {("cheetah", "true"): (300, 300), ("cheetah", FULL.name): (200, 200)}, rows=10)
    name = "cheetah_ppo_oracle-sync-50_s1"
    metrics = MetricsFile(folder / name / "metrics.csv")
    for step in range(1000, 11_000, 1000):
        metrics.append({"step": step, "true_return_mean": step / 50, "validation_loss": 0.7})
    (line,) = analyse([folder]).problems
    assert line.startswith(f"{name}: {GUESS}1,000")
    write_report([folder], tmp_path / "report")
    assert f"{name}: {GUESS}1,000" in (tmp_path / "report" / "report.html").read_text()
