"""Studies that train and also measure something of their own: what their analyses conclude."""

from types import SimpleNamespace

import numpy as np
import pytest
from prefrl_benchmarks.studies.distilling.experiment import QUESTIONS
from prefrl_benchmarks.studies.horizon_one.analysis import on_tasks
from prefrl_benchmarks.studies.label_what_it_finds.experiment import Failures, clip_mean, fails, nearest_neighbour
from prefrl_benchmarks.studies.study import Verdict, find_study
from studied import POINT, finished, return_at, rows_of

from prefrl.experience.make_env import make_env
from prefrl.feedback.terms import Label

pytestmark = pytest.mark.usefixtures("unpainted")

# -- horizon one ------------------------------------------------------------------------------------------------------

HORIZON_ONE = {
    POINT: {"true-one": 1.1, "marks": 0.9, "marks-one": 0.2, "advantage-one": 0.85, "advantage-late-one": -0.3},
    "reacher": {"true-one": 0.15, "marks": 0.8, "marks-one": 0.0},
    "moving-dot": {
        "true-one": 1.2,
        "marks": 1.1,
        "marks-one": 0.1,
        "marks-read-one": 0.2,
        "advantage-unread-one": 0.3,
        "advantage-read-one": 0.9,
    },
}
WRONG = {
    POINT: {"true-one": 0.7, "marks-one": 0.6, "advantage-one": 0.75, "advantage-late-one": 0.5},
    "reacher": {"true-one": 0.5, "marks-one": 0.6},
    "moving-dot": {
        "true-one": 0.7,
        "marks-one": 0.5,
        "marks-read-one": 0.6,
        "advantage-unread-one": 0.5,
        "advantage-read-one": 0.7,
    },
}
"""Scores with which an expectation fails, each of them alone."""


def test_a_horizon_of_one_is_judged_on_tasks(tmp_path):
    told = {task: scores | {"true": 1.0, "values": 0.8, "random-values": 0.0} for task, scores in HORIZON_ONE.items()}
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
