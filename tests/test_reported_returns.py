"""Scores and tables state which returns they use, and never mix evaluation and training returns."""

import csv
import json

import pytest
from bench_runs import FULL, finish_suite, suite
from prefrl_benchmarks.learning import score_lines
from prefrl_benchmarks.publish import publish
from prefrl_benchmarks.report.compare import compare, compare_folders
from prefrl_benchmarks.report.page import analyse, write_report
from prefrl_benchmarks.results import read_results
from prefrl_benchmarks.returns import common_returns, returns_text

from prefrl.errors import PrefrlError

RANDOM_BASELINES = {"cheetah": -100.0, "reacher": -10.0}
TRAINING = {
    ("cheetah", "true"): (300.0, 500.0),
    ("cheetah", "full"): (200.0, 400.0),
    ("reacher", "true"): (-2.0, -4.0),
    ("reacher", "full"): (-3.0, -5.0),
}
EVALUATIONS = {
    ("cheetah", "true"): (400.0, 600.0),
    ("cheetah", "full"): (500.0, 700.0),
    ("reacher", "true"): (-1.0, -3.0),
    ("reacher", "full"): (-2.0, -6.0),
}
"""Normalised: cheetah 600 / 600 and 800 / 600, reacher 8 / 8 and 4 / 8."""
TEXT = "evaluation: 10 episodes of the mean action"
OLD_TEXT = "last 100 training episodes"
ONE_LACKS = EVALUATIONS | {("reacher", "full"): (-2.0, None)}


def made(out, evaluations=None, returns=TRAINING, **changes):
    finish_suite(suite(**changes), out, returns, evaluations=evaluations)
    (out / "random.json").write_text(json.dumps({"episodes": 30, "returns": RANDOM_BASELINES}))
    return out


def scores_of(found):
    return {(each.group.task, each.group.variant): each.scores.tolist() for each in found.scores}


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_scores_are_of_the_evaluation_where_all_cells_have_it(tmp_path):
    found = analyse([made(tmp_path / "r", EVALUATIONS)])
    assert found.problems == []
    scores = scores_of(found)
    assert scores["cheetah", "full"] == pytest.approx([1.0, 800 / 600])
    assert scores["reacher", "full"] == pytest.approx([1.0, 0.5])
    assert {each.true_baseline for each in found.scores} == {
        500.0,
        -2.0,
    }  # evaluations as well


def test_results_of_older_versions_report_training_returns(tmp_path):
    found = analyse([made(tmp_path / "r")])
    assert found.problems == []
    assert scores_of(found)["cheetah", "full"] == pytest.approx([0.6, 1.0])


@pytest.mark.parametrize(
    ("evaluations", "text", "kind"), [(EVALUATIONS, TEXT, "evaluation"), (None, OLD_TEXT, "training")]
)
def test_every_table_and_page_states_which_returns_it_uses(tmp_path, evaluations, text, kind):
    folder, out = made(tmp_path / "r", evaluations), tmp_path / "report"
    write_report([folder], out)
    table = (out / "summary.md").read_text().splitlines()
    assert table[-1] == f"Returns: {text}."
    assert table[2].startswith(
        "| cheetah | −100 | 500 | 600 (1.17) |" if evaluations else "| cheetah | −100 | 400 | 300 "
    )
    assert {row["returns"] for row in rows(out / "scores.csv")} == {kind}
    assert f"<p>Returns: {text}.</p>" in (out / "report.html").read_text()
    assert f"true return, {kind}" in (out / "returns.svg").read_text()
    assert "true return, training" in (out / "curves.svg").read_text()
    assert f"returns: {text}" in score_lines(read_results([folder]), RANDOM_BASELINES)
    assert f"returns: {text}" in compare_folders(folder, folder)


def test_a_mixture_reports_training_returns_and_names_unevaluated_cells(tmp_path):
    found = analyse([made(tmp_path / "r", ONE_LACKS)])
    assert scores_of(found) == scores_of(analyse([made(tmp_path / "old")]))
    assert found.problems == [
        "test: all returns are of the last 100 training episodes, since 1 of 8 cells were not evaluated: "
        "reacher_ppo_oracle-sync-50_s1"
    ]
    assert f"Returns: {OLD_TEXT}." in summary_of(found)


def summary_of(found):
    from prefrl_benchmarks.report.texts import summary_table

    return summary_table(found.scores, found.aggregates, found.results.returns_text("test"))


def test_a_run_in_which_no_training_episode_ended_has_its_evaluation(tmp_path):
    folder = made(tmp_path / "r", EVALUATIONS)
    path = folder / "reacher_ppo_oracle-sync-50_s1" / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"true_return_mean": None}))
    assert scores_of(analyse([folder]))["reacher", "full"] == pytest.approx([1.0, 0.5])
    made(tmp_path / "mixed", ONE_LACKS)
    (tmp_path / "mixed" / "reacher_ppo_none_s0" / "summary.json").write_text(path.read_text())
    said = analyse([tmp_path / "mixed"]).problems
    assert "reacher_ppo_none_s0: left out: no episode ended" in said


def test_two_suites_may_have_returns_of_either_kind_and_each_says_which(tmp_path):
    new, old = made(tmp_path / "new", EVALUATIONS), made(tmp_path / "old", name="other")
    write_report([new, old], tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text()
    assert f"<p>Returns of test: {TEXT}.</p>" in page
    assert f"<p>Returns of other: {OLD_TEXT}.</p>" in page
    assert (tmp_path / "report" / "other-summary.md").read_text().endswith(f"Returns: {OLD_TEXT}.\n")


def test_results_that_were_evaluated_are_compared_with_older_ones_by_training(tmp_path):
    new, old = made(tmp_path / "new", EVALUATIONS), made(tmp_path / "old")
    for before, after in ((old, new), (new, old)):
        lines = compare_folders(before, after)
        assert f"{old}: not evaluated: returns of both are of the {OLD_TEXT}" in lines
        assert f"returns: {OLD_TEXT}" in lines
        assert any("cheetah, full: return 300 -> 300" in line for line in lines)
    with pytest.raises(PrefrlError, match="cannot be compared"):
        compare(read_results([old]), read_results([new]), RANDOM_BASELINES)
    better = {key: tuple(value + 50 for value in values) for key, values in EVALUATIONS.items()}
    assert any(
        "cheetah, full: return 600 -> 650" in line for line in compare_folders(new, made(tmp_path / "b", better))
    )


def test_what_cannot_be_compared_at_all_is_refused(tmp_path):
    new, old = made(tmp_path / "new", EVALUATIONS), made(tmp_path / "old")
    for path in new.glob("*/summary.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"true_return_mean": None}))
    with pytest.raises(PrefrlError, match="has no training returns"):
        compare_folders(old, new)


def test_a_published_copy_says_the_same(tmp_path):
    publish(made(tmp_path / "r", EVALUATIONS), tmp_path / "out")
    assert scores_of(analyse([tmp_path / "out"])) == scores_of(analyse([tmp_path / "r"]))
    assert read_results([tmp_path / "out"]).returns_text("test") == TEXT


def test_which_returns_runs_have_in_common():
    both = {"true_return_mean": 1.0, "evaluation_return_mean": 2.0, "evaluation_episodes": 10}
    old, neither = {"true_return_mean": 1.0}, {"true_return_mean": None, "evaluation_return_mean": None}
    assert common_returns([both, both]) == common_returns([both, neither]) == "evaluation"
    assert (
        common_returns([both, old])
        == common_returns([old])
        == common_returns([])
        == common_returns([neither])
        == "training"
    )
    assert returns_text("evaluation", [both, both | {"evaluation_episodes": 3}]) == (
        "evaluation: 3 or 10 episodes of the mean action"
    )


def test_the_suite_s_own_variants_are_evaluated_alike():
    assert {cell.config.evaluation.episodes for cell in suite(variants=(FULL,)).cells()} == {10}
