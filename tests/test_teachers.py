import numpy as np
import pytest
from helpers import segment

from prefrl.errors import UsageError
from prefrl.teachers import TEACHERS, check_teacher, make_teacher
from prefrl.teachers.oracle import Oracle, judge
from prefrl.types import Judgement, Query


def query(left, right, step=7):
    return Query(1, 0, segment(0, left), segment(1, right), step)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([1.0, 2.0], [1.0, 1.0], Judgement.LEFT),
        ([1.0, 1.0], [0.0, 3.0], Judgement.RIGHT),
        ([1.0, 2.0], [3.0, 0.0], Judgement.EQUAL),
        ([0.0, 0.0, 10.0], [9.0, 0.0, 0.0], Judgement.LEFT),  # no discount
        ([-5.0], [-6.0], Judgement.LEFT),
        ([0.1] * 10, [0.1] * 10, Judgement.EQUAL),
    ],
)
def test_oracle_prefers_the_higher_undiscounted_sum(left, right, expected):
    assert judge(query(left, right)) is expected


def test_oracle_tells_sums_apart_that_single_precision_would_not():
    assert judge(query([1e8, 1.0, 0.0], [1e8, 0.0, 0.0])) is Judgement.LEFT


def test_oracle_does_not_depend_on_the_side():
    rng = np.random.default_rng(0)
    for _ in range(50):
        one, other = rng.integers(0, 3, size=(2, 4)).astype(float)
        verdicts = {judge(query(one, other)), judge(query(other, one))}
        assert verdicts in ({Judgement.EQUAL}, {Judgement.LEFT, Judgement.RIGHT})


def test_oracle_answers_each_query_once_at_the_step_it_was_asked():
    oracle = Oracle()
    assert list(oracle.collect()) == []
    oracle.submit({5: query([1.0], [2.0]), 9: query([2.0], [1.0], step=8)})
    oracle.submit({6: query([2.0], [2.0])})
    answers = {answer.query_id: answer for answer in oracle.collect()}
    assert {number: answer.judgement.value for number, answer in answers.items()} == {5: "right", 9: "left", 6: "equal"}
    assert {answer.teacher for answer in answers.values()} == {"oracle"}
    assert answers[9].agent_step == 8
    assert list(oracle.collect()) == []


def test_judgements_have_the_paper_s_distributions():
    assert [judgement.mu for judgement in Judgement] == [1.0, 0.0, 0.5, None]


def test_teachers_are_made_anew_each_time():
    assert make_teacher("oracle") is not make_teacher("oracle")
    assert all(check_teacher(name) == name for name in [*TEACHERS, "none"])


@pytest.mark.parametrize(("name", "hint"), [("orcale", "oracle"), ("zzz", "none")])
def test_an_unknown_teacher_is_refused_with_the_nearest_names(name, hint):
    with pytest.raises(UsageError, match=hint):
        check_teacher(name)
