"""Crops of segments: their sizes and places, and that training on them is training on shorter segments."""

import numpy as np
import pytest
import torch
from helpers import Library, quick, same_tree, through_file
from hypothesis import given
from hypothesis import strategies as st
from learning import make
from scipy import stats

from prefrl.errors import UsageError
from prefrl.experience.inputs import Inputs
from prefrl.recipes import resolve
from prefrl.reward.batch import Batch
from prefrl.reward.crops import cropped, draw_crops
from prefrl.reward.segment_table import SegmentTable


@quick
@given(st.integers(1, 12), st.data())
def test_a_crop_is_a_run_of_steps_and_both_segments_keep_as_many(length, data):
    low = data.draw(st.integers(1, length))
    high = data.draw(st.integers(low, length))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    crops = draw_crops(rng, (2, 3, 4), 2, length, low, high)
    assert crops.shape == (2, 3, 4, 2, length)
    sizes = crops.sum(axis=-1)
    assert ((low <= sizes) & (sizes <= high)).all()
    np.testing.assert_array_equal(sizes[..., 0], sizes[..., 1])
    begun = np.abs(np.diff(crops.astype(int), axis=-1, prepend=0, append=0)).sum(axis=-1)
    assert (begun == 2).all()  # one beginning and one end


def test_sizes_and_places_are_uniform_and_places_independent():
    crops = draw_crops(np.random.default_rng(0), (6000,), 2, 6, 3, 5)
    sizes = crops.sum(axis=-1)[:, 0]
    assert stats.chisquare(np.bincount(sizes - 3, minlength=3)).pvalue > 0.01
    starts = crops.argmax(axis=-1)[sizes == 4]  # 0, 1 or 2
    assert stats.chisquare(np.bincount(3 * starts[:, 0] + starts[:, 1], minlength=9)).pvalue > 0.01


def test_rewards_outside_of_a_crop_are_zero_and_labels_are_repeated():
    table = SegmentTable(Inputs((1,)), 3, 4, "cpu")
    for number in range(4):
        table.hold(number, np.zeros((3, 1), np.float32), np.full(3, number + 1, np.float32))
    slots = torch.tensor([[[0, 1], [2, 3]]])  # (1, 2, 2): one member, two labels
    batch = Batch(table, slots, torch.tensor([[1.0, 0.0]]), torch.tensor([True]))
    rewards = torch.arange(12.0).reshape(1, 2, 2, 3)
    kept = [[[1, 1, 0], [0, 1, 1]], [[1, 0, 0], [0, 1, 0]]]
    crops = np.array([[kept, kept]], dtype=bool)  # the same two crops for both labels
    found, copies = cropped(rewards, batch, crops)
    expected = [[[0, 1, 0], [0, 4, 5]], [[0, 0, 0], [0, 4, 0]], [[6, 7, 0], [0, 10, 11]], [[6, 0, 0], [0, 10, 0]]]
    assert found.tolist() == [expected]
    assert copies.target.tolist() == [[1, 1, 0, 0]]
    assert copies.slots.tolist() == [[[0, 1], [0, 1], [2, 3], [2, 3]]]
    assert copies.true_rewards.tolist()[0][1] == [[1, 0, 0], [0, 2, 0]]


def gradients(learner):
    return [parameter.grad.clone() for parameter in learner.ensemble.network.parameters()]


def test_a_step_on_crops_of_one_size_and_place_is_a_step_on_those_shorter_segments(monkeypatch):
    """Crops of steps 1 to 3 of 5, against a learner whose segments are these steps."""
    library = Library(40)
    labels = library.comparisons()
    middle = np.array([False, True, True, True, False])

    def always(rng, count, arity, *_):
        return np.broadcast_to(middle, (*count, arity, 5)).copy()

    monkeypatch.setattr("prefrl.reward.trainer.draw_crops", always)
    whole = make(library, crop=(3, 3), crop_copies=2, normalise_inputs=False)
    library.features, library.true = library.features[:, 1:4], library.true[:, 1:4]
    short = make(length=3, normalise_inputs=False)
    short.add(labels, library.read)
    whole.trainer.step()
    short.trainer.step()
    for one, other in zip(gradients(whole), gradients(short), strict=True):
        torch.testing.assert_close(one, other)


def test_crops_of_all_steps_change_nothing():
    library = Library(40)
    plain, whole = make(library), make(library, crop=(5, 5))
    for learner in (plain, whole):
        learner.train(80)
    assert same_tree(dict(plain.ensemble.state_dict()), dict(whole.ensemble.state_dict()))


def test_every_gradient_step_has_crops_of_its_own(monkeypatch):
    drawn = []
    real = draw_crops
    monkeypatch.setattr(
        "prefrl.reward.trainer.draw_crops", lambda *arguments: drawn.append(real(*arguments)) or drawn[-1]
    )
    learner = make(Library(40), crop=(2, 4), crop_copies=3)
    learner.train(16)
    assert [crops.shape for crops in drawn] == [(3, 8, 3, 2, 5)] * 2
    assert (drawn[0] != drawn[1]).any()
    assert (drawn[0][0] != drawn[0][1]).any()


def test_training_on_crops_resumes_exactly(tmp_path):
    library = Library(40)
    through, resumed = (make(library, crop=(2, 4), crop_copies=3) for _ in range(2))
    through.train(80)
    resumed.load_state_dict(through_file(tmp_path, through.state_dict()), library.comparisons(), library.read)
    for learner in (through, resumed):
        learner.train(80)
    assert same_tree(through.state_dict(), resumed.state_dict())


@pytest.mark.parametrize("crop", [[35], [5, 4], [0, 3], [20, 31], [1, 2, 3]])
def test_impossible_crops_are_refused(crop):
    with pytest.raises(UsageError, match="crop"):
        resolve("cheetah", settings={"reward.crop": crop})


def test_copies_need_crops():
    with pytest.raises(UsageError, match="crop_copies needs"):
        resolve("cheetah", settings={"reward.crop_copies": 2})
    assert resolve("cheetah", settings={"reward.crop": [20, 30], "reward.crop_copies": 20}).reward.crop == (20, 30)
