"""What a reward learner learns: the reward, its penalty, its losses, and how much it fits when."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import Library, same_tree, segments, through_file, tiny_reward
from learning import make, watch

from prefrl.config import RewardConfig
from prefrl.experience.clips import ClipFolder
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds.comparison import Judgement, pair_query
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer, Label
from prefrl.recipes import resolve
from prefrl.reward import loss as loss_module
from prefrl.reward import trainer as trainer_module
from prefrl.reward.l2 import L2Controller
from prefrl.reward.learner import RewardLearner
from prefrl.reward.loss import multiplicity
from prefrl.reward.published import PublishedReward
from prefrl.reward.workers import InlineLearner


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


def test_l2_coefficients_are_on_the_device_of_the_losses():
    assert L2Controller(RewardConfig(members=4), "meta").coefficients.device.type == "meta"


def test_the_validation_loss_is_measured_without_dropout_and_leaves_the_network_as_it_was():
    """Of a member's only label, so that two measurements are about the same batch."""
    number = next(n for n in range(1, 500) if multiplicity(0, n, 3)[0] == 0)
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, 3, 48, 48), dtype=np.uint8)
    learner = RewardLearner(tiny_reward(network="cnn", batch_size=2), Inputs((3, 48, 48)), 5, 0)
    learner.add([Label(number, (0, 1), 1.0)], lambda segment: (frames[segment], np.zeros(5, np.float32)))
    learner.ensemble.train()
    before = {name: value.clone() for name, value in learner.ensemble.state_dict().items()}
    losses = []
    for _ in range(2):
        learner.trainer.losses.fill_(torch.nan)
        learner.trainer.validate()
        losses.append(learner.trainer.losses[1, 0].item())
    assert losses[0] == losses[1] > 0
    assert same_tree(before, dict(learner.ensemble.state_dict()))
    assert learner.ensemble.training


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


def test_nothing_is_fitted_without_comparisons():
    learner = make()
    before = {name: value.clone() for name, value in learner.ensemble.state_dict().items()}
    learner.train(80)
    assert same_tree(before, dict(learner.ensemble.state_dict()))
    assert learner.trainer.fitted == learner.trainer.updates == 0


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


def test_the_gradient_is_of_the_members_mean_losses_and_their_penalties():
    library = Library(40)
    learner, fresh = make(library, l2=0.01), make(library, l2=0.01)
    batch = fresh.dataset.training_batch()
    learner.trainer.step()
    sums = fresh.ensemble.forward_each(batch.steps).sum(dim=-1)
    right = torch.sigmoid((sums[..., 0] - sums[..., 1]) * (2 * batch.target - 1))
    loss = -(0.9 * right + 0.05).log().mean(dim=1).sum()
    (loss + 0.01 * sum(weight.square().sum() for weight in fresh.ensemble.network.weights)).backward()
    for own, expected in zip(*(each.ensemble.network.parameters() for each in (learner, fresh)), strict=True):
        torch.testing.assert_close(own.grad, expected.grad, rtol=1e-4, atol=1e-6)


def test_validation_losses_are_of_each_member_s_own_labels():
    library = Library(40)
    learner, fresh = make(library), make(library)
    batch = fresh.dataset.validation_batch()
    learner.trainer.validate()
    sums = fresh.ensemble.forward_each(batch.steps).sum(dim=-1)
    right = torch.sigmoid((sums[..., 0] - sums[..., 1]) * (2 * batch.target - 1))
    expected = -(0.9 * right + 0.05).log().mean(dim=1)
    assert learner.trainer.losses[1].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert len(set(expected.tolist())) == 3
