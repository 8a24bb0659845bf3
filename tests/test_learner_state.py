"""A reward learner's random state, and that it continues from a saved state, also after answers were undone."""

import numpy as np
import pytest
import torch
from helpers import Library, same_tree, through_file, tiny_reward
from learning import held, make

from prefrl.experience.inputs import Inputs
from prefrl.feedback.terms import Label, Undone
from prefrl.reward.learner import RewardLearner


def test_training_leaves_torch_s_and_numpy_s_random_state_alone():
    torch.manual_seed(4)
    np.random.seed(4)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    make(Library(40)).train(80)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


def test_dropout_draws_from_the_learner_s_own_random_state():
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, 3, 48, 48), dtype=np.uint8)
    states = []
    for seed in (1, 2):
        learner = RewardLearner(tiny_reward(network="cnn", batch_size=2), Inputs((3, 48, 48)), 5, 0)
        learner.add([Label(1, (0, 1), 1.0)], lambda segment: (frames[segment], np.zeros(5, np.float32)))
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        learner.train(4)
        assert torch.equal(before, torch.get_rng_state())
        states.append(learner.state_dict())
    assert same_tree(*states)


def test_the_same_seed_fits_the_same_weights():
    library = Library(40)
    one, same, other = make(library), make(library), make(library, seed=1)
    for learner in (one, same, other):
        learner.train(80)
    assert same_tree(one.state_dict(), same.state_dict())
    assert not same_tree(dict(one.ensemble.state_dict()), dict(other.ensemble.state_dict()))


@pytest.mark.parametrize("labels", [20, 64, 100])
def test_training_resumes_exactly_from_a_saved_state(tmp_path, labels):
    library = Library(300)
    through = make(library, upto=labels)
    through.train(80)
    through.publish(tmp_path / "weights")
    resumed = make(seed=0)
    state = through_file(tmp_path, through.state_dict())
    resumed.load_state_dict(state, library.comparisons(last=labels), library.read)
    assert same_tree(through.state_dict(), resumed.state_dict())
    for learner in (through, resumed):
        learner.add(library.comparisons(labels + 1, labels + 30), library.read)
        learner.train(80)
        learner.normalise()
    assert same_tree(through.state_dict(), resumed.state_dict())
    assert through.metrics() == resumed.metrics()
    assert held(through) == held(resumed)


def test_a_state_saved_before_any_training_continues_too(tmp_path):
    library = Library(60)
    fresh, resumed = make(), make(seed=0)
    resumed.load_state_dict(through_file(tmp_path, fresh.state_dict()), [], library.read)
    for learner in (fresh, resumed):
        learner.add(library.comparisons(), library.read)
        learner.train(40)
    assert same_tree(fresh.state_dict(), resumed.state_dict())


def test_resuming_after_an_answer_was_undone_trains_on_what_still_stands(tmp_path):
    library = Library(60)
    before = make(library)
    before.train(40)
    state = through_file(tmp_path, before.state_dict())
    standing = [comparison for comparison in library.comparisons() if comparison.id not in (3, 30)]
    resumed = make()
    resumed.dataset.segments._features.fill_(torch.nan)  # what memory never written may hold
    resumed.load_state_dict(state, standing, library.read)
    assert len(resumed.dataset) == len(standing) == 28
    assert held(resumed) == sorted(library.features[2 * c.id - 2, 0, 0] for c in standing)


def test_input_statistics_forget_what_was_undone_as_they_forget_nothing_else(tmp_path):
    """A feature that is 3 or 5 in turn, with a mean of 4 and a deviation of 1 whatever stands."""
    library = Library(60)
    library.features[..., 1] = np.where(np.arange(60) % 2, 5.0, 3.0)[:, None]
    before = make(library)
    state = through_file(tmp_path, before.state_dict())
    standing = [comparison for comparison in library.comparisons(last=30) if comparison.id not in (3, 17, 30)]
    resumed = make()
    resumed.load_state_dict(state, standing, library.read)
    younger = Library(80)
    resumed.add(younger.comparisons(31, 40), younger.read)  # of other values
    other = younger.features[60:, :, 1]
    means = (27 * 2 * 4.0 + 20 * other.mean()) / 74
    squares = (27 * 2 * 17.0 + 20 * np.square(other).mean()) / 74
    assert resumed.ensemble.input_normaliser.mean[1].item() == pytest.approx(means, rel=1e-4)
    assert resumed.ensemble.input_normaliser.std[1].item() == pytest.approx((squares - means**2) ** 0.5, rel=1e-3)


def test_a_resumed_ring_overwrites_the_oldest_after_an_answer_was_undone(tmp_path):
    library = Library(300)
    before = make(library, upto=100)
    state = through_file(tmp_path, before.state_dict())
    standing = [comparison for comparison in library.comparisons(last=100) if comparison.id != 90]
    resumed = make()
    resumed.load_state_dict(state, standing, library.read)
    resumed.add(library.comparisons(101, 110), library.read)
    newest = [*standing, *library.comparisons(101, 110)][-64:]
    assert held(resumed) == sorted(library.features[2 * c.id - 2, 0, 0] for c in newest)


def test_a_saved_state_takes_the_place_of_what_was_there(tmp_path):
    library = Library(60)
    before = make(library, upto=10)
    state = through_file(tmp_path, before.state_dict())
    used = make(library)
    used.load_state_dict(state, library.comparisons(last=10), library.read)
    assert len(used.dataset.segments) == 20
    assert held(used) == held(before)
    used.add([Undone(11, 3)], library.read)
    assert len(used.dataset.segments) == 18
