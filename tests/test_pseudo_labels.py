"""Pseudo-labels: which pairs get one, and that they are fitted beside the labels with their weight."""

import numpy as np
import pytest
import torch
from helpers import Library, same_tree, segments, through_file, tiny_reward
from learning import make
from torch.nn import functional

from prefrl.errors import UsageError
from prefrl.experience.inputs import Inputs
from prefrl.recipes import resolve
from prefrl.reward import pool_file
from prefrl.reward import trainer as trainer_module
from prefrl.reward.learner import RewardLearner
from prefrl.reward.pool_file import PoolFile, save_pool
from prefrl.reward.pseudo_labels import Unlabelled, pseudo_labels
from prefrl.seeding import stream
from prefrl.storage.files import load_tree, save_tree

POOL = segments(30, rewards=(0.0,) * 5, features=4)


def test_a_prediction_above_the_threshold_is_a_label():
    # sigmoid(2.1972) = 0.9; sigmoid(3) = 0.9526
    target, confident = pseudo_labels(torch.tensor([3.0, -3.0, 2.19, -2.21, 0.0]), 0.9)
    assert target.tolist() == [1, 0, 1, 0, 0]
    assert confident.tolist() == [True, True, False, True, False]
    assert pseudo_labels(torch.tensor([0.0]), 0.5)[1].tolist() == [False]  # one half is not above one half


def semi(library=None, pool=POOL, **changes):
    """A learner with pseudo-labels of a pool."""
    settings = tiny_reward(**{"pseudo_threshold": 0.5, "error": 0.0, "l2": 0.0} | changes)
    made = RewardLearner(settings, Inputs((4,)), 5, 0, pool=100)
    if library is not None:
        made.add(library.comparisons(), library.read)
    made.watch(pool)
    return made


def test_pairs_are_of_two_different_segments_of_the_pool_drawn_uniformly():
    table = Unlabelled(Inputs((4,)), 5, 10, "cpu")
    table.update_from(POOL[:4])
    batch = table.pairs(np.random.default_rng(0), 2, 3000)
    assert batch.slots.shape == (2, 3000, 2)
    assert batch.drawn.tolist() == [True, True]
    assert batch.drawn.dtype == torch.bool
    counts = np.zeros((4, 4))
    np.add.at(counts, tuple(batch.slots.reshape(-1, 2).T.numpy()), 1)
    assert (np.diag(counts) == 0).all()
    assert counts[~np.eye(4, dtype=bool)] == pytest.approx(500, abs=100)
    features = np.stack([segment.features for segment in POOL[:4]])
    np.testing.assert_array_equal(batch.steps, features[batch.slots.numpy()])


def test_segments_that_left_the_pool_make_room():
    table = Unlabelled(Inputs((4,)), 5, 10, "cpu")
    for first in range(0, 20, 3):
        table.update_from(POOL[first : first + 10])
        batch = table.pairs(np.random.default_rng(0), 1, 300)
        features = {segment.features.tobytes() for segment in POOL[first : first + 10]}
        assert {steps.numpy().tobytes() for steps in batch.steps[0].flatten(0, 1)} == features
    assert len(table) == 10


def test_the_order_of_pairs_depends_on_the_pool_and_not_on_its_past():
    """So that a resumed run draws the same pairs."""
    moved, fresh = (Unlabelled(Inputs((4,)), 5, 10, "cpu") for _ in range(2))
    for first in (0, 4, 7):
        moved.update_from(POOL[first : first + 10])
    fresh.update_from(POOL[7:17])
    one, other = (table.pairs(np.random.default_rng(1), 2, 20) for table in (moved, fresh))
    np.testing.assert_array_equal(one.steps, other.steps)


@pytest.mark.parametrize("copies", [{}, {"crop": (5, 5), "crop_copies": 3}])
@pytest.mark.parametrize("weight", [0.0, 1.0, 0.3])
def test_the_loss_is_that_of_the_labels_plus_the_weighted_mean_over_confident_pairs(weight, copies, monkeypatch):
    """By hand: -ln max(P, 1 - P) of the confident pairs, divided by the number of all pairs."""
    library = Library(20)
    learner = semi(library, pseudo_weight=weight, pseudo_threshold=0.6, **copies)
    drawn = []
    real = Unlabelled.pairs
    monkeypatch.setattr(Unlabelled, "pairs", lambda *given: drawn.append(real(*given)) or drawn[-1])
    state = learner.dataset.state_dict()["rng"]
    learner.dataset._rng.bit_generator.state = state
    plain = make(library, error=0.0, l2=0.0)
    plain.dataset._rng.bit_generator.state = state
    learner.trainer.step()
    plain.trainer.step()
    (pairs,) = drawn
    assert pairs.slots.shape == (3, 32, 2)  # four for each of the eight labels
    fresh = make(library, error=0.0, l2=0.0)
    sums = fresh.ensemble.forward_each(pairs.steps).sum(dim=-1)
    logit = sums[..., 0] - sums[..., 1]
    sure = torch.sigmoid(logit.abs()) > 0.6
    assert 0 < sure.sum() < sure.numel()
    expected = weight * (-functional.logsigmoid(logit.abs()) * sure).sum() / 32
    expected.backward()
    for own, known, more in zip(*(each.ensemble.network.parameters() for each in (learner, plain, fresh)), strict=True):
        torch.testing.assert_close(own.grad, known.grad + more.grad, rtol=1e-4, atol=1e-6)
    assert learner.trainer.confident.tolist() == pytest.approx(sure.float().mean(dim=1).tolist())
    assert learner.metrics()["pseudo_label_share"] == pytest.approx(sure.float().mean().item())
    assert learner.trainer.losses[0].tolist() == pytest.approx(plain.trainer.losses[0].tolist())


def test_a_threshold_that_no_prediction_reaches_changes_nothing():
    library = Library(20)
    one, other = semi(library, pseudo_threshold=0.999999), make(library, error=0.0, l2=0.0)
    for learner in (one, other):
        learner.train(24)
    assert same_tree(dict(one.ensemble.state_dict()), dict(other.ensemble.state_dict()))
    assert one.metrics()["pseudo_label_share"] == 0
    assert "pseudo_label_share" not in other.metrics()


@pytest.mark.parametrize("pool", [[], POOL[:1]])
def test_a_pool_without_pairs_gives_no_pseudo_labels(pool):
    learner = semi(Library(20), pool)
    learner.train(24)
    assert np.isnan(learner.metrics()["pseudo_label_share"])


def test_every_step_draws_pairs_and_crops_from_streams_of_its_own(monkeypatch):
    """They must not change, so that the results of synchronous runs do not."""
    drawn = []
    monkeypatch.setattr(trainer_module, "stream", lambda *keys: drawn.append(keys) or stream(*keys))
    semi(Library(20), crop=(2, 4)).train(16)
    steps = ((0, "crops", step, 0) for step in (0, 1)), ((0, "pseudo-labels", step) for step in (0, 1))
    assert drawn == [each for labels, pairs in zip(*steps, strict=True) for each in (labels, pairs, (*labels[:3], 1))]


def test_training_with_pseudo_labels_resumes_exactly(tmp_path):
    library = Library(40)
    through, resumed = semi(library, crop=(2, 4)), semi(crop=(2, 4))
    through.train(80)
    resumed.load_state_dict(through_file(tmp_path, through.state_dict()), library.comparisons(), library.read)
    for learner in (through, resumed):
        learner.watch(POOL[5:25])
        learner.train(80)
    assert same_tree(through.state_dict(), resumed.state_dict())


def test_the_learner_s_process_gets_the_pool_by_a_file(tmp_path):
    path, table = tmp_path / "pool.safetensors", Unlabelled(Inputs((4,)), 5, 30, "cpu")
    file = PoolFile(path, table)
    file.refresh()
    save_pool(path, [], Inputs((4,)))
    assert not len(table)
    assert not path.exists()
    save_pool(path, POOL[:5], Inputs((4,)))
    file.refresh()
    assert len(table) == 5
    save_pool(path, POOL[2:9], Inputs((4,)))
    file.refresh()
    whole = Unlabelled(Inputs((4,)), 5, 30, "cpu")
    whole.update_from(POOL[2:9])
    one, other = (each.pairs(np.random.default_rng(1), 2, 20) for each in (table, whole))
    np.testing.assert_array_equal(one.steps, other.steps)
    path.write_bytes(b"nonsense")
    file.refresh()
    assert len(table) == 7
    save_pool(path, POOL, Inputs((4,)))
    file.refresh()
    assert len(table) == 30  # as many as there is room for


def test_the_file_is_read_once(tmp_path, monkeypatch):
    path, table, read = tmp_path / "pool.safetensors", Unlabelled(Inputs((4,)), 5, 30, "cpu"), []
    file = PoolFile(path, table)
    save_pool(path, POOL[:5], Inputs((4,)))
    monkeypatch.setattr(pool_file, "load_tree", lambda path: read.append(path) or load_tree(path))
    file.refresh()
    file.refresh()
    assert read == [path]
    assert len(table) == 5


@pytest.mark.parametrize(
    "tree",
    [
        {},
        {"ids": np.arange(3)},
        {"ids": np.arange(3), "features": np.zeros((3, 5, 3), np.float32)},
        {"ids": np.arange(3), "features": np.zeros((3, 5, 4), np.float64)},
        {"ids": np.arange(3), "features": np.zeros((2, 5, 4), np.float32)},
        {"ids": np.array([1, 1]), "features": np.zeros((2, 5, 4), np.float32)},
        {"ids": np.arange(31), "features": np.zeros((31, 5, 4), np.float32)},
        {"ids": "three", "features": 3},
    ],
)
def test_a_file_that_is_no_pool_is_ignored(tree, tmp_path):
    path, table = tmp_path / "pool.safetensors", Unlabelled(Inputs((4,)), 5, 30, "cpu")
    file = PoolFile(path, table)
    save_pool(path, POOL[:5], Inputs((4,)))
    file.refresh()
    save_tree(path, tree)
    file.refresh()
    assert len(table) == 5
    save_pool(path, POOL[:6], Inputs((4,)))
    file.refresh()
    assert len(table) == 6


@pytest.mark.parametrize("settings", [{"reward.pseudo_threshold": 0.4}, {"reward.pseudo_threshold": 1.0}])
def test_impossible_thresholds_are_refused(settings):
    with pytest.raises(UsageError, match="pseudo_threshold"):
        resolve("cheetah", settings=settings)


def test_a_loss_that_is_not_of_pairs_is_refused():
    with pytest.raises(UsageError, match="pseudo_threshold needs a loss of comparisons"):
        resolve("cheetah", ablation="target", settings={"reward.pseudo_threshold": 0.9})
