import numpy as np
import pytest
from helpers import quick
from hypothesis import given
from hypothesis import strategies as st

from prefrl.selection.schedule import labels_due, labels_due_in_sessions

MUJOCO = {"budget": 700, "initial": 175, "constant": 2e6, "horizon": 20e6}
ATARI = {"budget": 5500, "initial": 500, "constant": 5e6, "horizon": 50e6, "bins": 10}


@pytest.mark.parametrize(("million", "labels"), [(0, 175), (1, 263), (2, 326), (5, 449), (10, 567), (20, 700)])
def test_mujoco_schedule_of_the_paper(million, labels):
    """175 + 525 ln(1 + T / 2) / ln 11: ln 1.5, 2, 3.5, 6 and 11 are 0.4055, 0.6931, 1.2528, 1.7918 and 2.3979."""
    assert labels_due(million * 1e6, **MUJOCO) == labels


def test_mujoco_rate_at_the_start_is_one_label_in_9100_steps():
    steps = np.arange(0, 200_000, 100)
    due = np.array([labels_due(step, **MUJOCO) for step in steps])
    changes = steps[1:][np.diff(due) > 0]
    assert changes[0] == pytest.approx(9135, abs=150)
    assert (np.diff(due) <= 1).all()


def test_atari_schedule_of_the_paper_in_ten_bins():
    due = [labels_due(edge * 5e6, **ATARI) for edge in range(11)]
    assert due[0] == 500
    assert due[-1] == 5500
    np.testing.assert_allclose(np.diff(due), [1707, 854, 569, 427, 341, 285, 244, 213, 190, 171], atol=1)


def test_atari_rate_is_constant_within_a_bin():
    due = np.array([labels_due(step, **ATARI) for step in np.arange(5e6, 10e6, 5e4)])
    assert set(np.diff(due)) <= {8, 9}  # 853.5 labels in 100 parts


@st.composite
def schedules(draw):
    budget = draw(st.integers(1, 6000))
    return {
        "budget": budget,
        "initial": draw(st.integers(1, budget)),
        "constant": draw(st.floats(1, 1e7)),
        "horizon": draw(st.integers(1, 50_000_000)),
        "bins": draw(st.sampled_from([0, 1, 3, 10, 49])),
    }


@quick
@given(schedules(), st.lists(st.floats(0, 1.2), min_size=2, max_size=20))
def test_schedule_never_falls_and_stays_within_its_bounds(schedule, shares):
    due = [labels_due(int(share * schedule["horizon"]), **schedule) for share in sorted(shares)]
    assert due == sorted(due)
    assert all(isinstance(labels, int) for labels in due)
    assert schedule["initial"] <= min(due)
    assert max(due) <= schedule["budget"]


@quick
@given(schedules(), st.integers(0, 1000))
def test_schedule_starts_at_the_initial_labels_and_ends_at_the_budget(schedule, beyond):
    assert labels_due(0, **schedule) == schedule["initial"]
    assert labels_due(schedule["horizon"] + beyond, **schedule) == schedule["budget"]
    assert labels_due(schedule["horizon"] - 1e-9, **schedule) <= schedule["budget"]


@quick
@given(schedules())
def test_labels_come_thicker_early_than_late(schedule):
    half = labels_due(schedule["horizon"] / 2, **schedule)
    assert half - schedule["initial"] >= schedule["budget"] - half - 1


SESSIONS = {"budget": 100, "initial": 10, "steps": 20_000, "labels": 10, "horizon": 490_000}
"""PEBBLE on walker with 100 labels: the first session after 10,000 steps of 500,000."""


@pytest.mark.parametrize(
    ("step", "labels"),
    [(0, 10), (19_999, 10), (20_000, 20), (39_999, 20), (40_000, 30), (180_000, 100), (400_000, 100)],
)
def test_sessions_of_pebble(step, labels):
    assert labels_due_in_sessions(step, **SESSIONS) == labels


def test_a_session_does_not_exceed_the_budget_and_the_last_step_asks_for_the_rest():
    odd = SESSIONS | {"budget": 25}
    assert [labels_due_in_sessions(step, **odd) for step in (0, 20_000, 40_000)] == [10, 20, 25]
    late = SESSIONS | {"horizon": 30_000}
    assert [labels_due_in_sessions(step, **late) for step in (29_999, 30_000)] == [20, 100]
