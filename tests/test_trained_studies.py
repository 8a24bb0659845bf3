"""Studies that train: what their analyses conclude from runs whose figures are known."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from prefrl_benchmarks.results import write_manifest
from prefrl_benchmarks.studies.command import begin
from prefrl_benchmarks.studies.distilling.experiment import QUESTIONS
from prefrl_benchmarks.studies.horizon_one.analysis import on_tasks
from prefrl_benchmarks.studies.judge.analysis import answered_by_person
from prefrl_benchmarks.studies.label_what_it_finds.experiment import Failures, clip_mean, fails, nearest_neighbour
from prefrl_benchmarks.studies.over_optimisation.analysis import Climb, fall
from prefrl_benchmarks.studies.study import Measured, Verdict, find_study
from prefrl_benchmarks.studies.trained import Trained, overlap, spread
from runs import prefrl

from prefrl.experience.make_env import make_env
from prefrl.feedback.terms import Label
from prefrl.runs.directory import RunDirectory
from prefrl.runs.metrics import MetricsFile

POINT = "prefrl_benchmarks.studies.horizon_one.environments:Point-v0"
RANDOM = {"cheetah": -100.0, "hopper": 0.0, "walker": 0.0, "reacher": -10.0, "moving-dot": -40.0, POINT: -38.0}
TRUE = {"cheetah": 900.0, "hopper": 1000.0, "walker": 1000.0, "reacher": 0.0, "moving-dot": 960.0, POINT: 962.0}


def return_at(task, score):
    """The return with this score, if a random policy has 0 and the true reward's agent 1."""
    return RANDOM[task] + score * (TRUE[task] - RANDOM[task])


def ran(name, folder, told):
    """Analyse a study whose runs have these figures."""
    return find_study(name).analyse(rows_of(name), finished(name, folder, told))


def finished(name, folder, told):
    """Leave finished runs of a study's suite.

    `told` maps a variant to its score, or to its score and the columns of its metrics: each a list over the run.
    """
    study = find_study(name)
    folder.mkdir()
    write_manifest(study.suite, folder)
    (folder / "random.json").write_text(json.dumps({"episodes": 30, "returns": RANDOM}))
    for cell in study.suite.cells():
        said = told(cell) if callable(told) else told.get(cell.variant)
        if said is None:
            continue
        score, columns, more = (*said, {}, {})[:3] if isinstance(said, tuple) else (said, {}, {})
        run = RunDirectory.create(folder / cell.name, cell.config)
        metrics, value = MetricsFile(run.metrics), return_at(cell.task, score)
        rows = max(map(len, columns.values()), default=2)
        for row in range(rows):
            given = {key: values[row] for key, values in columns.items()}
            metrics.append({"step": cell.steps * (row + 1) // rows, "true_return_mean": value} | given)
        summary = {"task": cell.task, "seed": cell.seed, "steps": cell.steps, "true_return_mean": value}
        summary |= {"evaluation_return_mean": value + cell.seed, "evaluation_return_std": 5.0}
        summary |= {"evaluation_episodes": 10, "steps_per_second": 1.0, "wall_seconds": 1.0, "version": "0", **more}
        run.summary.write_text(json.dumps(summary))
    return folder


def rows_of(name):
    return [] if not find_study(name).has_experiment else pytest.importorskip("test_studies")._rows(name)


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


# -- horizon one ------------------------------------------------------------------------------------------------------

HORIZON_ONE = {
    POINT: {"true-one": 1.1, "marks": 0.9, "marks-one": 0.2, "advantage-one": 0.85, "advantage-late-one": -0.3},
    "reacher": {"true-one": 0.15, "marks": 0.8, "marks-one": 0.0},
    "moving-dot": {"true-one": 1.2, "marks": 1.1, "marks-one": 0.1},
}
WRONG = {
    POINT: {"true-one": 0.7, "marks-one": 0.6, "advantage-one": 0.75, "advantage-late-one": 0.5},
    "reacher": {"true-one": 0.5, "marks-one": 0.6},
    "moving-dot": {"true-one": 0.7, "marks-one": 0.5},
}
"""Scores with which an expectation fails, each of them alone."""


def test_a_horizon_of_one_is_judged_on_tasks(tmp_path):
    told = {task: scores | {"true": 1.0, "values": 0.8} for task, scores in HORIZON_ONE.items()}
    folder = finished("horizon-one", tmp_path / "out", lambda cell: told[cell.task][cell.variant])
    found = find_study("horizon-one").analyse(rows_of("horizon-one"), folder)
    assert found.verdict is Verdict.HELD
    assert "point: true 1.00 (1.00 to 1.00), true-one 1.10 (1.10 to 1.10), marks 0.90" in found.findings
    assert "reacher: true 1." in found.findings
    assert len(found.panels) == 3 + 3


@pytest.mark.parametrize("task", WRONG)
def test_every_expectation_of_a_horizon_of_one_can_fail(task):
    def parts(changed):
        told = {each: scores | changed.get(each, {}) for each, scores in HORIZON_ONE.items()}
        scores = lambda each, name: np.array([told[each][name]] if name in told[each] else [])  # noqa: E731
        return on_tasks(SimpleNamespace(tasks=list(told), scores=scores))[0]

    assert all(parts({}))
    for name, score in WRONG[task].items():
        assert parts({task: {name: score}}).count(False) == 1, name


def test_a_point_is_moved_and_stops_at_the_edge():
    find_study("horizon-one")  # which registers it
    env = make_env(POINT)
    env.reset(seed=0)
    point = env.unwrapped
    point._place = np.array([0.3, 0.95])
    seen, reward, *ends, _ = env.step(np.array([1.0, 2.0]))
    np.testing.assert_allclose(seen, [0.4, 1.0])
    assert reward == pytest.approx(-np.hypot(0.4, 1.0))
    assert ends == [False, False]
    for _ in range(49):
        *_, terminated, truncated, _ = env.step(np.zeros(2))
    assert (terminated, truncated) == (False, True)


# -- distilling -------------------------------------------------------------------------------------------------------


def distilled(students, abstains):
    """Rows of students that keep these shares of a teacher's return of 1 (a random policy's is 0)."""
    rows = []
    for task, observed, share in students:
        for seed in (0, 1, 2):
            values = {"teacher": return_at(task, 1.0), "student": return_at(task, share)}
            rows.append({"task": task, "observed": observed, "seed": seed, **values})
    for task in QUESTIONS:
        for seed in (0, 1):
            for level, (teacher, student) in zip(("0.250", "0.750"), abstains, strict=True):
                rows.append({"task": task, "observed": level, "seed": seed, "teacher": teacher, "student": student})
    return rows


STUDENTS = {
    ("reacher", "all"): 1.0,
    ("reacher", "without velocities"): 1.0,
    ("reacher", "without the target"): 0.2,
    ("hopper", "all"): 0.97,
    ("hopper", "without velocities"): 0.5,
    ("cheetah", "all"): 1.0,
    ("cheetah", "without velocities"): 0.8,
}


@pytest.mark.parametrize(
    ("changed", "abstains", "verdict"),
    [
        ({}, [(0.9, 0.91), (0.1, 0.1)], Verdict.HELD),
        ({("hopper", "without velocities"): 0.95}, [(0.9, 0.9), (0.1, 0.1)], Verdict.PARTLY),
        ({}, [(0.9, 0.9), (0.1, 0.2)], Verdict.PARTLY),
    ],
)
def test_students_are_measured_against_their_teachers(tmp_path, changed, abstains, verdict):
    folder = finished("distilling", tmp_path / "out", {"true": 1.0})
    rows = distilled([(*case, share) for case, share in (STUDENTS | changed).items()], abstains)
    found = find_study("distilling").analyse(rows, folder)
    assert found.verdict is verdict
    row = next(row for row in found.table if row["the student observes"] == "without the target")
    assert row["share of the teacher's return"] == "0.20 (0.20 to 0.20)"


# -- label what it finds ----------------------------------------------------------------------------------------------


def test_a_failure_is_a_label_that_contradicts_the_prediction():
    assert [fails(target, [2.0, 1.0]) for target in (1.0, 0.0, 0.5)] == [None, 0, None]
    assert [fails(target, [1.0, 2.0]) for target in (1.0, 0.0, 0.5)] == [1, None, None]


def test_the_median_distance_to_the_nearest():
    assert nearest_neighbour(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 5.0], [30.0, 0.0]])) == pytest.approx((1 + 5) / 2)
    np.testing.assert_allclose(clip_mean(np.array([[1, 2], [3, 6]], np.float32)), [2, 4])


def test_failures_near_earlier_ones_are_of_no_new_kind():
    clips = {n: np.full((2, 1), value, np.float32) for n, value in enumerate((0.0, 1.0, 1.1, 5.0, -9.0))}
    read = SimpleNamespace(read=lambda segment: (clips[segment], None))
    failures = Failures(deviation=np.array([0.5]), radius=1.0)

    def predicted(features):
        return float(features.sum())

    # The clips 1, 2 and 3 are overrated in turn; 2 is 0.2 deviations from 1, and 3 is 8 from it.
    wrong = [Label(n, (0, n), 1.0) for n in (1, 2, 3)]
    assert failures.add([*wrong, Label(4, (0, 4), 1.0)], read, predicted) == (3, 2)
    assert failures.add([Label(5, (3, 0), 0.0)], read, predicted) == (1, 0)


@pytest.mark.parametrize(
    ("found", "usual", "verdict"),
    [((9, 3), (5, 4), Verdict.HELD), ((9, 5), (5, 4), Verdict.PARTLY), ((4, 5), (5, 4), Verdict.FAILED)],
)
def test_failures_and_their_kinds_are_counted_per_fifty_labels(tmp_path, found, usual, verdict):
    folder = finished("label-what-it-finds", tmp_path / "out", {"true": 1.0, "start": 0.5})
    rows = [
        {"task": task, "seed": seed, "arm": arm, "round": number, "labels": 25, "failures": wrong, "kinds": kinds}
        | {"return": 100.0 + number}
        for task in ("hopper", "cheetah")
        for seed in (0, 1, 2)
        for arm, (wrong, kinds) in (("found", found), ("usual", usual))
        for number in range(3)
    ]
    outcome = find_study("label-what-it-finds").analyse(rows, folder)
    assert outcome.verdict is verdict
    assert outcome.table[0]["round 1: failures, new kinds per 50"] == f"{2 * found[0]:.1f}, {2 * found[1]:.1f}"
    assert outcome.table[0]["returns at the end"] == "102, 102, 102"
