"""The report: values worked by hand, missing results are reported and never averaged, a self-contained page."""

import csv
import dataclasses
import json
import re
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from bench_runs import FULL, RANDOM_BASELINES, RETURNS, finish_suite, made, suite, without
from prefrl_benchmarks.report.compare import compare, compare_folders
from prefrl_benchmarks.report.page import analyse, write_report
from prefrl_benchmarks.results import read_results
from prefrl_benchmarks.suites import Variant
from runs import prefrl, refused

from prefrl.errors import PrefrlError, UsageError


@pytest.fixture
def folder(tmp_path):
    """A finished suite, its random policy's returns known."""
    return made(tmp_path / "results")


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


class Page(HTMLParser):
    """What a page refers to."""

    def __init__(self, text):
        super().__init__()
        self.sources, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href", "srcset")]

    def handle_data(self, data):
        self.words.append(data)


def test_scores_and_aggregates_worked_by_hand(folder):
    found = analyse([folder])
    assert not found.problems
    scores = {(score.group.task, score.group.variant): score.scores for score in found.scores}
    np.testing.assert_allclose(scores["cheetah", "full"], [0.6, 1.0])
    np.testing.assert_allclose(scores["reacher", "full"], [1.0, 5 / 7])
    np.testing.assert_allclose(scores["cheetah", "true"].mean(), 1)
    (full,) = (each for each in found.aggregates if each.variant == "full")
    values = full.values()
    assert values["IQM"][0] == pytest.approx((5 / 7 + 1) / 2)
    assert values["mean"][0] == pytest.approx((0.6 + 1 + 1 + 5 / 7) / 4)
    assert values["IQM"][1].low <= values["IQM"][0] <= values["IQM"][1].high


@pytest.mark.usefixtures("unpainted")
def test_the_report_s_files_say_the_same(folder, tmp_path):
    out = tmp_path / "report"
    write_report([folder], out)
    names = {path.name for path in out.iterdir()}
    figures = {f"{name}.{kind}" for name in ("scores", "returns", "curves") for kind in ("svg", "png")}
    assert names == figures | {"cells.csv", "scores.csv", "aggregates.csv", "curves.csv", "report.html", "summary.md"}
    assert [row["state"] for row in rows(out / "cells.csv")] == ["finished"] * 8
    command = rows(out / "cells.csv")[0]["command"]
    assert command.startswith("prefrl train cheetah ")
    assert " --out " in command
    (cheetah,) = (row for row in rows(out / "scores.csv") if (row["task"], row["variant"]) == ("cheetah", "full"))
    assert float(cheetah["score"]) == pytest.approx(0.8)
    assert float(cheetah["area under curve"]) == pytest.approx(300 * (0.2 + 1) / 2)  # a straight line
    assert float(rows(out / "aggregates.csv")[1]["improvement"]) == pytest.approx(0.25)
    last = [row for row in rows(out / "curves.csv") if (row["task"], row["variant"]) == ("reacher", "true")][-1]
    assert (float(last["step"]), float(last["true return"])) == (10_000, -3.0)


def test_the_page_stands_alone(folder, tmp_path):
    write_report([folder], tmp_path / "report")
    page = Page((tmp_path / "report" / "report.html").read_text())
    assert len(page.sources) == 2 + 2 + 2  # scores and profiles; two tasks' returns; two tasks' curves
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    text = " ".join(" ".join(page.words).split())
    for said in (
        "8 of 8 cells",
        f"prefrl bench report {folder} --out report",
        "the paper's own points",
        "cores",
        "commit",
    ):
        assert said in text


def test_the_same_results_give_the_same_report(folder, tmp_path):
    for name in ("one", "two"):
        write_report([folder], tmp_path / name)
    assert (tmp_path / "one" / "report.html").read_bytes() == (tmp_path / "two" / "report.html").read_bytes()


@pytest.mark.slow
def test_a_report_of_two_hundred_cells_takes_seconds(tmp_path):
    tasks = ("hopper", "walker", "swimmer", "cheetah", "ant", "reacher", "double-pendulum", "pendulum")
    variants = tuple(Variant(str(labels), labels=labels) for labels in (1400, 700, 350))
    returns = {(task, name): tuple(range(7)) for task in tasks for name in ("true", "1400", "700", "350")}
    finish_suite(suite(variants=variants, tasks=tasks, seeds=tuple(range(7))), tmp_path / "r", returns, rows=120)
    (tmp_path / "r" / "random.json").write_text(json.dumps({"episodes": 30, "returns": dict.fromkeys(tasks, -9.0)}))
    before = time.process_time()
    found = write_report([tmp_path / "r"], tmp_path / "report")
    assert time.process_time() - before < 20
    assert len(found.results.finished) == 224


def test_names_of_a_user_s_own_are_no_markup(tmp_path):
    name = "<script>alert(1)</script>"
    returns = {(task, name if variant == "full" else variant): value for (task, variant), value in RETURNS.items()}
    write_report([made(tmp_path / "r", returns, variants=(Variant(name),))], tmp_path / "report")
    assert "<script>" not in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.usefixtures("unpainted")
def test_missing_seeds_are_reported_and_the_others_of_the_task_s_seeds_are_taken(tmp_path):
    found = analyse([made(tmp_path / "r", without(("reacher", "full")))])
    (full,) = (each for each in found.aggregates if each.variant == "full")
    assert (full.seeds, full.missing) == ((0,), "1 of 2 seeds")
    # With one seed, the baseline is that seed's: (-3 + 10) / (-2 + 10)
    (reacher,) = (each for each in found.scores if (each.group.task, each.group.variant) == ("reacher", "full"))
    np.testing.assert_allclose(reacher.scores, [7 / 8])
    assert "partial: 1 of 8 cells are not finished" in found.problems
    assert "left out: not begun: reacher_ppo_oracle-sync-50_s1" in found.problems
    assert "full: aggregates are over 1 of 2 seeds" in found.problems


@pytest.mark.usefixtures("unpainted")
def test_the_table_for_a_readme(folder, tmp_path):
    write_report([folder], tmp_path / "report")
    lines = (tmp_path / "report" / "summary.md").read_text().splitlines()
    assert lines[0] == "| task | random policy | true reward | full |"
    assert lines[2:4] == ["| cheetah | −100 | 400 | 300 (0.80) |", "| reacher | −10.0 | −3.00 | −4.00 (0.86) |"]
    assert re.fullmatch(r"\| \*\*IQM of the scores\*\* \| 0 \| 1 \| \*\*0\.86 \(0\.\d\d to 1\.00\)\*\* \|", lines[4])
    assert lines[5:] == ["", "Returns: last 100 training episodes."]  # the paper has no runs from 50 labels


@pytest.mark.usefixtures("unpainted")
def test_the_table_says_what_it_lacks(tmp_path):
    write_report([made(tmp_path / "r", without(("reacher", "full")))], tmp_path / "report")
    lines = (tmp_path / "report" / "summary.md").read_text().splitlines()
    assert lines[-3] == "| so far over |  |  | 1 of 2 seeds |"


@pytest.mark.usefixtures("unpainted")
def test_many_cells_that_are_not_begun_are_one_line(tmp_path):
    folder = made(tmp_path / "r", {("cheetah", "true"): (300.0, 500.0, *[None] * 100)}, seeds=tuple(range(102)))
    write_report([folder], tmp_path / "report")
    lines = [line for line in analyse([folder]).problems if "not begun" in line]
    assert lines[0].startswith("left out: not begun: cheetah_ppo_oracle-sync-50_s0, reacher_ppo_none_s0, ")
    assert lines[0].endswith(" and 398 more")
    assert '<td class="name">406 more</td>' in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.usefixtures("unpainted")
def test_a_budget_without_its_true_reward_has_no_score(tmp_path):
    found = analyse([made(tmp_path / "r", RETURNS | {("reacher", "true"): (None, None)})])
    assert "reacher, full: no score: no true-reward run is finished" in found.problems
    (full,) = (each for each in found.aggregates if each.variant == "full")
    assert (full.tasks, full.missing) == (("cheetah",), "1 of 2 tasks")


@pytest.mark.usefixtures("unpainted")
def test_no_score_if_the_true_reward_agent_is_no_better_than_random(tmp_path):
    returns = RETURNS | {("reacher", "true"): (-10.5, -11.0)}  # a negative span would turn worse into better
    folder = made(tmp_path / "r", returns)
    found = analyse([folder])
    assert "reacher, full: no score: the true-reward agent is no better than a random policy" in found.problems
    assert {score.group.task for score in found.scores} == {"cheetah"}
    lines = {each.what for each in compare(read_results([folder]), read_results([folder]), RANDOM_BASELINES)}
    assert "reacher, full: return" in lines
    assert not [line for line in lines if "IQM" in line]


@pytest.mark.usefixtures("unpainted")
def test_returns_stand_beside_scores_of_the_same_seeds(tmp_path):
    write_report([made(tmp_path / "r", without(("cheetah", "true")))], tmp_path / "report")
    assert "| cheetah | −100 | 300 | 200 (0.75) |" in (tmp_path / "report" / "summary.md").read_text()
    (cheetah,) = (
        r for r in rows(tmp_path / "report" / "scores.csv") if (r["task"], r["variant"]) == ("cheetah", "full")
    )
    assert (cheetah["runs"], cheetah["planned"], float(cheetah["return"])) == ("1", "2", 200)


@pytest.mark.usefixtures("unpainted")
def test_no_score_if_the_true_reward_agent_has_other_seeds(tmp_path):
    returns = RETURNS | {("reacher", "true"): (-2.0, None), ("reacher", "full"): (None, -5.0)}
    found = analyse([made(tmp_path / "r", returns)])
    assert "reacher, full: no score: no true-reward run has its seeds" in found.problems


def test_two_suites_side_by_side(folder, tmp_path):
    other = made(tmp_path / "other", name="other")
    found = write_report([folder, other], tmp_path / "report")
    assert {each.suite for each in found.aggregates} == {"test", "other"}
    assert (tmp_path / "report" / "other-returns.svg").exists()
    assert not found.problems


def test_a_report_of_nothing_is_refused_in_one_line(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no suite.json" in refused(prefrl("bench", "report", empty, "--out", tmp_path / "out"), 2)
    nothing = made(tmp_path / "nothing", {})
    assert "no cell of" in refused(prefrl("bench", "report", nothing, "--out", tmp_path / "out"), 1)


@pytest.mark.usefixtures("unpainted")
def test_a_report_names_cells_in_which_no_episode_ended(folder, tmp_path):
    for path in folder.glob("*/summary.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"true_return_mean": None}))
    said = refused(prefrl("bench", "report", folder, "--out", tmp_path / "out"), 1)
    assert "no cell of" in said
    assert "no episode ended" in said
    assert not (tmp_path / "out").exists()
    assert "name the folder" in refused(prefrl("bench", "report", "--out", tmp_path / "out"), 2)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", ["{", "[]", '{"format": 1}', '{"format": 1, "cells": [{}], "suite": {}}'])
def test_a_damaged_manifest_is_refused_in_one_line(folder, tmp_path, content):
    (folder / "suite.json").write_text(content)
    assert "suite.json is damaged" in refused(prefrl("bench", "report", folder, "--out", tmp_path / "out"), 1)


def test_results_of_a_newer_version_are_refused(folder):
    manifest = json.loads((folder / "suite.json").read_text())
    (folder / "suite.json").write_text(json.dumps(manifest | {"format": 2}))
    with pytest.raises(UsageError, match="newer version"):
        read_results([folder])


def test_a_report_that_cannot_be_written(folder, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot be written" in refused(prefrl("bench", "report", folder, "--out", tmp_path / "file"), 2)


@pytest.mark.usefixtures("unpainted")
def test_the_command_tells_where_the_report_is_and_what_it_lacks(tmp_path):
    folder = made(tmp_path / "r", without(("cheetah", "full")))
    done = prefrl("bench", "report", folder, "--out", tmp_path / "out")
    assert done.code == 0
    assert done.out == f"{tmp_path / 'out' / 'report.html'}: 7 of 8 cells\n"
    assert "prefrl: partial: 1 of 8 cells are not finished" in done.err


@pytest.mark.usefixtures("unpainted")
def test_a_report_lies_in_the_folder_that_it_is_of(folder, tmp_path):
    done = prefrl("bench", "report", folder)
    assert done.code == 0, done.err
    assert done.out == f"{folder / 'report' / 'report.html'}: 8 of 8 cells\n"
    assert (folder / "report" / "report.html").exists()
    assert prefrl("bench", "report", folder).out == done.out  # the report is no cell of the results
    assert "--out" in refused(prefrl("bench", "report", folder, tmp_path), 2)


def test_without_its_libraries_the_report_says_what_to_install(folder, tmp_path, monkeypatch):
    from prefrl_benchmarks import requirements

    monkeypatch.setattr(requirements.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'prefrl[bench]'" in refused(prefrl("bench", "report", folder, "--out", tmp_path / "out"), 1)


def test_comparing_tells_better_from_worse(folder, tmp_path):
    returns = {
        key: tuple(value + 1000 * (key == ("cheetah", "full")) for value in values) for key, values in RETURNS.items()
    }
    new = made(tmp_path / "new", returns | {("reacher", "full"): (-9.0, -9.5)})
    found = {each.what: each for each in compare(read_results([folder]), read_results([new]), RANDOM_BASELINES)}
    cheetah = found["cheetah, full: return"]
    assert (cheetah.old, cheetah.new, cheetah.verdict) == (300, 1300, "better")
    assert cheetah.range.low > 0
    assert found["reacher, full: return"].verdict == "worse"
    assert found["cheetah, true: return"].verdict == "no difference found"
    lines = compare_folders(folder, new)
    assert any(re.match(r"better +cheetah, full: return 300 -> 1300: \+1e\+03 \(", line) for line in lines)
    assert any("IQM of the score over 2 tasks" in line for line in lines)
    assert f"scores are normalised by the true-reward agents of {folder}" in lines


def test_comparing_reports_differing_steps(folder, tmp_path):
    longer = made(tmp_path / "longer", steps=20_000)
    assert "cheetah, full: 10,000 steps before, 20,000 after" in compare_folders(folder, longer)
    assert not [line for line in compare_folders(folder, folder) if "steps before" in line]


def test_comparing_says_what_it_cannot_tell(folder, tmp_path):
    single = made(tmp_path / "single", {key: values[:1] for key, values in RETURNS.items()}, seeds=(0,))
    assert {each.verdict for each in compare(read_results([folder]), read_results([single]), RANDOM_BASELINES)} == {
        "one run: cannot be told"
    }
    other = made(
        tmp_path / "other", {("cheetah", "other"): (1.0, 2.0)}, variants=(dataclasses.replace(FULL, name="other"),)
    )
    with pytest.raises(PrefrlError, match="no finished variant of a task in common"):
        compare(read_results([folder]), read_results([other]), RANDOM_BASELINES)
