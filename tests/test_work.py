"""How much a reward model is fitted by sessions, and that a pass shows every label to every member once."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import Library, same_tree, through_file
from learning import make

from prefrl.config import RewardConfig
from prefrl.reward.work import SessionWork, StepWork, agreement


def test_agreement_counts_the_comparisons_that_prefer_a_side():
    # Sums (2, 1), (0, 3), (1, 1), (5, 0): left, right, neither and left are predicted.
    rewards = torch.tensor([[[1.0, 1], [1, 0]], [[0, 0], [1, 2]], [[1, 0], [0, 1]], [[2, 3], [0, 0]]])[None]
    assert agreement(rewards, torch.tensor([[1.0, 0, 1, 0.5]])).tolist() == [2, 3]
    assert agreement(rewards, torch.tensor([[0.0, 0, 0, 0]])).tolist() == [1, 4]
    assert agreement(rewards[:, :, :1], torch.tensor([[1.0, 0, 1, 1]])).tolist() == [0, 0]  # ratings


def places(batch, learner):
    """Places of the labels of a batch, (K, B), by their left segments."""
    left = {slot: place for place, slot in enumerate(learner.dataset.slots[:, 0].tolist())}
    return [[left[slot] for slot in row] for row in batch.slots[:, :, 0].tolist()]


@pytest.mark.parametrize(("labels", "sizes"), [(20, [8, 8, 4]), (16, [8, 8]), (3, [3])])
def test_a_pass_shows_each_member_every_label_once_in_an_order_of_its_own(labels, sizes):
    learner = make(Library(40), upto=labels, bootstrap=False)
    first, second = learner.dataset.epoch(), learner.dataset.epoch()
    for batches in (first, second):
        assert [batch.target.shape for batch in batches] == [(3, size) for size in sizes]
    order = np.concatenate([places(batch, learner) for batch in first], axis=1)
    again = np.concatenate([places(batch, learner) for batch in second], axis=1)
    for row in order:
        assert sorted(row) == list(range(labels))
    if labels == 20:
        assert len({tuple(row) for row in (*order, *again)}) == 6
    for batch in first:
        np.testing.assert_array_equal(batch.target, learner.dataset.target[torch.tensor(places(batch, learner))])


def test_a_pass_of_a_bootstrap_sample_has_as_many_labels_and_none_from_outside():
    learner = make(Library(120))
    order = np.concatenate([places(batch, learner) for batch in learner.dataset.epoch()], axis=1)
    assert order.shape == (3, 60)
    for row, bag in zip(order, learner.dataset.bags, strict=True):
        assert set(row) <= set(bag.tolist())
        counts, own = (np.bincount(each, minlength=60) for each in (row, bag))
        assert (counts <= np.maximum(own, np.ceil(own * 60 / len(bag)))).all()


def test_without_a_bootstrap_every_member_has_every_label_and_none_is_held_out():
    learner = make(Library(40), bootstrap=False)
    assert [bag.tolist() for bag in learner.dataset.bags] == [list(range(20))] * 3
    assert [held.tolist() for held in learner.dataset.held_out] == [[]] * 3
    learner.train(80)
    assert np.isnan(learner.metrics()["validation_loss"])
    assert learner.metrics()["training_loss"] > 0
    assert learner.trainer.l2.coefficients.tolist() == pytest.approx([1e-4] * 3)


def scripted(right, *, epochs=5, enough=0.97, labels=20, over="pass"):
    """The work of a learner whose predictions agree with so many of 20 labels in each pass."""
    config = RewardConfig(epochs=epochs, stop_accuracy=enough, stop_over=over)
    learner = make(Library(40), upto=labels, bootstrap=False, batch_size=20)
    passes = iter(right)

    def advance(batch):
        agreeing = next(passes)
        rewards = torch.zeros(3, 20, 2, 1)
        rewards[:, :, 0, 0] = (batch.target - 0.5) * torch.tensor([1.0] * agreeing + [-1.0] * (20 - agreeing))
        fitted.append(agreeing)
        return rewards

    fitted = []
    trainer = SimpleNamespace(advance=advance, training=learner.trainer.training, filter_labels=lambda: None)
    return SessionWork(config, trainer, learner.dataset), fitted


def test_a_session_ends_after_the_pass_whose_accuracy_exceeds_the_limit():
    work, fitted = scripted([10, 19, 20, 20])
    work.begin()
    assert work.due(0) == 100
    assert not work.pretrained
    work.train(1000)
    assert fitted == [10, 19, 20]  # 0.95 is not above 0.97
    assert work.pretrained
    assert work.due(10**6) == 0
    work.train(1000)
    assert len(fitted) == 3
    work.begin()
    work.train(1000)
    assert len(fitted) == 4


def test_an_accuracy_at_the_limit_is_not_enough():
    work, fitted = scripted([19, 20, 20], enough=0.95)
    work.begin()
    work.train(1000)
    assert fitted == [19, 20]


def test_a_session_has_at_most_so_many_passes():
    work, fitted = scripted([10] * 9, epochs=3)
    work.begin()
    work.train(1000)
    assert len(fitted) == 3
    assert work.pretrained


def test_a_limit_of_one_runs_all_passes():
    work, fitted = scripted([20] * 9, epochs=4, enough=1.0)
    work.begin()
    work.train(1000)
    assert len(fitted) == 4


def test_the_accuracy_can_be_that_of_the_whole_session_so_far():
    work, fitted = scripted([10, 19, 20, 20, 20, 20, 20], enough=0.89, epochs=9, over="session")
    work.begin()
    work.train(1000)
    assert fitted == [10, 19, 20, 20, 20, 20]  # 89 of 100 are not above 0.89 of them, and 109 of 120 are
    work.begin()  # which counts anew
    work.train(1000)
    assert fitted[6:] == [20]


@pytest.mark.parametrize(
    ("steps_per_label", "labels", "batch", "passes"),
    [
        (2000 / 128, 10, 128, 157),  # as in QPA's code: ceil(2000 * 10 / 128) steps of all ten labels
        (2000 / 128, 100, 128, 1563),
        (2000 / 128, 256, 128, 2000),  # of two steps each
        (2, 257, 128, 172),  # 514 steps in passes of three
        (0.5, 1, 128, 1),
        (0.5, 0, 128, 0),
    ],
)
def test_the_work_of_a_session_can_be_gradient_steps_for_each_label(steps_per_label, labels, batch, passes):
    assert RewardConfig(session_steps=steps_per_label, batch_size=batch).session_passes(labels) == passes


def test_a_session_of_steps_for_each_label_grows_with_the_labels():
    library = Library(80)
    learner = make(library, upto=20, session_steps=1.0, stop_accuracy=1.0, batch_size=8, bootstrap=False)
    assert isinstance(learner.work, SessionWork)
    assert learner.due(0) == 7 * 20  # 20 steps are seven passes of three batches
    learner.train(1000)
    assert learner.trainer.updates == 21
    learner.add(library.comparisons(21, 40), library.read)
    assert learner.due(0) == 8 * 40  # 40 steps, of five batches a pass


def test_a_session_can_be_fitted_in_pieces():
    whole, parts = (make(Library(40), epochs=6, stop_accuracy=1.0, bootstrap=False) for _ in range(2))
    assert whole.due(0) == 6 * 20
    whole.train(120)
    left = []
    while parts.due(0):
        parts.train(8)
        left.append(parts.due(0))
    assert left[:4] == [112, 104, 92, 84]  # batches of 8, 8 and 4, the last with the next
    assert left[-1] == 0
    assert same_tree(dict(whole.ensemble.state_dict()), dict(parts.ensemble.state_dict()))
    assert whole.trainer.fitted == parts.trainer.fitted == 120
    assert whole.pretrained
    assert parts.pretrained


def test_labels_begin_a_session_and_there_is_none_without_labels():
    library = Library(60)
    learner = make(epochs=4, stop_accuracy=1.0)
    assert (learner.due(10**6), learner.pretrained) == (0, False)
    learner.work.begin()
    learner.train(10)
    assert (learner.trainer.fitted, learner.pretrained) == (0, False)
    learner.add(library.comparisons(last=10), library.read)
    assert learner.due(0) == 40
    learner.train(40)
    learner.add([], library.read)
    assert learner.due(0) == 0
    learner.add(library.comparisons(11, 12), library.read)
    assert learner.due(0) == 48
    learner.train(13)
    learner.add(library.comparisons(13, 15), library.read)  # amid a session, which begins again with them
    assert learner.due(0) == 60


def test_only_sessions_look_for_labels_when_nothing_is_due():
    steps, sessions = make(Library(40)), make(Library(40), epochs=2)
    assert isinstance(steps.work, StepWork)
    assert isinstance(sessions.work, SessionWork)
    assert not steps.work.begins_with_labels
    assert sessions.work.begins_with_labels


def test_sessions_are_cut_short_by_a_model_that_has_learned():
    learner = make(Library(40), epochs=500, bootstrap=False, hidden=(64,), l2=0.0, error=0.0)
    learner.train(500 * 20)
    assert 0 < learner.trainer.fitted < 500 * 20
    sums = learner.ensemble.forward_each(
        learner.dataset.segments.steps(learner.dataset.slots).expand(3, -1, -1, -1, -1)
    ).sum(dim=-1)
    right = ((sums[..., 0] > sums[..., 1]) == (learner.dataset.target == 1)).float().mean()
    assert right > 0.95


def test_a_state_saved_between_or_within_sessions_goes_on(tmp_path):
    library = Library(60)
    through, resumed = (make(library, upto=20, epochs=3, stop_accuracy=1.0) for _ in range(2))
    through.train(60)
    state = through_file(tmp_path, through.state_dict())
    resumed.load_state_dict(state, library.comparisons(last=20), library.read)
    assert resumed.pretrained
    assert resumed.due(0) == 0
    for learner in (through, resumed):
        learner.add(library.comparisons(21, 30), library.read)
        learner.train(30)  # one pass of three
    assert same_tree(through.state_dict(), resumed.state_dict())
    state = through_file(tmp_path, through.state_dict())
    resumed.load_state_dict(state, library.comparisons(), library.read)
    assert resumed.due(0) == 60


def test_a_state_saved_within_a_session_keeps_the_accuracy_of_the_passes_that_ended(tmp_path):
    def begun():
        work, fitted = scripted([10, 19, 20, 20, 20, 20], enough=0.89, epochs=9, over="session")
        work.begin()
        work.train(60)
        return work, fitted

    (work, fitted), (resumed, again) = begun(), begun()
    resumed.begin()  # so that nothing is left of its own accuracy
    resumed.load_state_dict(through_file(tmp_path, work.state_dict()))
    work.train(1000)
    resumed.train(1000)
    assert fitted == again == [10, 19, 20, 20, 20, 20]


def test_a_pass_that_begins_again_counts_once(tmp_path):
    learner = make(Library(40), epochs=9, stop_accuracy=1.0, stop_over="session", bootstrap=False, batch_size=8)
    learner.train(28)  # a pass of 20 labels, and a batch
    (agreed, decided) = learner.work.state_dict()["agreed"]
    assert decided == 3 * 20
    assert 0 < agreed <= decided


def test_networks_are_in_training_mode_during_a_session_and_only_then(monkeypatch):
    learner = make(Library(40), epochs=2, stop_accuracy=1.0)
    modes, real = [], learner.trainer.step

    def step(batch):
        modes.append(learner.ensemble.training)
        return real(batch)

    monkeypatch.setattr(learner.trainer, "step", step)
    learner.train(40)
    assert modes == [True] * 6
    assert not learner.ensemble.training
