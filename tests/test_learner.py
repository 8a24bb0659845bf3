import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import Library, clip_reader, laid_out, same_tree, segments, through_file, tiny_reward

from prefrl.config import RewardConfig
from prefrl.experience.clips import ClipFolder
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer, Label
from prefrl.recipes import resolve
from prefrl.reward import learner as learner_module
from prefrl.reward import loss as loss_module
from prefrl.reward import trainer as trainer_module
from prefrl.reward.learner import RewardLearner
from prefrl.reward.loss import multiplicity
from prefrl.reward.published import PublishedReward
from prefrl.reward.workers import InlineLearner


def make(library=None, *, features=4, length=5, seed=0, upto=None, **changes):
    made = RewardLearner(tiny_reward(**changes), Inputs((features,)), length, seed)
    if library is not None:
        made.add(library.comparisons(last=upto), library.read)
    return made


def held(learner):
    """The buffer's comparisons, by the first feature of their left segment."""
    return sorted(laid_out(learner)[0][:, 0, 0, 0].tolist())


def watch(monkeypatch, module, name):
    """Record the arguments and results of a function that a module calls."""
    real, calls = getattr(module, name), []

    def spy(*arguments):
        calls.append((arguments, real(*arguments)))
        return calls[-1][1]

    monkeypatch.setattr(module, name, spy)
    return calls


def test_recovers_a_linear_reward_from_comparisons():
    library = Library(600, length=8, features=6)
    learner = RewardLearner(RewardConfig(hidden=(32, 32), buffer=400, pretrain_comparisons=1), Inputs((6,)), 8, seed=0)
    learner.add(library.comparisons(), library.read)
    learner.train(150 * 64)
    learner.normalise()
    fresh = Library(200, length=8, features=6, seed=1)
    x = fresh.features.reshape(-1, 6)
    assert np.corrcoef(learner.ensemble.score(x), x @ library.weights)[0, 1] > 0.9
    assert learner.trainer.losses[0].max() < math.log(2) / 2


def test_regression_on_the_true_reward_recovers_its_values():
    library = Library(200, length=3, features=3)
    learner = make(library, features=3, length=3, loss="true-reward", hidden=(32,), learning_rate=1e-2, buffer=128)
    learner.train(300 * 8)
    x = library.features.reshape(-1, 3)
    assert np.corrcoef(learner.ensemble(torch.as_tensor(x)).mean(dim=0).detach(), x @ library.weights)[0, 1] > 0.95


def test_ties_pull_equal_segments_together():
    library = Library(40)
    ties = [comparison._replace(target=0.5) for comparison in library.comparisons()]
    learner = make()
    learner.add(ties, library.read)
    learner.train(200 * 8)
    sums = learner.ensemble(torch.as_tensor(library.features)).sum(dim=2).detach()
    untrained = make(library).ensemble(torch.as_tensor(library.features)).sum(dim=2).detach()
    assert (sums[:, ::2] - sums[:, 1::2]).abs().mean() < (untrained[:, ::2] - untrained[:, 1::2]).abs().mean() / 2


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


def test_loss_gets_the_configured_error(monkeypatch):
    calls = watch(monkeypatch, loss_module, "comparison_loss")
    make(Library(40), error=0.1).train(8)
    make(Library(40), error=0.0).train(8)
    assert [arguments[2] for arguments, _ in calls] == [0.1, 0.0]
    assert RewardConfig().error == 0.1


def test_l2_adapts_to_the_ratio_of_validation_to_training_loss(monkeypatch):
    """The paper's band, 1.1 to 1.5, by hand of the losses measured, after each fourth step, for each member."""
    measured = watch(monkeypatch, trainer_module, "running_mean")
    learner = make(Library(40), l2=1e-3, l2_rate=0.25, learning_rate=1e-2, hidden=(32,))
    learner.train(60 * 8)
    training = validation = None
    expected, moves = np.full(3, 1e-3), set()
    for place, (arguments, _) in enumerate(measured, start=1):
        newest = arguments[1].numpy().astype(float)
        if place % 5:
            training = newest if training is None else 0.97 * training + 0.03 * newest
            continue
        validation = newest if validation is None else 0.97**4 * validation + (1 - 0.97**4) * newest
        ratio = validation / training
        factor = np.select([ratio > 1.5, ratio < 1.1], [1.25, 0.75], 1.0)
        expected, moves = expected * factor, moves | set(factor)
    assert moves == {0.75, 1.0, 1.25}
    np.testing.assert_allclose(learner.trainer.l2.coefficients, expected, rtol=1e-4)


def test_overfitting_raises_l2_and_noise_free_plenty_lowers_it():
    rng = np.random.default_rng(0)
    library = Library(24, features=4)
    guesses = [comparison._replace(target=float(rng.integers(2))) for comparison in library.comparisons()]
    overfit = make(learning_rate=1e-2, l2_rate=0.04, hidden=(32, 32))
    overfit.add(guesses, library.read)
    overfit.train(200 * 8)
    assert overfit.trainer.l2.coefficients.mean() > 1.5e-4
    early = make(Library(128), l2_rate=0.04)
    early.train(20 * 8)  # hardly fitted yet: validation loss is no higher than training loss
    assert early.trainer.l2.coefficients.mean() < 1e-4


def test_the_penalty_shrinks_weights():
    library = Library(40)
    free, bound = (make(library, l2=l2, l2_rate=0.0, learning_rate=1e-2) for l2 in (0.0, 0.1))
    for learner in (free, bound):
        learner.train(100 * 8)
    assert (bound.ensemble.network.squared_norm() < free.ensemble.network.squared_norm() / 2).all()
    assert (free.trainer.l2.coefficients == 0).all()


def test_each_member_s_penalty_is_its_own_coefficient_times_its_squared_weights():
    """A tie between a clip and itself has no gradient of its own: what is left is that of the penalty, 2 L2 w."""
    library = Library(2)
    learner = make(l2_rate=0.0)
    learner.add([Label(number, (0, 0), 0.5) for number in range(1, 9)], library.read)
    learner.trainer.l2.coefficients = torch.tensor([0.1, 0.0, 0.3])
    before = [weight.detach().clone() for weight in learner.ensemble.network.weights]
    learner.train(8)
    for weight, was in zip(learner.ensemble.network.weights, before, strict=True):
        for member, coefficient in enumerate((0.1, 0.0, 0.3)):
            torch.testing.assert_close(weight.grad[member], 2 * coefficient * was[member], atol=1e-6, rtol=1e-4)
    assert all(bias.grad.abs().max() < 1e-6 for bias in learner.ensemble.network.biases)


def test_losses_are_running_means_of_33_steps_whether_measured_at_each_or_at_each_fourth(monkeypatch):
    means = watch(monkeypatch, trainer_module, "running_mean")
    learner = make(Library(40))
    learner.train(24 * 8)
    values = [arguments[1] for arguments, _ in means]  # four training losses, one validation loss, …
    training = [value for place, value in enumerate(values, start=1) if place % 5]
    validation = values[4::5]
    assert (len(training), len(validation)) == (24, 6)
    for found, measured, decay in zip(learner.trainer.losses, (training, validation), (0.97, 0.97**4), strict=True):
        expected = measured[0]
        for newest in measured[1:]:
            expected = decay * expected + (1 - decay) * newest
        torch.testing.assert_close(found, expected)


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


@pytest.mark.parametrize("labels", [10, 400])
def test_cost_of_a_call_does_not_depend_on_the_labels_there_are(monkeypatch, labels):
    learner = make(Library(2 * labels), buffer=400)
    rows = []
    real = learner.ensemble.forward_each
    monkeypatch.setattr(learner.ensemble, "forward_each", lambda x: (rows.append(x.shape[:-1].numel()), real(x))[1])
    learner.train(40)
    assert rows == [3 * 8 * 2 * 5] * 6  # five batches of pairs of steps for three members, and one to validate


def test_due_counts_pretraining_and_steps_in_whole_batches():
    learner = make(Library(40), comparisons_per_step=0.1)
    assert learner.due(0) == 32
    assert learner.due(79) == 32
    assert learner.due(80) == 40
    learner.train(learner.due(0))
    assert learner.trainer.fitted == 32
    assert learner.due(0) == 0
    assert learner.due(79) == 0
    assert learner.due(80) == 8


@pytest.mark.parametrize("stride", [1, 7, 100, 997])
def test_work_done_in_all_is_the_same_however_often_it_is_asked_for(stride):
    learner = make(Library(16), comparisons_per_step=0.125, hidden=(2,))
    for step in [*range(0, 2000, stride), 2000]:
        if due := learner.due(step):
            learner.train(due)
    assert learner.trainer.fitted == 280  # 32 + 0.125 · 2000, down to whole batches
    assert learner.trainer.updates == 35


def test_pretrained_once_its_comparisons_are_fitted():
    learner = make(Library(40))
    assert not learner.pretrained
    learner.train(24)
    assert not learner.pretrained
    learner.train(8)
    assert learner.pretrained


@pytest.mark.parametrize("comparisons", [1, 7, 8, 9])
def test_the_shortest_pretraining_is_a_batch(comparisons):
    learner = make(Library(40), pretrain_comparisons=comparisons)
    assert not learner.pretrained
    assert learner.due(0) == 8
    learner.train(learner.due(0))
    assert learner.pretrained
    assert learner.due(0) == 0


def test_l2_stays_for_a_member_that_has_no_training_comparisons():
    number = next(n for n in range(1, 500) if (multiplicity(0, n, 3) > 0).tolist() == [False, True, True])
    library = Library(2)
    learner = make()
    learner.add([Label(number, (0, 1), 1.0)], library.read)
    learner.train(20 * 8)
    assert learner.trainer.l2.coefficients[0].item() == pytest.approx(1e-4)


def test_the_inline_worker_fits_what_is_due_from_the_store_and_publishes_it(tmp_path):
    store, clips = LabelStore(tmp_path / "labels.sqlite", create=True), ClipFolder(tmp_path)
    pool = segments(20, rewards=np.arange(5.0))
    for kept in pool:
        clips.save(kept)
    ids = store.add_queries([pair_query(1 + n // 5, n % 5, pool[2 * n], pool[2 * n + 1], 0) for n in range(10)])
    store.add_answers([Answer(number, Judgement.LEFT, "oracle", 0) for number in ids])
    config = resolve("hopper", settings={"queries.segment_length": 5})
    run = SimpleNamespace(clips=tmp_path, weights=tmp_path / "weights", config=config)

    def worker():
        return InlineLearner(run, store, make(features=3, comparisons_per_step=0.1))

    through, resumed = worker(), worker()
    assert not through.ready
    through.fit(0, 1)
    assert through.ready
    assert (through.metrics["comparisons"], through.metrics["reward_updates"], through.metrics["version"]) == (5, 4, 1)
    through.fit(79, 1)
    assert through.metrics["version"] == 1  # nothing was due
    resumed.load_state_dict(through_file(tmp_path, through.state_dict()))
    for one in (through, resumed):
        one.fit(200, 2)
        assert (one.metrics["comparisons"], one.metrics["reward_updates"], one.metrics["version"]) == (10, 6, 2)
    assert same_tree(through.state_dict(), resumed.state_dict())
    published = PublishedReward(run.weights, make(features=3).ensemble)
    assert published.refresh()
    np.testing.assert_array_equal(published.ensemble.score(pool[0].features), through.ensemble.score(pool[0].features))
    store.close()


def test_training_leaves_torch_s_and_numpy_s_random_state_alone():
    torch.manual_seed(4)
    np.random.seed(4)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    make(Library(40)).train(80)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002


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


def test_nothing_is_fitted_without_comparisons():
    learner = make()
    before = {name: value.clone() for name, value in learner.ensemble.state_dict().items()}
    learner.train(80)
    assert same_tree(before, dict(learner.ensemble.state_dict()))
    assert learner.trainer.fitted == learner.trainer.updates == 0


def test_a_model_published_without_comparisons_is_the_untrained_one_s_average(tmp_path):
    learner = make(target_std=0.5)
    learner.publish(tmp_path / "weights")
    published = PublishedReward(tmp_path / "weights", make(seed=3).ensemble)
    assert published.refresh()
    assert published.version == 1
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = 0.5 * learner.ensemble.network(torch.as_tensor(x)).detach().mean(dim=0)
    np.testing.assert_allclose(published.ensemble.score(x), expected, rtol=1e-5)


def test_metrics_are_means_over_members():
    learner = make(Library(40))
    learner.train(80)
    learner.trainer.losses = torch.tensor([[0.2, 0.4, 0.9], [0.7, 0.6, 0.5]])
    learner.trainer.l2.coefficients = torch.tensor([0.01, 0.02, 0.06])
    figures = learner.metrics()
    assert figures == {
        "version": 0,
        "reward_updates": 10,
        "comparisons": 20,
        "training_loss": pytest.approx(0.5),
        "validation_loss": pytest.approx(0.6),
        "l2": pytest.approx(0.03),
    }


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
