"""The trust filter: its formulas by hand, what it does to labels, and that a run with it resumes exactly."""

import math

import numpy as np
import pytest
import torch
from helpers import Library, same_tree, through_file
from learning import make

from prefrl.errors import UsageError
from prefrl.recipes import resolve
from prefrl.reward import label_filter
from prefrl.reward.label_filter import Divergences, Verdict, label_divergence, tolerance, trust_threshold, verdict


def test_divergence_by_hand():
    found = label_divergence(torch.tensor([0.8, 0.8, 0.5, 0.9, 1.0]), torch.tensor([1.0, 0.0, 0.5, 0.5, 1.0]))
    # -ln 0.8; -ln 0.2; none of a tie from a tie; -ln 2 - (ln 0.9 + ln 0.1) / 2; none.
    assert found.tolist() == pytest.approx([0.2231436, 1.6094379, 0, 0.5108256, 0], abs=1e-6)
    assert label_divergence(torch.tensor([0.0]), torch.tensor([1.0])).item() == math.inf


def test_the_threshold_by_hand():
    assert trust_threshold(Divergences(2.0, 9, 0.3, 0.25), 3.0) == pytest.approx(-math.log(2) + 1 + 0.75)
    assert trust_threshold(Divergences(0.5, 9, 0.3, 2.0), 3.0) == pytest.approx(math.log(2) + 0.25 + 3)
    assert trust_threshold(Divergences(), 2.5) == pytest.approx(8 * math.log(10) + 2.5)


def test_the_tolerance_falls_from_three_to_one():
    assert [tolerance(number, 4) for number in (0, 1, 2, 4, 9)] == [3, 2.5, 2, 1, 1]


def test_statistics_are_a_moving_average_of_the_largest_and_the_variance_of_all():
    one, two = torch.tensor([1.0, 3.0]), torch.tensor([2.0, 6.0, 4.0])
    known = Divergences().updated(one).updated(two)
    assert known.largest == pytest.approx(0.1 * 3 * 0.9 + 0.1 * 6)
    assert known.count == 5
    assert known.mean == pytest.approx(3.2)
    assert known.variance == pytest.approx(np.var([1, 3, 2, 6, 4]))
    assert known.updated(torch.zeros(0)) == known


def test_labels_are_trusted_below_the_threshold_and_reversed_far_above_it():
    found = verdict(torch.tensor([0.5, 0.7, 6.9, 6.91, math.inf]), 0.7)  # -ln 0.001 = 6.9078
    assert found.trusted.tolist() == [True, False, False, False, False]
    assert found.reversed.tolist() == [False, False, False, True, True]
    assert verdict(torch.tensor([7.0]), 99.0).trusted.tolist() == [False]


def judged(learner):
    return learner.dataset.judged()


def test_labels_left_out_are_in_no_batch_and_reversed_ones_are_turned_round():
    learner = make(Library(20), bootstrap=False)
    given = learner.dataset.given.clone()
    left_out, turned = (torch.zeros(10, dtype=torch.bool) for _ in range(2))
    left_out[2], left_out[7], turned[4] = True, True, True
    learner.dataset.judge(left_out, turned)
    assert judged(learner) == {"left_out": [3, 8], "reversed": [5]}
    for bag in learner.dataset.bags:
        assert bag.tolist() == [0, 1, 3, 4, 5, 6, 8, 9]
    assert [batch.target.shape[1] for batch in learner.dataset.epoch()] == [8]
    expected = given.clone()
    expected[4] = 1 - expected[4]
    assert learner.dataset.target.tolist() == expected.tolist()
    assert learner.dataset.given.tolist() == given.tolist()
    learner.dataset.judge_labels([], [])
    assert learner.dataset.target.tolist() == given.tolist()


def test_removed_labels_are_not_counted():
    library = Library(20)
    learner = make(library, trust_filter=True)
    learner.dataset.judge_labels([3, 99], [5])
    assert judged(learner) == {"left_out": [3], "reversed": [5]}
    assert learner.metrics()["labels_trusted"] == 8
    assert learner.metrics()["labels_reversed"] == 1


def test_mistakes_are_found_and_reversed():
    """One label of eight is wrong; the model is wide enough to learn from the others."""
    library = Library(400)
    labels = [
        label._replace(target=1 - label.target) if label.id % 8 == 0 else label for label in library.comparisons()
    ]
    wrong = {label.id for label in labels if label.id % 8 == 0}
    settings = {"hidden": (32,), "learning_rate": 3e-3, "buffer": 400, "error": 0.0, "l2": 0.0, "bootstrap": False}
    learner = make(trust_filter=True, epochs=60, stop_accuracy=1.0, **settings)
    learner.add(labels, library.read)
    learner.train(60 * 200)
    found = judged(learner)
    caught = set(found["left_out"]) | set(found["reversed"])
    assert len(caught & wrong) >= 17  # of 25
    assert len(set(found["reversed"]) & wrong) >= 10
    assert len(caught - wrong) <= 3  # of 175
    plain = make(epochs=60, stop_accuracy=1.0, **settings)
    plain.add(labels, library.read)
    plain.train(60 * 200)
    fresh = Library(200, seed=1).features.reshape(-1, 4)
    for each in (learner, plain):
        each.normalise()
    with_filter, without = (
        np.corrcoef(each.ensemble.score(fresh), fresh @ library.weights)[0, 1] for each in (learner, plain)
    )
    assert with_filter > without + 0.03


def test_the_filter_is_applied_before_the_first_batch_and_once_a_pass(monkeypatch):
    applied = []
    for settings in ({}, {"epochs": 3, "stop_accuracy": 1.0, "bootstrap": False}):
        learner = make(Library(40), trust_filter=True, **settings)
        real = learner.trainer.filter.apply

        def apply(learner=learner, real=real):
            applied.append(learner.trainer.fitted)
            real()

        monkeypatch.setattr(learner.trainer.filter, "apply", apply)
        learner.train(60)
        assert learner.trainer.filter.state_dict()["filter"]["applied"] == 3
    assert applied == [0, 24, 48, 0, 20, 40]  # batches of 8, of 20 labels; whole passes


def test_a_pass_of_a_session_is_shorter_where_labels_are_left_out(monkeypatch):
    def without_five(divergence, threshold):
        return Verdict(torch.arange(len(divergence)) >= 5, torch.zeros(len(divergence), dtype=torch.bool))

    monkeypatch.setattr(label_filter, "verdict", without_five)
    learner = make(Library(40), trust_filter=True, epochs=6, stop_accuracy=1.0, bootstrap=False)
    learner.train(1000)
    assert learner.trainer.fitted == 6 * 15
    assert learner.trainer.filter.state_dict()["filter"]["applied"] == 6


def test_a_filter_that_would_leave_out_every_label_leaves_the_last_verdict(monkeypatch):
    found = iter([[0, 1], [], [], []])

    def only(divergence, threshold):
        trusted = torch.zeros(len(divergence), dtype=torch.bool)
        trusted[next(found)] = True
        return Verdict(trusted, torch.zeros(len(divergence), dtype=torch.bool))

    monkeypatch.setattr(label_filter, "verdict", only)
    learner = make(Library(12), trust_filter=True, epochs=4, stop_accuracy=1.0, bootstrap=False)
    learner.train(1000)
    assert judged(learner)["left_out"] == [3, 4, 5, 6]
    assert learner.trainer.fitted == 4 * 2


def test_training_with_the_filter_resumes_exactly(tmp_path):
    library = Library(60)
    changes = {"trust_filter": True, "trust_passes": 5, "learning_rate": 1e-2}
    through, resumed = (make(library, upto=20, **changes) for _ in range(2))
    through.train(400)
    assert judged(through)["left_out"]
    resumed.load_state_dict(through_file(tmp_path, through.state_dict()), library.comparisons(last=20), library.read)
    assert judged(resumed) == judged(through)
    for learner in (through, resumed):
        learner.add(library.comparisons(21, 30), library.read)
        learner.train(160)
    assert same_tree(through.state_dict(), resumed.state_dict())


def test_without_the_filter_nothing_is_said_of_trust():
    assert not {"labels_trusted", "labels_reversed"} & make(Library(20)).metrics().keys()
    assert "filter" not in make(Library(20)).state_dict()


def test_what_cannot_work_is_refused():
    with pytest.raises(UsageError, match="trust_passes must be at least 1"):
        resolve("cheetah", settings={"reward.trust_passes": 0})
    with pytest.raises(UsageError, match="trust_filter needs a loss of comparisons"):
        resolve("cheetah", ablation="target", settings={"reward.trust_filter": True})
