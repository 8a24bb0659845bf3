"""How a reward learner scales what it reads, and what it publishes."""

import numpy as np
import pytest
import torch
from helpers import Library
from learning import make

from prefrl.errors import PrefrlError
from prefrl.experience.inputs import Inputs
from prefrl.reward import learner as learner_module
from prefrl.reward.input_normalisation import InputMoments
from prefrl.reward.published import PublishedReward


def test_input_statistics_are_those_of_the_labelled_segments():
    library = Library(80)
    learner = make(library)
    steps = library.features.reshape(-1, 4)
    np.testing.assert_allclose(learner.ensemble.input_normaliser.mean, steps.mean(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(learner.ensemble.input_normaliser.std, steps.std(axis=0), rtol=1e-5)


def test_input_statistics_do_not_depend_on_the_batches_that_labels_came_in():
    library = Library(80)
    at_once, bit_by_bit = make(library), make()
    for first in range(1, 41, 8):
        bit_by_bit.add(library.comparisons(first, first + 7), library.read)
    assert torch.equal(at_once.ensemble.input_normaliser.mean, bit_by_bit.ensemble.input_normaliser.mean)
    assert torch.equal(at_once.ensemble.input_normaliser.std, bit_by_bit.ensemble.input_normaliser.std)


def test_a_feature_that_never_varies_stays_finite():
    library = Library(40)
    library.features[..., 2] = 7.0
    learner = make(library)
    learner.train(80)
    learner.normalise()
    assert np.isfinite(learner.ensemble.score(library.features.reshape(-1, 4))).all()


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_label_whose_clip_cannot_be_read_any_more_is_removed_as_an_average_one(damaged):
    """Two labels of two clips each; the first clip's steps are 2 and 4, with a mean of 3 and a mean square of 10."""
    clips = [np.array(values, np.float32)[:, None] for values in ([2, 4], [1, 1], [5, 5], [0, 2])]
    moments = InputMoments(Inputs((1,)))
    for clip in clips:
        moments.add(clip)
    assert moments.sums.tolist() == [[3 + 1 + 5 + 1], [10 + 1 + 25 + 2]]

    def read(segment):
        if segment == damaged:
            raise PrefrlError("damaged")
        return clips[segment], np.zeros(2, np.float32)

    moments.remove((0, 1), read, 1)
    assert moments.sums.tolist() == [[5], [19]]


@pytest.mark.parametrize("target", [1.0, 0.05])
def test_published_reward_has_mean_zero_and_the_target_deviation_over_the_labelled_steps(tmp_path, target):
    library = Library(120)
    learner = make(library, target_std=target)
    learner.train(160)
    learner.publish(tmp_path / "weights")
    rewards = learner.ensemble.score(library.features.reshape(-1, 4))
    assert rewards.mean() == pytest.approx(0, abs=1e-4)
    assert rewards.std() == pytest.approx(target, rel=1e-2)


def test_output_normalisation_follows_the_newest_comparisons_of_the_ring():
    newest = 2 * learner_module._NORMALISATION_LABELS  # segments
    library = Library(800)
    library.features[:-newest] += 100.0
    learner = make(library, buffer=300)
    learner.normalise()
    rewards = learner.ensemble.score(library.features[-newest:].reshape(-1, 4))
    assert rewards.mean() == pytest.approx(0, abs=1e-3)
    assert rewards.std() == pytest.approx(1, rel=1e-2)


def test_a_model_published_without_comparisons_is_the_untrained_one_s_average(tmp_path):
    learner = make(target_std=0.5)
    learner.publish(tmp_path / "weights")
    published = PublishedReward(tmp_path / "weights", make(seed=3).ensemble)
    assert published.refresh()
    assert published.version == 1
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = 0.5 * learner.ensemble.network(torch.as_tensor(x)).detach().mean(dim=0)
    np.testing.assert_allclose(published.ensemble.score(x), expected, rtol=1e-5)
