"""Predicted outcomes of comparisons: risk against coverage, calibration, and `prefrl reward outcomes`."""

import csv
import importlib.util
import json
import math

import numpy as np
import pytest
from helpers import quick
from hypothesis import given
from hypothesis import strategies as st
from labelled import add_labels, better, make_run
from matplotlib.figure import Figure
from runs import error_line, prefrl

from prefrl.errors import UsageError
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.outcomes import (
    log_loss,
    of_the_most_likely,
    outcome_probabilities,
    reliability,
    risk_coverage,
    sureness,
)
from prefrl.feedback.terms import GivenAnswer
from prefrl.reward.outcome_request import outcome_request, split_folds
from prefrl.reward.outcome_results import OutcomeResults, Prediction, figure, outcome_of

# -- pure functions, worked by hand -----------------------------------------------------------------------------------


def test_the_three_outcomes_by_hand():
    found = outcome_probabilities(np.array([0.8, 0.5]), np.array([0.25, 1.0]))
    np.testing.assert_allclose(found, [[0.6, 0.15, 0.25], [0.0, 0.0, 1.0]])


def test_sureness_is_the_probability_of_the_likelier_side():
    assert sureness(0.2, 0.25) == pytest.approx(0.6)
    assert sureness(0.9, 1.0) == 0
    assert sureness(0.7) == 0.7


def test_risk_against_coverage_by_hand():
    # The surest is right. Of the next two, equally sure, one is wrong. The last is wrong.
    curve = risk_coverage(np.array([0.6, 0.8, 0.9, 0.8]), np.array([True, True, False, False]))
    np.testing.assert_allclose(curve.coverage, [0.25, 0.75, 1])
    np.testing.assert_allclose(curve.risk, [0, 1 / 3, 0.5])
    assert curve.area == pytest.approx(0.25 * 0 + 0.5 / 3 + 0.25 * 0.5)
    assert [curve.accuracy(share) for share in (0.1, 0.25, 0.5, 0.75, 0.8, 1.0)] == pytest.approx(
        [1, 1, 2 / 3, 2 / 3, 0.5, 0.5]
    )


@quick
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=1, max_size=30))
def test_each_point_of_the_curve_answers_all_that_is_as_sure(answers):
    sure, wrong = (np.array(values) for values in zip(*answers, strict=True))
    curve = risk_coverage(sure, wrong)
    levels = sorted(set(sure.tolist()), reverse=True)
    assert len(curve.coverage) == len(levels)
    for level, coverage, risk in zip(levels, curve.coverage, curve.risk, strict=True):
        given_ = sure >= level
        assert coverage == pytest.approx(given_.mean())
        assert risk == pytest.approx(wrong[given_].mean())
    assert curve.coverage[-1] == 1
    assert 0 <= curve.area <= 1


def test_calibration_by_hand():
    found = reliability(np.array([0.05, 0.1, 0.19, 0.95, 1.0]), np.array([False, True, False, True, True]))
    assert found.number.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]
    np.testing.assert_allclose(found.predicted[[0, 1, 9]], [0.05, 0.145, 0.975])
    np.testing.assert_allclose(found.true[[0, 1, 9]], [0, 0.5, 1])
    assert np.isnan(found.predicted[2])
    assert np.isnan(found.true[2])
    # (1 * 0.05 + 2 * 0.355 + 2 * 0.025) / 5
    assert found.error == pytest.approx((0.05 + 0.71 + 0.05) / 5)


def test_predictions_that_come_true_as_often_as_they_say_have_no_error():
    assert reliability(np.full(10, 0.3), np.arange(10) < 3).error == pytest.approx(0)
    assert reliability(np.full(10, 0.3), np.arange(10) < 8).error == pytest.approx(0.5)


def test_bins_can_be_of_another_width():
    found = reliability(np.array([0.2, 0.4, 0.9]), np.array([True, False, True]), bins=2)
    assert found.number.tolist() == [2, 1]
    assert found.error == pytest.approx((2 * 0.2 + 0.1) / 3)


def test_the_most_likely_outcome():
    probability, right = of_the_most_likely(
        np.array([[0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.3, 0.4, 0.3]]), np.array([0, 1, 1])
    )
    assert probability.tolist() == [0.6, 0.7, 0.4]
    assert right.tolist() == [True, False, True]


def test_the_log_loss_by_hand():
    assert log_loss(np.array([0.5, 0.25]), np.array([True, False])) == pytest.approx(-math.log(0.5 * 0.75) / 2)
    assert math.isfinite(log_loss(np.array([0.0, 1.0]), np.array([True, False])))


# -- results ----------------------------------------------------------------------------------------------------------


def results():
    rows = [
        (1, 0, "left", 0.90, 0.05, 0.05),  # right
        (2, 0, "incomparable", 0.20, 0.00, 0.80),  # the side is certain, but it cannot be told
        (3, 1, "right", 0.30, 0.60, 0.10),  # right
        (4, 1, "left", 0.30, 0.40, 0.30),  # wrong
        (5, 1, "equal", 0.50, 0.50, 0.00),  # left out, but told
    ]
    return OutcomeResults("runs/one", "reacher", 2, 7, 640, [Prediction(*row) for row in rows])


def test_what_cannot_be_told_is_answered_last():
    curve = results().curve  # in the order 1, 3, 4, 2
    np.testing.assert_allclose(curve.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(curve.risk, [0, 0, 1 / 3, 0.5])
    sides = results().curve_of_sides  # 2 with 1, then 1 with 18/19, 3 with 2/3, 4 with 4/7
    np.testing.assert_allclose(sides.coverage, [0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(sides.risk, [1, 0.5, 1 / 3, 0.5])


def test_a_query_that_certainly_cannot_be_told_has_no_sides():
    found = OutcomeResults("r", "t", 2, 0, 1, [Prediction(1, 0, "incomparable", 0.0, 0.0, 1.0)])
    assert found.curve_of_sides.risk.tolist() == [1]


def test_calibration_of_the_outcomes_and_of_cannot_tell():
    found = results()
    # 0.9 right, 0.8 right, 0.6 right, 0.4 wrong; each in a bin of its own.
    assert found.calibration.error == pytest.approx((0.1 + 0.2 + 0.4 + 0.4) / 4)
    # 0.8 true; 0.05 and 0 (of a tie) in the first bin, 0.1 and 0.3 false.
    assert found.calibration_of_untold.error == pytest.approx((0.2 + 0.05 + 0.1 + 0.3) / 5)


def test_results_in_files(tmp_path):
    paths = results().write(tmp_path / "new" / "out")
    assert [path.name for path in paths] == ["outcomes.json", "outcomes.csv", "outcomes.png"]
    found = json.loads(paths[0].read_text())
    assert found["answers"] == {"left": 2, "right": 1, "equal": 1, "incomparable": 1}
    assert (found["run"], found["task"], found["folds"], found["seed"], found["comparisons"]) == (
        "runs/one",
        "reacher",
        2,
        7,
        640,
    )
    assert found["with_incomparable"]["accuracy_at_coverage"] == {"0.5": 1.0, "0.8": 0.5, "1": 0.5}
    assert found["with_incomparable"]["risk"] == pytest.approx([0, 0, 1 / 3, 0.5])
    assert found["sides_alone"]["coverage"] == [0.25, 0.5, 0.75, 1.0]
    assert found["sides_alone"]["area_under_risk"] == pytest.approx((1 + 0.5 + 1 / 3 + 0.5) / 4)
    assert found["calibration_error"] == pytest.approx(0.275)
    assert found["calibration_error_incomparable"] == pytest.approx(0.13)
    assert found["log_loss_incomparable"] == pytest.approx(-math.log(0.95 * 0.8 * 0.9 * 0.7) / 5)
    assert found["log_loss_incomparable_rate"] == pytest.approx(-(math.log(0.2) + 4 * math.log(0.8)) / 5)
    with paths[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "answer": "2",
        "fold": "0",
        "outcome": "incomparable",
        "left": "0.2",
        "right": "0.0",
        "incomparable": "0.8",
    }
    assert len(rows) == 5
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_there_is_no_figure(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert [path.name for path in results().write(tmp_path)] == ["outcomes.json", "outcomes.csv"]


def test_the_figure_has_the_curves_and_the_calibration_side_by_side(monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    figure(results())
    (found,) = drawn
    risks, calibrated = found.axes
    assert (risks.get_subplotspec().colspan.start, calibrated.get_subplotspec().colspan.start) == (0, 1)
    assert [axes.get_xlabel().split(":")[0] for axes in found.axes] == [
        "coverage",
        "predicted probability (size",
    ]
    assert risks.get_ylabel() == "risk: share of wrong answers"
    for line, curve in zip(risks.lines, (results().curve, results().curve_of_sides), strict=True):
        np.testing.assert_array_equal(line.get_ydata(), curve.risk)
    assert [text.get_text() for text in risks.get_legend().get_texts()] == [
        "with can't tell: area 0.208",
        "sides alone: area 0.583",
    ]
    first, second = calibrated.collections
    assert first.get_sizes().tolist() == [10 + 300 / 4] * 4
    assert second.get_sizes().tolist() == pytest.approx([10 + 300 * number / 5 for number in (2, 1, 1, 1)])


def test_results_in_lines():
    assert results().lines() == [
        "runs/one: 5 answers (2 left, 1 right, 1 equal, 1 can't tell), predicted in 2 folds",
        "accuracy at a coverage of 50%, 80%, 100%, and area under the risk:",
        "  with can't tell  1.000, 0.500, 0.500; 0.208",
        "  sides alone      0.500, 0.500, 0.500; 0.583",
        "calibration error: 0.275; of can't tell: 0.130",
        "log loss of can't tell: 0.147 nats; of its rate: 0.500",
    ]


# -- folds ------------------------------------------------------------------------------------------------------------


def answers(count, untold=()):
    return [GivenAnswer(n, (2 * n, 2 * n + 1), None if n in untold else float(n % 2)) for n in range(count)]


def test_outcomes_by_their_targets():
    given_ = [GivenAnswer(1, (0, 1), target) for target in (1.0, 0.0, 0.5, None)]
    assert [outcome_of(answer) for answer in given_] == ["left", "right", "equal", "incomparable"]


def test_folds_are_of_equal_size_and_depend_on_the_seed():
    found = split_folds(answers(22), 5, 0)
    assert sorted(np.bincount(found).tolist()) == [4, 4, 4, 5, 5]
    assert found.tolist() == split_folds(answers(22), 5, 0).tolist()
    assert found.tolist() != split_folds(answers(22), 5, 1).tolist()


def test_answers_about_the_same_pair_are_in_one_fold():
    again = [GivenAnswer(100 + n, (2 * n + 1, 2 * n), 1.0) for n in range(10)]
    found = split_folds([*answers(10), *again], 3, 0)
    assert found[:10].tolist() == found[10:].tolist()


@pytest.mark.parametrize(
    ("given_", "folds", "told"),
    [
        ([], 2, "no answers that prefer a side"),
        ([GivenAnswer(1, (0, 1), 0.5), GivenAnswer(2, (1, 2), None)], 2, "no answers that prefer a side"),
        (answers(3), 4, "answers to 3 queries: too few for 4 folds"),
        (answers(5, untold={0, 1, 2, 3}), 2, "too few answers prefer a side"),
    ],
)
def test_too_few_answers_for_the_folds(given_, folds, told):
    with pytest.raises(UsageError, match=told):
        split_folds(given_, folds, 0)


# -- the command ------------------------------------------------------------------------------------------------------


def unsure(left, right):
    """A labeller who cannot tell if both are bad."""
    both = [float(each.true_rewards.sum()) for each in (left, right)]
    return Judgement.INCOMPARABLE if max(both) < 0 else better(left, right)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("outcomes") / "run")
    add_labels(made, 48, judge=unsure)
    return made


def test_the_command_predicts_each_answer_from_the_others(run, tmp_path):
    done = prefrl("reward", "outcomes", run.root, "--folds", "2", "--comparisons", "640", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    with (tmp_path / "out" / "outcomes.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["answer"]) for row in rows] == list(range(1, 49))
    assert {row["fold"] for row in rows} == {"0", "1"}
    total = [float(row["left"]) + float(row["right"]) + float(row["incomparable"]) for row in rows]
    assert total == pytest.approx([1] * 48)
    found = json.loads((tmp_path / "out" / "outcomes.json").read_text())
    assert (found["folds"], found["seed"], found["comparisons"]) == (2, 0, 640)
    assert found["answers"]["incomparable"] == sum(row["outcome"] == "incomparable" for row in rows) > 5
    # Rewards are easy to learn here, so both models are better than chance.
    assert found["log_loss_incomparable"] < found["log_loss_incomparable_rate"]
    assert found["with_incomparable"]["area_under_risk"] < found["sides_alone"]["area_under_risk"]
    assert f"{run.root}: 48 answers" in done.out
    assert done.out.splitlines()[-1] == f"results: {tmp_path / 'out'}"


def test_arguments_and_runs_that_cannot_be_used(run, tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("x")
    (tmp_path / "file").write_text("x")
    empty = make_run(tmp_path / "empty")
    mixed = make_run(tmp_path / "mixed", feedback="rating,marks")
    true = make_run(tmp_path / "true", teacher="none")
    cases = [
        ((run.root, "--folds", "1"), "--folds must be at least 2"),
        ((run.root, "--folds", "49"), "answers to 48 queries: too few for 49 folds"),
        ((run.root, "--seed", "-1"), "--seed must be in"),
        ((run.root, "--seed", str(2**32)), "--seed must be in"),
        ((run.root, "--comparisons", "0"), "--comparisons must be at least 1"),
        ((run.root, "--out", tmp_path / "used"), "is in use: choose another --out"),
        ((run.root, "--out", tmp_path / "file"), "is in use: choose another --out"),
        ((tmp_path / "nothing",), "nothing"),
        ((empty.root,), "has no answers yet"),
        ((mixed.root,), "has the feedback rating and marks: only outcomes of comparisons are predicted"),
        ((true.root,), "learns no reward"),
    ]
    for words, told in cases:
        done = prefrl("reward", "outcomes", *words)
        assert done.code == 2, (words, done)
        assert told in error_line(done)
        assert len(done.err.splitlines()) == 1


def test_the_request_has_the_defaults_of_a_fit(run, tmp_path):
    found = outcome_request(run.root)
    assert found.out == run.root.with_name("run-outcomes")
    assert (found.folds, found.seed, found.answers) == (5, 0, 48)
    reward = run.config.reward
    assert found.comparisons == min(40_000, int(reward.pretrain_comparisons + reward.comparisons_per_step * 6000))
    (tmp_path / "there").mkdir()
    assert outcome_request(run.root, out=tmp_path / "there", comparisons=1).comparisons == 1
    assert outcome_request(run.root, seed=2**32 - 1, folds=2).folds == 2
