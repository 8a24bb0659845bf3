"""The feedback kind `marks`: its values, its simulated markers, its likelihood and its quality."""

import math

import numpy as np
import pytest
import torch
from helpers import Library, quick, same_tree, segments, through_file, tiny_reward
from hypothesis import given
from hypothesis import strategies as st

from prefrl.errors import UsageError
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds import KINDS, kinds_of
from prefrl.feedback.kinds.marks import MarksKind, mark
from prefrl.feedback.kinds.simulation import TeacherConfiguration
from prefrl.feedback.terms import Answer, Label, Query
from prefrl.recipes import resolve
from prefrl.reward.dataset import LabelType
from prefrl.reward.learner import RewardLearner
from prefrl.reward.step_odds import StepOdds, mark_loss

KIND = MarksKind(10)
ORACLE = TeacherConfiguration()
VALUES = np.array([3.0, 1.0, 2.0, -4.0, 0.0], np.float32)
CHANCE = np.full(12, 0.5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [([], []), ([[3, 1], [1, -1]], [[1, -1], [3, 1]]), (((0, 1),), [[0, 1]]), ([[9, 1]], [[9, 1]])],
)
def test_marks_are_sorted_by_step(value, expected):
    assert KIND.parse(value) == expected


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ([[10, 1]], "step 10 is beyond the segment, whose steps are 0 to 9"),
        ([[-1, 1]], "a mark is"),
        ([[1, 0]], "a mark is"),
        ([[1, True]], "a mark is"),
        ([[1.0, 1]], "a mark is"),
        ([1, 1], "a mark is"),
        ([[1, 1, 1]], "a mark is"),
        ([[1, 1], [1, -1]], "a step has two marks"),
        ("good", "marks are a list"),
        (None, "marks are a list"),
    ],
)
def test_what_are_no_marks_is_refused(value, why):
    with pytest.raises(ValueError, match=why):
        KIND.parse(value)


def test_the_store_refuses_marks_beyond_the_segment(store):
    (query,) = store.add_queries([Query("marks", (segments(1)[0],), 1, 0, 0)])
    with pytest.raises(UsageError, match=f"not a valid answer to query {query}: step 3 is beyond the segment"):
        store.add_answers([Answer(query, [[3, 1]], "human", 0)])
    assert store.standing() == []
    store.add_answers([Answer(query, [[2, 1], [0, -1]], "human", 0)])
    assert store.standing()[0].value == [[0, -1], [2, 1]]
    assert store.labels("marks") == [Label(1, (0,), (-1.0, 0.0, 1.0), "marks")]
    assert store.counts()["marked"] == 1


def test_no_mark_is_an_answer_from_which_nothing_is_learned(store):
    (query,) = store.add_queries([Query("marks", (segments(1)[0],), 1, 0, 0)])
    store.add_answers([Answer(query, [], "human", 0)])
    assert (store.counts()["answered"], store.counts()["unmarked"]) == (1, 1)
    assert store.labels("marks") == []
    assert store.pending() == []


def test_a_run_s_kind_knows_the_length_of_its_segments():
    kind = kinds_of(resolve("hopper", feedback="marks", settings={"queries.segment_length": 4}))["marks"]
    with pytest.raises(ValueError, match="beyond"):
        kind.parse([[4, 1]])
    assert KINDS["marks"].parse([[4, 1]]) == [[4, 1]]


def test_a_horizon_of_one_is_an_ablation():
    assert resolve("reacher", feedback="marks", ablation="horizon-one").agent.gamma == 0
    assert resolve("reacher", feedback="marks").reward.loss == "step-odds"


def test_comparisons_cannot_have_the_likelihood_of_marks():
    with pytest.raises(UsageError, match="step-odds needs labels of 1 segments and marks of steps"):
        resolve("reacher", settings={"reward.loss": "step-odds"})
    with pytest.raises(UsageError, match="step-odds needs labels of 1 segments and marks of steps"):
        resolve("reacher", feedback="rating", settings={"reward.loss": "step-odds"})


# -- simulated markers -------------------------------------------------------------------------------------------------


def marks_by(teacher, usual=1.0, chance=CHANCE):
    return mark(VALUES, usual, teacher, chance)


def test_an_oracle_marks_every_step_by_the_sign_of_its_surplus():
    assert marks_by(ORACLE) == [[0, 1], [2, 1], [3, -1], [4, -1]]  # step 1 is as usual


def test_an_oracle_judges_by_the_usual_reward_of_a_step():
    rewards = np.array([3.0, 1.0, 2.0, -4.0, 0.0], np.float32)
    assert KIND.simulate([rewards], ORACLE, 5.0, CHANCE, lambda: np.zeros((0, 0))) == marks_by(ORACLE)
    watched = np.array([[2.0, 0.0], [1.0, 1.0]])  # whose mean is one, before the first episode ends
    assert KIND.simulate([rewards], ORACLE, None, CHANCE, lambda: watched) == marks_by(ORACLE)


def test_imperfect_markers():
    assert marks_by(TeacherConfiguration(attention=0.2)) == [[3, -1]]
    assert marks_by(TeacherConfiguration(attention=0.4)) == [[0, 1], [3, -1]]
    assert marks_by(TeacherConfiguration(delay=1)) == [[1, 1], [3, 1], [4, -1]]
    assert marks_by(TeacherConfiguration(noticeable=1.5)) == [[0, 1], [3, -1]]
    assert marks_by(TeacherConfiguration(equal=1.5)) == [[0, 1], [3, -1]]
    assert marks_by(TeacherConfiguration(skip=0.5)) == []  # the sum is 2, and half of what is usual 2.5
    assert marks_by(TeacherConfiguration(skip=0.3)) == marks_by(ORACLE)
    wrong = np.concatenate([np.full(7, 0.5), [0.0, 0.5, 0.5, 0.0, 0.5]])
    assert marks_by(TeacherConfiguration(mistake=0.1), chance=wrong) == [[0, -1], [2, 1], [3, 1], [4, -1]]
    drawn = np.concatenate([[0.5, 0.5], [0.99, 0.5, 0.1, 0.1, 0.9], np.full(5, 0.5)])
    assert marks_by(TeacherConfiguration(rationality=1.0), chance=drawn) == [[0, -1], [2, 1], [3, -1], [4, -1]]


@quick
@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20), st.floats(-5, 5), st.integers(0, 3))
def test_marks_are_of_this_kind_whatever_is_seen(values, usual, delay):
    rewards = np.array(values, np.float32)
    teacher = TeacherConfiguration(mistake=0.3, attention=0.5, delay=delay)
    chance = np.random.default_rng(0).random(2 + 2 * len(values))
    found = mark(rewards, usual, teacher, chance)
    assert MarksKind(len(values)).parse(found) == found
    assert len(found) <= math.ceil(len(values) / 2)


# -- the likelihood ----------------------------------------------------------------------------------------------------


def test_the_loss_by_hand():
    rewards, signs = torch.tensor([2.0, -1.0, 5.0]), torch.tensor([1.0, -1.0, 0.0])
    sigmoid = [1 / (1 + math.exp(-2)), 1 / (1 + math.exp(-1))]
    expected = -sum(math.log(0.9 * each + 0.05) for each in sigmoid)
    assert mark_loss(rewards, signs, 0.1).item() == pytest.approx(expected, rel=1e-6)
    assert mark_loss(rewards, torch.zeros(3), 0.1).item() == 0
    wrong = mark_loss(rewards[:1], torch.tensor([-1.0]), 0.0).item()
    assert wrong == pytest.approx(2 + math.log1p(math.exp(-2)))


def test_steps_without_a_mark_have_no_gradient():
    rewards = torch.zeros(4, requires_grad=True)
    mark_loss(rewards, torch.tensor([1.0, 0.0, -1.0, 0.0]), 0.0).backward()
    assert rewards.grad.tolist() == [-0.5, 0, 0.5, 0]


def test_the_expectation_is_the_share_of_good_steps():
    rewards = torch.tensor([[[0.0, 0.0], [100.0, -100.0], [100.0, 100.0]]])
    assert StepOdds().expectation(rewards).tolist() == [[0.5, 0.5, 1.0]]


def labels_of(library, last, every=2):
    """Label n marks every second step of segment n."""
    mean = library.true.mean()
    signs = np.sign(library.true - mean) * (np.arange(library.true.shape[1]) % every == 0)
    return [Label(n, (n,), tuple(map(float, signs[n][: 5 - n % 2])), "marks") for n in range(1, last + 1)]


def learner(**changes):
    config = tiny_reward(loss="step-odds", **changes)
    types = [LabelType("marks", 1, "step-odds", by_step=True)]
    return RewardLearner(config, Inputs((4,)), 5, 0, label_types=types, likelihoods={"step-odds": StepOdds()})


def test_a_reward_of_single_steps_is_learned():
    library, made = Library(400), learner(buffer=400, hidden=(32,))
    made.add(labels_of(library, 300), library.read)
    assert made.dataset.target.shape == (300, 5)
    made.train(300 * made.config.batch_size)
    outputs = made.ensemble.predict(torch.from_numpy(library.features[301:].reshape(-1, 4))).mean(dim=0).numpy()
    assert np.corrcoef(outputs, library.true[301:].ravel())[0, 1] > 0.9
    assert np.mean((outputs > 0) == (library.true[301:].ravel() > library.true.mean())) > 0.9


def test_it_resumes_exactly(tmp_path):
    library, through, resumed = Library(60), learner(), learner()
    said = labels_of(library, 40)
    through.add(said, library.read)
    through.train(100)
    resumed.load_state_dict(through_file(tmp_path, through.state_dict()), said, library.read)
    for each in (through, resumed):
        each.train(80)
    assert same_tree(dict(through.ensemble.state_dict()), dict(resumed.ensemble.state_dict()))


# -- quality -----------------------------------------------------------------------------------------------------------


def test_a_prediction_is_right_if_it_agrees_with_most_marks():
    rewards = np.array([[[1.0, 1.0, -1.0]], [[1.0, -1.0, 1.0]], [[1.0, 1.0, 1.0]], [[1.0, 1.0, 1.0]]], np.float32)
    targets = np.array([[1.0, 1.0, 1.0], [-1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, -1.0, 0.0]])
    np.testing.assert_array_equal(KIND.correct(rewards, targets), [1, 0, np.nan, 0])


def test_marks_are_alike_if_they_are_near_and_have_the_same_sign():
    assert KIND.likeness([], []) == 1
    assert KIND.likeness([[0, 1]], [[5, 1]]) == 1
    assert KIND.likeness([[0, 1]], [[6, 1]]) == 0
    assert KIND.likeness([[0, 1]], [[0, -1]]) == 0
    assert KIND.likeness([[0, 1], [9, 1]], [[1, 1]]) == pytest.approx(2 / 3)
    assert KIND.likeness([[0, 1]], []) == 0


def test_marks_agree_with_rewards_above_and_below_their_mean():
    rewards = [(np.array([4.0, 0.0], np.float32),), (np.array([1.0, 3.0], np.float32),)]  # with mean 2
    assert KIND.concordance([[[0, 1], [1, -1]], [[0, -1], [1, -1]]], rewards) == 0.75
    assert KIND.concordance([[], []], rewards) is None
    assert KIND.rates([[[0, 1], [1, -1]], [[0, 1]], []]) == {
        "good_rate": pytest.approx(2 / 3),
        "unmarked_rate": pytest.approx(1 / 3),
    }
    assert KIND.code([[0, 1], [1, -1], [2, -1]]) == -1
