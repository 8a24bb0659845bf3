"""The report's figure of returns against a labeller's minutes, for variants of several feedback kinds."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from bench_runs import FULL, RETURNS, made, suite
from prefrl_benchmarks.report.figures import draw_minutes, has_minutes
from prefrl_benchmarks.report.page import analyse, write_report
from prefrl_benchmarks.suites import Variant

RATED = Variant("rated", feedback="rating")
MIXED = Variant("mixed", feedback="comparison:1,rating:3", labels=80)
VARIANTS = (FULL, RATED, MIXED)
SECONDS = {"full": (200.0, 220.0), "rated": (150.0, 150.0), "mixed": (260.0, 260.0)}
MORE = RETURNS | {(task, name): RETURNS[task, "full"] for task in ("cheetah", "reacher") for name in ("rated", "mixed")}


@pytest.fixture
def folder(tmp_path):
    out = made(tmp_path / "suite", MORE, variants=VARIANTS)
    for cell in suite(variants=VARIANTS).cells():
        if cell.variant in SECONDS:
            summary = out / cell.name / "summary.json"
            known = json.loads(summary.read_text())
            summary.write_text(json.dumps(known | {"label_seconds": SECONDS[cell.variant][cell.seed]}))
    return out


def test_a_variant_has_its_feedback_and_its_folder_a_plain_name():
    cells = {
        cell.variant: cell for cell in suite(variants=VARIANTS).cells() if cell.task == "cheetah" and not cell.seed
    }
    assert cells["rated"].config.feedback == "rating"
    assert cells["mixed"].config.shares == {"comparison": 0.25, "rating": 0.75}
    assert cells["mixed"].name == "cheetah_ppo_oracle-sync-80-comparison1+rating3_s0"
    assert "--feedback" not in cells["full"].arguments(Path("runs"))


def test_the_figure_has_a_point_for_each_variant_and_a_line_for_each_choice_of_kinds(folder):
    scores = [score for score in analyse([folder]).scores if score.group.task == "cheetah"]
    assert [score.group.variant for score in scores if has_minutes(score)] == ["full", "rated", "mixed"]
    axes = plt.figure().add_subplot()
    draw_minutes(axes, "cheetah", scores)
    drawn = {each.get_label(): each.lines[0].get_xydata()[0].tolist() for each in axes.containers}
    assert drawn == {
        "comparison": [pytest.approx(3.5), 300.0],
        "rating": [2.5, 300.0],
        "comparison:1,rating:3": [pytest.approx(260 / 60), 300.0],
    }
    assert axes.get_xlabel() == "a labeller's minutes"
    plt.close("all")


def test_the_page_shows_it_if_the_time_is_known(folder, tmp_path):
    write_report([folder], tmp_path / "report")
    assert (tmp_path / "report" / "minutes.svg").exists()
    assert "Time that the labels took a labeller" in (tmp_path / "report" / "report.html").read_text()
    older = made(tmp_path / "older")
    assert not any(has_minutes(score) for score in analyse([older]).scores)
    assert np.isnan(next(score for score in analyse([older]).scores if score.group.labels).group.minutes)
    write_report([older], tmp_path / "plain")
    assert not (tmp_path / "plain" / "minutes.svg").exists()
