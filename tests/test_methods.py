"""The report's table of B-Pref's tasks: returns and success rates next to published ones."""

import csv
import json

import pytest
from bench_runs import finish
from prefrl_benchmarks.report.methods import METHODS, PUBLISHED, method_markdown, method_rows, method_table
from prefrl_benchmarks.report.page import analyse, write_report
from prefrl_benchmarks.results import read_results, write_manifest
from prefrl_benchmarks.suites import Suite, Variant
from prefrl_envs.bpref import BPREF

BASELINES = {"walker-walk": 40.0, "window-open": 100.0, "reacher": -10.0}
VALUES = {
    ("walker-walk", "true"): [940.0, 960.0],
    ("walker-walk", "default"): [830.0, 880.0],
    ("walker-walk", "pebble"): [450.0],
    ("window-open", "true"): [4100.0, 4300.0],
    ("window-open", "window"): [3500.0, 3700.0],
    ("reacher", "true"): [-4.0, -4.0],
    ("reacher", "default"): [-5.0, -5.0],
}
"""Normalised: walker-walk by 910, default 790 and 840, pebble (one seed, whose baseline is 900) 410."""
SUCCESS = {"true": 1.0, "window": 0.75}


@pytest.fixture
def folder(tmp_path):
    """A suite with evaluations; those are the values, and the training returns half of them."""
    variants = (
        Variant("true", "none"),
        Variant("pebble", labels=100, recipe="pebble", tasks=("walker-walk",), settings={"agent.net_arch": [8]}),
        Variant("default", labels=100, tasks=("walker-walk", "reacher")),
        Variant("window", labels=400, tasks=("window-open",)),
    )
    ours = Suite("small", tuple(BASELINES), (0, 1), 500_000, variants, algo="sac").validate()
    out = tmp_path / "small"
    out.mkdir()
    write_manifest(ours, out)
    for cell in ours.cells():
        values = VALUES.get((cell.task, cell.variant), [])
        if cell.seed < len(values):
            value = values[cell.seed]
            success = SUCCESS[cell.variant] if cell.task == "window-open" else None
            finish(cell, out, value / 2, evaluation=value, success=success)
    (out / "random.json").write_text(json.dumps({"episodes": 30, "returns": BASELINES}))
    return out


@pytest.fixture
def rows(folder):
    return method_rows(read_results([folder]), "small", BASELINES)


def row_of(rows, task, variant):
    (found,) = (row for row in rows if (row["task"], row["variant"]) == (task, variant))
    return found


def test_returns_and_scores_worked_by_hand(rows):
    walker = row_of(rows, "walker-walk", "default")
    assert (walker["value"], walker["labels"], walker["runs"], walker["measure"]) == (855.0, 100, 2, "return")
    assert walker["score"] == pytest.approx((790 + 840) / 2 / 910)
    assert walker["value low"] <= 855 <= walker["value high"]
    pebble = row_of(rows, "walker-walk", "pebble")
    assert (pebble["runs"], pebble["planned"], pebble["score"]) == (1, 2, pytest.approx(410 / 900))


def test_tasks_of_meta_world_have_success_rates_and_scores_of_returns(rows):
    window = row_of(rows, "window-open", "window")
    assert (window["value"], window["measure"], window["labels"]) == (0.75, "success rate", 400)
    assert window["score"] == pytest.approx(3500 / 4100)
    assert (window["published labels"], window["PEBBLE"], window["PPE"]) == (400, 0.87, 1.0)
    assert row_of(rows, "window-open", "true")["value"] == 1.0


def test_the_table_a_person_reads(rows):
    header, *lines = method_table(rows)
    assert header == [
        "task",
        "measure",
        "agent steps",
        "true reward",
        "pebble",
        "default",
        "window",
        "published for",
        *METHODS,
    ]
    assert lines == [
        ["walker-walk", "return", "500,000", "950", "450 [100] (0.46; 1 of 2 runs)", "855 [100] (0.90)", "–",
         "100 labels, 0.5 M steps", "453", "661", "415", "796", "908"],
        ["window-open", "success rate", "500,000", "1.00", "–", "–", "0.75 [400] (0.85)",
         "400 labels, 0.5 M steps", "0.87", "0.87", "0.97", "0.90", "1.00"],
    ]  # fmt: skip
    text = method_markdown(rows)
    assert text.count("\n| ") == 3
    assert "table 1 of PPE" in text
    assert "Meta-World's environments differ" in text
    assert "Meta-World" not in method_markdown([row for row in rows if row["task"] == "walker-walk"])


def test_tasks_without_published_results_have_no_row(rows, folder):
    assert {row["task"] for row in rows} == {"walker-walk", "window-open"}
    assert set(PUBLISHED) <= {task.name for task in BPREF}
    assert all(len(each.values) == len(METHODS) for each in PUBLISHED.values())
    for published in PUBLISHED.values():
        assert max(published.values) <= (1 if published.success else 1000)


def test_the_report_has_the_table_and_the_success_rates(folder, tmp_path):
    found = write_report([folder], tmp_path / "report")
    assert list(found.methods) == ["small"]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Other methods" in page
    assert "855 [100] (0.90)" in page
    assert "<th>success rate</th>" in page
    assert (tmp_path / "report" / "methods.md").read_text() == method_markdown(found.methods["small"])
    scores = list(csv.DictReader((tmp_path / "report" / "scores.csv").read_text().splitlines()))
    told = {(row["task"], row["variant"]): row["success rate"] for row in scores}
    assert told["window-open", "window"] == "0.75"
    assert told["walker-walk", "default"] == ""
    methods = list(csv.DictReader((tmp_path / "report" / "methods.csv").read_text().splitlines()))
    assert [float(row["QPA"]) for row in methods if row["variant"] == "true"] == [796.0, 0.9]


def test_scores_of_sac_are_normalised_and_aggregated(folder):
    found = analyse([folder])
    (default,) = (each for each in found.aggregates if each.variant == "default")
    assert default.tasks == ("walker-walk", "reacher")
    value, (low, high) = default.values()["IQM"]
    assert value == pytest.approx((5 / 6 + 790 / 910) / 2)  # the middle two of 5/6, 5/6, 790/910 and 840/910
    assert low <= value <= high


def test_success_rates_are_of_the_kind_of_the_returns(folder):
    results = read_results([folder]).with_returns("small", "training")
    rows = method_rows(results, "small", BASELINES)
    assert row_of(rows, "window-open", "window")["value"] == 0.375
    assert row_of(rows, "walker-walk", "default")["value"] == pytest.approx(855 / 2)


def test_without_success_rates_there_is_no_value(folder):
    for path in folder.glob("window-open*/summary.json"):
        summary = json.loads(path.read_text())
        path.write_text(json.dumps(summary | {"evaluation_success_rate": None}))
    rows = method_rows(read_results([folder]), "small", BASELINES)
    assert row_of(rows, "window-open", "window")["value"] is None
    assert method_table(rows)[2][6] == "– [400] (0.85)"
    assert not any("success rate" in row for row in analyse([folder]).methods)
