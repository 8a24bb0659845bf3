"""What a reward learner trains on: its buffer, bootstraps, batches and clips."""

import math

import numpy as np
import torch
from helpers import Library, clip_reader, laid_out, segments
from learning import held, make, watch

from prefrl.config import RewardConfig
from prefrl.experience.clips import ClipFolder
from prefrl.experience.inputs import Inputs
from prefrl.feedback.terms import Label, Undone
from prefrl.reward import trainer as trainer_module
from prefrl.reward.loss import multiplicity
from prefrl.reward.segment_table import FIRST, SegmentTable


def test_the_buffer_keeps_the_newest():
    library = Library(200)
    learner = make(library, upto=100)
    newest = library.features[2 * 36 : 200 : 2, 0, 0]  # comparisons 37 … 100
    assert len(learner.dataset) == 64
    assert learner.dataset.seen == 100
    assert held(learner) == sorted(newest.tolist())


def test_the_buffer_fills_before_it_wraps():
    library = Library(200)
    learner = make(library, upto=64)
    assert held(learner) == sorted(library.features[0:128:2, 0, 0].tolist())
    learner.add(library.comparisons(65, 65), library.read)
    assert held(learner) == sorted(library.features[2:130:2, 0, 0].tolist())


def test_a_dataset_without_labels_is_empty_and_no_change_is_none():
    dataset = make().dataset
    assert dataset.add([], Library(2).read) == 0
    assert len(dataset) == len(dataset.segments) == len(dataset.target) == 0
    assert [len(own) for own in (*dataset.bags, *dataset.held_out)] == [0] * 6
    assert dataset.segments.steps(dataset.slots).numel() == 0


def test_every_change_counts_once_also_one_that_removes_nothing():
    library, learner = Library(10), make()
    assert learner.add([*library.comparisons(last=3), Undone(4, 2), Undone(5, 99)], library.read) == 5
    assert (learner.dataset.seen, learner.last_id) == (2, 5)
    assert learner.add([], library.read) == 0


def test_default_buffer_is_the_paper_s():
    assert RewardConfig().buffer == 3000


def test_each_comparison_keeps_its_own_bootstrap_wherever_it_lies():
    library = Library(200)
    learner = make(library, upto=100, seed=3)
    for number in (37, 64, 65, 100):
        place = (number - 1) % 64
        counts = multiplicity(3, number, 3).tolist()
        assert [int((bag == place).sum()) for bag in learner.dataset.bags] == counts
        assert [place in out for out in learner.dataset.held_out] == [count == 0 for count in counts]


def test_bootstrap_is_keyed_by_the_comparison_and_not_by_when_it_came():
    library = Library(60)
    together, apart = make(library), make()
    for number in range(1, 31):
        apart.add(library.comparisons(number, number), library.read)
    assert all(map(np.array_equal, together.dataset.bags, apart.dataset.bags))
    late = make()
    late.add(library.comparisons(20, 30), library.read)
    for bag, other in zip(late.dataset.bags, together.dataset.bags, strict=True):
        assert np.array_equal(bag, other[other >= 19] - 19)


def test_training_and_validation_comparisons_of_a_member_are_disjoint(monkeypatch):
    """An out-of-bag comparison may change a member's validation loss, never its gradient."""
    library = Library(40)
    out_of_bag = next(n for n in range(1, 21) if multiplicity(0, n, 3)[0] == 0)
    flipped = [c._replace(target=1 - c.target) if c.id == out_of_bag else c for c in library.comparisons()]
    straight, changed = make(library, l2_rate=0.0), make(l2_rate=0.0)
    changed.add(flipped, library.read)
    means = watch(monkeypatch, trainer_module, "running_mean")
    straight.train(20 * 8)
    changed.train(20 * 8)
    for one, other in zip(straight.ensemble.network.parameters(), changed.ensemble.network.parameters(), strict=True):
        assert torch.equal(one[0], other[0])
    first = [arguments[1][0].item() for arguments, _ in means]  # of member 0: four training losses, one validation, …
    training = [loss for number, loss in enumerate(first, start=1) if number % 5]
    validation = first[4::5]
    assert training[:20] == training[20:]
    assert validation[:5] != validation[5:]


def test_one_label_is_enough_for_a_validation_set_and_none_is_not():
    number = next(n for n in range(1, 500) if (multiplicity(0, n, 3) > 0).tolist() == [False, True, True])
    library, dataset = Library(2), make().dataset
    dataset.add([Label(number, (0, 1), 1.0)], library.read)
    assert dataset.validation_batch().drawn.tolist() == [True, False, False]
    assert dataset.training_batch().drawn.tolist() == [False, True, True]


def test_every_member_trains_on_its_own_bootstrap():
    learner = make(Library(128))
    assert not np.array_equal(learner.dataset.bags[0], learner.dataset.bags[1])
    for bag, out in zip(learner.dataset.bags, learner.dataset.held_out, strict=True):
        assert abs(len(out) / 64 - 1 / math.e) < 0.2
        assert sorted({*bag, *out}) == list(range(64))
        assert not {*bag} & {*out}
        assert np.bincount(bag).max() > 1


def test_batches_are_drawn_from_a_bag_in_proportion_to_multiplicity():
    learner = make(Library(40), batch_size=16)
    seen = np.zeros((3, 20), dtype=np.int64)
    real = learner.ensemble.forward_each
    learner.ensemble.forward_each = lambda x: (count(seen, learner, x), real(x))[1]
    for _ in range(400):
        learner.trainer.step()
    for member, bag in enumerate(learner.dataset.bags):
        expected = np.bincount(bag, minlength=20) / len(bag)
        np.testing.assert_allclose(seen[member] / seen[member].sum(), expected, atol=0.015)


def count(seen, learner, features):
    """Add up, for each member, which of the buffer's comparisons a batch of features holds."""
    firsts = {value: place for place, value in enumerate(laid_out(learner)[0][:, 0, 0, 0].tolist())}
    for member, batch in enumerate(features[:, :, 0, 0, 0].tolist()):
        np.add.at(seen[member], [firsts[value] for value in batch], 1)


def test_comparisons_come_from_clips_as_they_were_recorded(tmp_path):
    clips = ClipFolder(tmp_path)
    left, right = segments(2, rewards=[1.0, 2.0, 3.0])
    assert clips.save(left)
    assert clips.save(right)
    learner = make(features=3, length=3)
    learner.add([Label(1, (1, 0), 1.0)], clip_reader(clips))
    steps, true_rewards, target = laid_out(learner)
    np.testing.assert_array_equal(steps[0, 0], right.features)
    np.testing.assert_array_equal(steps[0, 1], left.features)
    assert true_rewards[0].tolist() == [[1.0, 2.0, 3.0]] * 2
    assert target.tolist() == [1.0]


def test_a_segment_is_stored_once_however_many_labels_share_it():
    library, learner = Library(40), make()
    learner.add([Label(n, (0, n), float(n % 2)) for n in range(1, 21)], library.read)
    assert len(learner.dataset.segments) == 21
    steps, true_rewards, _ = laid_out(learner)
    for place, number in enumerate(range(1, 21)):
        np.testing.assert_array_equal(steps[place], library.features[[0, number]])
        np.testing.assert_array_equal(true_rewards[place], library.true[[0, number]])


def test_room_is_doubled_when_it_is_full_and_not_before():
    table = SegmentTable(Inputs((1,)), 1, 3 * FIRST, "cpu")
    sizes = []
    for number in range(3 * FIRST):
        table.hold(number, np.full((1, 1), number, np.float32), np.zeros(1, np.float32))
        sizes.append((len(table._features), len(table._true)))
    assert sizes == [(FIRST,) * 2] * FIRST + [(2 * FIRST,) * 2] * FIRST + [(3 * FIRST,) * 2] * FIRST
    assert table.steps(torch.arange(3 * FIRST)).flatten().tolist() == list(range(3 * FIRST))


def test_room_is_used_again_once_no_label_that_is_trained_on_needs_it():
    library, learner = Library(400), make(buffer=8)
    for first in range(1, 200, 5):
        learner.add(library.comparisons(first, first + 4), library.read)
        learner.add([Label(1000 + first, (0, 1), 1.0)], library.read)
        assert int(learner.dataset.slots.max()) < 16
    assert len(learner.dataset.segments) == 2 * 7  # two of the newest eight are about the same
    newest = laid_out(learner)[0][[n % 8 for n in range(learner.dataset.seen - 8, learner.dataset.seen)]]
    np.testing.assert_array_equal(newest[-1], library.features[[0, 1]])
    np.testing.assert_array_equal(newest[-2], library.features[[398, 399]])
