"""Several feedback kinds in one run: how queries are divided, and one reward model that learns from all of them."""

import math

import numpy as np
import pytest
import torch
from helpers import Library, quick, same_tree, segments, through_file, tiny_reward
from hypothesis import given
from hypothesis import strategies as st

from prefrl.config.feedback_shares import allotted, feedback_shares, losses_by_kind
from prefrl.errors import UsageError
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.terms import Answer, Label, Query, Undone
from prefrl.recipes import resolve
from prefrl.reward.dataset import LabelType
from prefrl.reward.learner import RewardLearner
from prefrl.reward.loss import mixed_mean
from prefrl.reward.ordinal import ProportionalOdds
from prefrl.reward.step_odds import StepOdds

MIXED = "comparison,rating,marks"


@pytest.mark.parametrize(
    ("text", "shares"),
    [
        ("comparison", {"comparison": 1}),
        ("comparison,rating", {"comparison": 0.5, "rating": 0.5}),
        ("comparison:1, rating:3", {"comparison": 0.25, "rating": 0.75}),
        ("rating:0.5,marks", {"rating": pytest.approx(1 / 3), "marks": pytest.approx(2 / 3)}),
    ],
)
def test_shares_sum_to_one(text, shares):
    assert feedback_shares(text) == shares


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("comparison,comparison", "write different kinds"),
        ("comparison,", "write different kinds"),
        ("", "write different kinds"),
        ("comparison:0,rating", "a share must be a positive number, not 0"),
        ("comparison:-1", "a share must be a positive number, not -1"),
        ("comparison:many", "a share must be a positive number, not many"),
        ("comparison:", "a share must be a positive number, not nothing"),
        ("comparison:inf", "a share must be a positive number, not inf"),
        ("comparison,ratng", "unknown feedback kind 'ratng'; did you mean rating"),
    ],
)
def test_what_are_no_kinds_is_refused_in_one_line(text, why):
    with pytest.raises(UsageError, match=why):
        resolve("hopper", feedback=text)


def test_each_kind_has_a_loss():
    config = resolve("hopper", feedback=MIXED)
    assert config.losses == {"comparison": "bradley-terry", "rating": "proportional-odds", "marks": "step-odds"}
    assert set(resolve("hopper", feedback=MIXED, ablation="target").losses.values()) == {"true-reward"}
    with pytest.raises(UsageError, match="names 2 losses for 3 feedback kinds"):
        losses_by_kind(config.shares, "bradley-terry,step-odds")


def test_what_needs_pairs_is_refused():
    for name, value in (("pseudo_threshold", 0.9), ("trust_filter", True)):
        with pytest.raises(UsageError, match=f"reward.{name} needs a loss of comparisons"):
            resolve("hopper", feedback="comparison,rating", settings={f"reward.{name}": value})
    with pytest.raises(UsageError, match=r"reward.crop is for labels that compare segments, and --feedback rating"):
        resolve("hopper", feedback="comparison,rating", settings={"reward.crop": [20, 30]})


def test_queries_are_divided_by_hand():
    shares = {"a": 0.75, "b": 0.25}
    assert allotted(4, shares, {}) == {"a": 3, "b": 1}
    assert allotted(1, shares, {"a": 3}) == {"a": 0, "b": 1}
    assert allotted(0, shares, {"a": 3}) == {"a": 0, "b": 0}
    assert allotted(1, {"a": 0.25, "b": 0.75}, {}) == {"a": 0, "b": 1}
    assert allotted(5, {"a": 1.0}, {"a": 7}) == {"a": 5}


@quick
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=4), st.lists(st.integers(0, 9), max_size=12))
def test_however_many_are_asked_at_once_the_shares_are_kept(weights, counts):
    shares = {str(place): weight / sum(weights) for place, weight in enumerate(weights)}
    totals = dict.fromkeys(shares, 0)
    for count in counts:
        found = allotted(count, shares, totals)
        assert sum(found.values()) == count
        totals = {name: totals[name] + found[name] for name in shares}
    assert all(abs(totals[name] - share * sum(counts)) < len(shares) for name, share in shares.items())


def test_the_mean_loss_is_over_the_labels_of_all_kinds():
    one, other = torch.tensor([1.0, math.nan, math.nan]), torch.tensor([3.0, 5.0, math.nan])
    found = mixed_mean([one, other], [0.25, 0.75])
    assert found[:2].tolist() == [2.5, 5.0]
    assert found[2].isnan()
    assert mixed_mean([one], [1.0]) is one


# -- the learner -------------------------------------------------------------------------------------------------------

TYPES = (
    LabelType("comparison", 2, "bradley-terry"),
    LabelType("rating", 1, "proportional-odds"),
    LabelType("marks", 1, "step-odds", by_step=True),
)


def labels_of(library, count):
    """Labels 1, 2, 3, ... are of the three kinds in turn, each about segments of its own."""
    sums, mean = library.true.sum(axis=1), library.true.mean()
    bounds = np.quantile(sums, [1 / 3, 2 / 3])
    labels = []
    for n in range(1, count + 1):
        one, other = 2 * n - 2, 2 * n - 1
        labels.append(
            [
                Label(n, (one, other), float(sums[one] > sums[other])),
                Label(n, (one,), 1.0 + int((sums[one] > bounds).sum()), "rating"),
                Label(n, (one,), tuple(np.sign(library.true[one] - mean).tolist()), "marks"),
            ][n % 3]
        )
    return labels


def learner(types=TYPES, **changes):
    config = tiny_reward(**changes)
    likelihoods = {"proportional-odds": ProportionalOdds(config.members, 3), "step-odds": StepOdds()}
    return RewardLearner(config, Inputs((4,)), 5, 0, label_types=types, likelihoods=likelihoods)


def test_labels_go_to_the_dataset_of_their_kind_and_are_undone_there():
    library, made = Library(40), learner()
    said = labels_of(library, 12)
    made.add(said, library.read)
    assert [len(part) for part in made.labels.parts] == [4, 4, 4]
    made.add([Undone(13, 2)], library.read)
    assert [len(part) for part in made.labels.parts] == [4, 4, 3]
    assert (len(made), made.labels.seen, made.last_id, made.labels.segments_seen) == (11, 11, 13, 15)
    fresh = learner()
    fresh.add([label for label in said if label.id != 2], library.read)
    np.testing.assert_allclose(made.labels.moments.sums, fresh.labels.moments.sums)


def test_a_batch_is_divided_by_the_numbers_of_labels():
    library, made = Library(80), learner(batch_size=8)
    made.add([label for label in labels_of(library, 40) if label.kind != "rating" or label.id > 30], library.read)
    counts = {part.label_type.kind: len(part) for part in made.labels.parts}
    assert counts == {"comparison": 13, "rating": 4, "marks": 13}
    batch = made.labels.training_batch()
    assert {part.kind: part.target.shape[1] for part in batch.parts} == {"comparison": 3, "rating": 1, "marks": 3}
    assert {part.kind: part.weight for part in batch.parts} == {name: count / 30 for name, count in counts.items()}
    assert batch.labels == 7
    assert sum(batch.labels for batch in made.labels.epoch()) == 30


def test_a_kind_without_labels_yet_takes_no_part():
    library, made = Library(40), learner()
    made.add([label for label in labels_of(library, 20) if label.kind == "rating"], library.read)
    assert [part.kind for part in made.labels.training_batch().parts] == ["rating"]
    made.train(80)
    assert np.isfinite(made.metrics()["training_loss"])
    assert len(made.labels.newest_steps(2)) == 10


def test_the_gradient_is_of_the_mean_over_all_labels():
    library = Library(40)
    made, fresh = learner(l2=0.0, error=0.0), learner(l2=0.0, error=0.0)
    for each in (made, fresh):
        each.add(labels_of(library, 18), library.read)
    batch = made.labels.training_batch()
    made.trainer.step(batch)
    total = 0.0
    for part in batch.parts:
        rewards, config = fresh.ensemble.forward_each(part.steps), fresh.config
        loss = fresh.trainer._loss(part)(rewards, part, config)
        total = total + (loss.mean(dim=1) / 3).where(part.drawn, 0.0).sum()
    assert all(part.drawn.all() for part in batch.parts)
    total.backward()
    for own, expected in zip(*(each.ensemble.parameters() for each in (made, fresh)), strict=True):
        torch.testing.assert_close(own.grad, expected.grad, rtol=1e-4, atol=1e-6)


def test_a_reward_is_learned_from_all_kinds_together():
    library, made = Library(900), learner(buffer=400, hidden=(32,))
    made.add(labels_of(library, 300), library.read)
    made.train(300 * made.config.batch_size)
    outputs = made.ensemble.predict(torch.from_numpy(library.features[601:].reshape(-1, 4))).mean(dim=0)
    assert np.corrcoef(outputs, library.true[601:].ravel())[0, 1] > 0.9


def test_it_resumes_exactly(tmp_path):
    library, through, resumed = Library(80), learner(), learner()
    said = labels_of(library, 36)
    through.add(said, library.read)
    through.train(100)
    resumed.load_state_dict(through_file(tmp_path, through.state_dict()), said, library.read)
    for each in (through, resumed):
        each.train(80)
        each.normalise()
    assert same_tree(dict(through.ensemble.state_dict()), dict(resumed.ensemble.state_dict()))
    assert through.last_id == resumed.last_id == 36


# -- a labeller's time -------------------------------------------------------------------------------------------------


def test_label_seconds_are_measured_or_the_kind_s_median(store):
    pool = segments(5)
    queries = [
        pair_query(1, 0, *pool[:2], 0),
        Query("rating", (pool[2],), 1, 1, 0),
        Query("marks", (pool[3],), 1, 2, 0),
    ]
    later = Query("rating", (pool[4],), 2, 0, 0)
    pair, rating, marks, last = store.add_queries([*queries, later])
    assert store.label_seconds() == 0
    store.add_answers([Answer(pair, Judgement.LEFT, "oracle", 0), Answer(rating, 3, "human", 0, "ann", 1.5)])
    assert store.label_seconds() == 4 + 1.5
    store.add_answers([Answer(marks, [], "oracle", 0), Answer(last, 7, "oracle", 0)])
    assert store.label_seconds() == 4 + 1.5 + 4 + 3
    assert store.label_seconds(1) == 4 + 1.5 + 4


@pytest.mark.parametrize(
    ("feedback", "minutes", "labels"),
    [("comparison", 2, 30), ("rating", 2, 40), ("comparison,rating", 7, 120), ("comparison:3,rating:1", 1, 16)],
)
def test_a_budget_in_minutes_is_as_many_labels_as_people_give(feedback, minutes, labels):
    assert resolve("hopper", feedback=feedback, minutes=minutes).queries.labels == labels


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"minutes": 1, "labels": 9}, "--minutes and --labels are two ways"),
        ({"minutes": 0.05}, "--minutes 0.05 is too short for a label, which takes 4 seconds"),
        ({"minutes": -1}, "--minutes -1 is too short"),
        ({"minutes": 10, "teacher": "none"}, "--minutes is a label budget: it needs a teacher"),
        ({"minutes": math.nan}, "--minutes nan is too short"),
        ({"minutes": math.inf}, "queries.labels must be at most"),
    ],
)
def test_a_budget_in_minutes_that_cannot_be_is_refused(arguments, why):
    with pytest.raises(UsageError, match=why):
        resolve("hopper", **arguments)


@pytest.mark.parametrize(("teacher", "feedback"), [("late", "comparison"), ("mistake+late", "rating")])
def test_steps_are_marked_late_only_where_some_are_marked(teacher, feedback):
    with pytest.raises(UsageError, match=f"marks steps late, and --feedback {feedback} asks for no marks"):
        resolve("hopper", teacher=teacher, feedback=feedback)
    assert resolve("hopper", teacher=teacher, feedback=f"{feedback},marks")


def test_a_judge_and_automatic_labels_take_nobody_s_time(store):
    pool = segments(6)
    queries = [pair_query(1, rank, *pool[2 * rank : 2 * rank + 2], 0) for rank in range(3)]
    judged, automatic, asked = store.add_queries(queries)
    said = [(judged, "judge"), (automatic, "demonstrations"), (asked, "oracle")]
    store.add_answers([Answer(query, Judgement.LEFT, teacher, 0) for query, teacher in said])
    assert store.label_seconds() == 4
