"""Studies that train: what their analyses conclude from runs whose figures are known."""

import numpy as np
import pytest
from prefrl_benchmarks.studies.command import begin
from prefrl_benchmarks.studies.judge.analysis import answered_by_person
from prefrl_benchmarks.studies.over_optimisation.analysis import Climb, fall
from prefrl_benchmarks.studies.study import Measured, Verdict, find_study
from prefrl_benchmarks.studies.trained import Trained, overlap, spread
from runs import prefrl
from studied import finished, ran, return_at

pytestmark = pytest.mark.usefixtures("unpainted")


def test_scores_and_late_metrics_by_hand(tmp_path):
    columns = {"policy_entropy": [8.0, 4.0, 2.0, None]}
    folder = finished("mode-collapse", tmp_path / "out", {"true": 1.0, "learned": (0.5, columns)})
    trained = Trained(Measured({}, (), folder))
    assert trained.tasks == ["cheetah", "hopper"]
    np.testing.assert_allclose(trained.returns("cheetah", "learned"), [400, 401, 402])
    # The true reward's agents have a mean of 901.
    np.testing.assert_allclose(trained.scores("cheetah", "learned"), np.array([500, 501, 502]) / 1001)
    assert trained.late("cheetah", "learned", "policy_entropy").tolist() == [2.0] * 3
    assert trained.late("cheetah", "learned", "policy_entropy", last=0.7).tolist() == [3.0] * 3
    assert np.isnan(trained.late("cheetah", "true", "policy_entropy")).all()
    assert trained.returns("cheetah", "imitation").size == trained.scores("cheetah", "imitation").size == 0


def test_what_is_not_finished_is_not_judged(tmp_path):
    folder = finished("judge", tmp_path / "out", {"true": 1.0, "person": 1.0})
    begin(find_study("judge"), folder)
    refused = prefrl("bench", "report", folder)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "24 of 36 runs are not finished: go on with prefrl bench run judge" in refused.err


def test_intervals_overlap_or_not():
    low, high = np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0])
    assert not overlap(low, high)
    assert not overlap(high, low)
    assert overlap(low, high - 2.5)


def test_a_spread_has_its_interval():
    assert spread(np.array([1.0, 1.0, 1.0])) == "1.00 (1.00 to 1.00)"
    assert spread(np.empty(0)) == "-"
    assert spread(np.array([1000.0, 3000.0]), 0) == "2,000 (1,000 to 3,000)"


@pytest.mark.parametrize(
    ("scores", "verdict"),
    [
        ({"pairs": 0.9, "ratings": 0.95, "pairs-quarter": 0.8, "ratings-quarter": 0.7}, Verdict.HELD),
        ({"pairs": 0.9, "ratings": 0.8, "pairs-quarter": 0.8, "ratings-quarter": 0.7}, Verdict.PARTLY),
        ({"pairs": 0.9, "ratings": 0.8, "pairs-quarter": 0.7, "ratings-quarter": 0.8}, Verdict.FAILED),
    ],
)
def test_ratings_are_judged_by_their_bound_and_by_a_quarter_of_the_time(tmp_path, scores, verdict):
    found = ran("ratings-or-pairs", tmp_path / "out", {"true": 1.0} | scores)
    assert found.verdict is verdict
    better = "ratings" if scores["ratings"] > scores["pairs"] else "comparisons"
    assert f"{better} have the higher mean" in found.findings
    row = next(row for row in found.table if (row["task"], row["variant"]) == ("hopper", "ratings"))
    assert (row["labels"], row["minutes"]) == (933, "46.6")


def held(near, far, kept):
    """Agents with these divergences in the second half; those with an infinite penalty have the score `kept`."""
    columns = {name: {"kl_to_reference": [9.0, 9.0, kl, kl]} for name, kl in (("near", near), ("far", far))}
    wide = {"kl_to_reference": [9.0] * 4}
    return {"reference": 1.0, "free": (1.2, wide), "infinite": (kept, {"kl_to_reference": [1.0, 0.1, 0.1, 0.1]})} | {
        name: (1.1, each) for name, each in columns.items()
    }


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        ((0.59, 1.61, 1.0), Verdict.HELD),
        ((0.61, 1.61, 1.0), Verdict.PARTLY),
        ((0.59, 1.59, 1.0), Verdict.PARTLY),
        ((0.59, 1.61, 0.9), Verdict.PARTLY),
        ((3.0, 9.0, 0.5), Verdict.FAILED),
    ],
)
def test_a_target_is_held_within_a_fifth_and_an_infinite_penalty_within_the_spread(tmp_path, figures, verdict):
    assert ran("kl", tmp_path / "out", held(*figures)).verdict is verdict


@pytest.mark.parametrize(
    ("scores", "verdict", "named"),
    [
        ((1.2, 1.0, 0.5, 1.0), Verdict.HELD, "offline on cheetah, offline on hopper"),
        ((1.2, 1.0, 1.0, 1.0), Verdict.PARTLY, "none"),
        ((0.8, 0.8, 1.0, 0.8), Verdict.FAILED, "online on cheetah, online-kl on cheetah, offline-kl on cheetah"),
    ],
)
def test_only_offline_labels_without_a_penalty_may_end_below_the_reference(tmp_path, scores, verdict, named):
    names = ("online", "online-kl", "offline", "offline-kl")
    found = ran("offline-and-kl", tmp_path / "out", {"reference": 1.0} | dict(zip(names, scores, strict=True)))
    assert found.verdict is verdict
    assert f"Below 0.9 is {named}" in found.findings


def test_a_climb_by_hand():
    true = np.array([0.0, 1.0, 0.8, 0.2, 0.4])
    one = Climb(np.arange(5.0), np.array([0.0, 1.0, 2.0, 3.0, 5.0]), true)
    assert fall(one.true) == pytest.approx(0.9 - 0.3)
    assert one.rise == pytest.approx(5.0 - 2.0)  # since the second of the best two


def climbs(few, many, noisy=0.7):
    """Fresh agents whose true scores end here, after a best one of 1; that of all other models ends at 0.8."""
    ends = {"fresh-50": few, "fresh-1400": many, "fresh-noisy-500": noisy}

    def told(cell):
        if cell.variant == "true":
            falling = [return_at(cell.task, score) for score in (0.0, 1.05, 1.05, 1.0, 1.0)]
            return 1.0, {"evaluation_return_mean": falling}
        if not cell.variant.startswith("fresh-"):
            return 1.0
        last = ends.get(cell.variant, 0.8)
        returns = [return_at(cell.task, score) for score in (0.0, 1.0, 1.0, last, last)]
        columns = {"evaluation_return_mean": returns, "kl_to_reference": [0.0, 1.0, 4.0, 9.0, 16.0]}
        return last, columns | {"predicted_reward_mean": [0.0, 1.0, 2.0, 3.0, 4.0]}

    return told


@pytest.mark.parametrize(
    ("ends", "verdict"),
    [
        ((0.5, 0.95), Verdict.HELD),
        ((0.5, 0.86), Verdict.HELD),  # no more than a tenth below what the true reward's agents lose
        ((0.5, 0.5), Verdict.PARTLY),
        ((0.5, 0.95, 0.85), Verdict.PARTLY),
        ((0.95, 0.5, 0.85), Verdict.FAILED),
    ],
)
def test_a_fall_after_the_best_is_over_optimisation(tmp_path, ends, verdict):
    found = ran("over-optimisation", tmp_path / "out", climbs(*ends))
    assert found.verdict is verdict
    row = found.table[0]
    assert (row["task"], row["labels"], row["√KL at the end"]) == ("hopper", "50", "4.0")
    assert row["fall"].startswith(f"{1 - ends[0]:.2f}")
    assert row["rise of the prediction since"].startswith("2.00")


@pytest.mark.parametrize(
    ("entropies", "verdict"),
    [
        ((3.0, 1.0, 2.5, 2.0), Verdict.HELD),
        ((3.0, 2.2, 1.0, 2.1), Verdict.PARTLY),
        ((1.0, 2.5, 2.9, 2.0), Verdict.FAILED),
    ],
)
def test_collapse_is_read_from_entropies(tmp_path, entropies, verdict):
    names = ("true", "learned", "learned-kl", "imitation")
    each = {name: (1.0, {"policy_entropy": [9.0] + [value] * 9}) for name, value in zip(names, entropies, strict=True)}
    each["reference"] = (1.0, {"policy_entropy": [2.45] * 10})
    assert ran("mode-collapse", tmp_path / "out", each).verdict is verdict


def answered(**counts):
    return {}, {"labels_by_teacher": counts}


def test_a_judge_is_measured_against_the_person(tmp_path):
    told = {
        "true": 1.2,
        "person": (1.0, *answered(oracle=700)),
        "person-150": (0.5, *answered(oracle=150)),
        "person-383": (0.9, *answered(oracle=383)),
        "judge": (0.96, *answered(judge=467, oracle=233)),
        "judge-alone": (0.7, *answered(judge=700)),
    }
    found = ran("judge", tmp_path / "held", told)
    assert found.verdict is Verdict.HELD
    asked = {row["variant"]: row["answers of the person"] for row in found.table}
    assert asked == {"person": "700", "judge": "383", "judge-alone": "150", "person-383": "383", "person-150": "150"}
    assert ran("judge", tmp_path / "partly", told | {"judge": (0.9, *answered(judge=467))}).verdict is Verdict.PARTLY
    assert ran("judge", tmp_path / "failed", told | {"judge": (0.6, *answered(judge=467))}).verdict is Verdict.FAILED


def test_answers_of_a_judge_are_no_person_s():
    assert answered_by_person({"labels_by_teacher": {"judge": 5, "oracle": 3, "ada": 2}}) == 5
    assert answered_by_person({}) == 0


@pytest.mark.parametrize(
    ("shown", "expert", "verdict", "said"),
    [
        (
            0.31,
            0.31,
            Verdict.HELD,
            "In 12 of 12 cases with the demonstrator's and 8 of 8 cases with the expert's demonstrations, ",
        ),
        (0.31, 0.0, Verdict.PARTLY, "0 of 8 cases with the expert's demonstrations, "),
        (0.0, 0.31, Verdict.PARTLY, "In 0 of 12 cases with the demonstrator's and 8 of 8 cases"),
        (0.0, 0.0, Verdict.FAILED, "labels without; not shown-6 against 12 on cheetah, "),
    ],
)
def test_half_of_the_labels_must_be_enough(tmp_path, shown, expert, verdict, said):
    budgets = {6: 0.02, 12: 0.05, 25: 0.1, 50: 0.2, 100: 0.5, 200: 0.8, 400: 0.9}
    told = {"true": 1.0, "demonstrator": 0.4, "cloned": 0.3}
    told |= {str(labels): score for labels, score in budgets.items()}
    told |= {f"shown-{labels}": score + shown for labels, score in budgets.items()}
    told |= {f"expert-{labels}": budgets[labels] + expert for labels in (6, 12, 25, 50)}
    found = ran("demonstrations", tmp_path / "out", told)
    assert found.verdict is verdict
    assert said in found.findings
    assert f"cheetah: 6 labels 0.02 / {0.02 + shown:.2f} / {0.02 + expert:.2f}, 12 labels" in found.findings
    assert f"100 labels 0.50 / {0.5 + shown:.2f}, 200" in found.findings


def test_imitation_is_compared_with_a_reward_model_on_cheetah(tmp_path):
    scores = {"true": 1.0, "reward-model": 0.9, "share": 0.4, "bucket": 0.3, "chance": 0.5}
    assert ran("imitation-of-the-best", tmp_path / "below", scores).verdict is Verdict.HELD
    assert ran("imitation-of-the-best", tmp_path / "above", scores | {"share": 0.95}).verdict is Verdict.PARTLY
