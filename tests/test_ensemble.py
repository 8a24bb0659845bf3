import dataclasses

import numpy as np
import pytest
import torch
from helpers import Library, film, same_tree, segments, through_file, tiny_reward
from torch import nn

from prefrl.config import migrations
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.inputs import Inputs, Recorded, feature_inputs, inputs_of
from prefrl.recipes import resolve
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.input_normalisation import InputNormaliser
from prefrl.reward.learner import RewardLearner
from prefrl.reward.likelihood import Likelihood
from prefrl.reward.loss import preference_logit
from prefrl.reward.networks import StackedMLP
from prefrl.reward.published import PublishedReward, largest_weights
from prefrl.storage.files import DamagedFileError, load_tree, save_tree


def ensemble(features=4, seed=0, **changes):
    torch.manual_seed(seed)
    return RewardEnsemble(tiny_reward(**changes), Inputs((features,)))


def rows(count=500, features=4, seed=0):
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def test_network_is_one_leaky_mlp_a_member():
    torch.manual_seed(0)
    network = StackedMLP(3, 5, (6, 7), 0.01)
    x = torch.randn(11, 5)
    for member in range(3):
        hidden = x
        for layer in range(3):
            hidden = hidden @ network.weights[layer][member] + network.biases[layer][member]
            if layer < 2:
                hidden = torch.where(hidden > 0, hidden, 0.01 * hidden)
        torch.testing.assert_close(network(x)[member], hidden[:, 0])


def test_networks_are_given_only_what_they_are_to_read():
    whole, part = Inputs((5,)), Inputs((5,), unread=2)
    assert (whole.read, part.read) == (whole, Inputs((3,)))
    for enabled in (True, False):
        normaliser = InputNormaliser(part, enabled=enabled)
        normaliser.mean.fill_(1)
        for shape in ((11, 5), (3, 11, 5)):
            steps = torch.randn(shape)
            torch.testing.assert_close(normaliser(steps), steps[..., :3] - int(enabled))


def test_a_reward_model_of_vectors_can_ignore_the_action():
    config = resolve("hopper", settings={"reward.reads_actions": False})
    inputs = inputs_of(config, (11,), 3)
    assert inputs == Inputs((14,), unread=3)
    assert feature_inputs(config, (11,), 3) == Inputs((14,))  # clips keep it
    model = RewardEnsemble(config.reward, inputs)
    steps = rows(features=14)
    model.input_normaliser.mean.copy_(steps.mean(dim=0))
    other = steps.clone()
    other[:, 11:] = torch.rand(500, 3)
    assert torch.equal(model.predict(steps), model.predict(other))
    other[:, 10] += 1
    assert not torch.equal(model.predict(steps), model.predict(other))


def test_members_start_from_different_weights_within_the_bounds_of_a_linear_layer():
    torch.manual_seed(0)
    network = StackedMLP(3, 16, (64, 64), 0.01)
    for weight, fan_in in zip(network.weights, (16, 64, 64), strict=True):
        assert weight.abs().max() <= fan_in**-0.5
        assert weight.std().item() == pytest.approx(fan_in**-0.5 / 3**0.5, rel=0.1)
        assert not torch.equal(weight[0], weight[1])
    for bias, fan_in in zip(network.biases[:2], (16, 64), strict=True):
        assert bias.abs().max() <= fan_in**-0.5
        assert bias.std().item() == pytest.approx(fan_in**-0.5 / 3**0.5, rel=0.15)
    assert (network(torch.randn(20, 16)).var(dim=0) > 0).all()


def test_members_do_not_share_gradients():
    network = StackedMLP(3, 4, (8,), 0.01)
    network(torch.randn(9, 4))[1].sum().backward()
    for parameter in network.parameters():
        assert parameter.grad[0].abs().sum() == 0
        assert parameter.grad[1].abs().sum() > 0
        assert parameter.grad[2].abs().sum() == 0


def test_penalty_is_each_member_s_sum_of_squared_weights():
    network = StackedMLP(2, 3, (4,), 0.01)
    expected = [sum((weight[member] ** 2).sum().item() for weight in network.weights) for member in range(2)]
    assert network.squared_norm().tolist() == pytest.approx(expected)


@pytest.mark.parametrize("target", [1.0, 0.05])
def test_members_are_normalised_separately_and_their_average_has_the_target_deviation(target):
    model, x = ensemble(target_std=target), rows()
    with torch.no_grad():
        model.network.weights[-1][1] *= 50  # one member much louder than the others, and shifted
        model.network.biases[-1][1] += 30
    model.fit_output_normalisation(x)
    members = (model(x).detach() - model.output_normaliser.mean) / model.output_normaliser.std
    torch.testing.assert_close(members.mean(dim=1), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(members.std(dim=1), torch.ones(3), atol=1e-4, rtol=0)
    reward = model.reward(x)
    assert reward.std().item() == pytest.approx(target, rel=1e-4)
    assert reward.mean().item() == pytest.approx(0, abs=1e-4 * target)
    average = members.mean(dim=0)  # every member counts alike, however loud it was
    torch.testing.assert_close(reward, average * target / average.std(), atol=1e-4 * target, rtol=1e-4)


def test_a_member_that_is_constant_does_not_make_rewards_infinite():
    model = ensemble()
    with torch.no_grad():
        model.network.weights[-1][0] = 0
    model.fit_output_normalisation(rows())
    assert torch.isfinite(model.reward(rows(seed=1))).all()


def test_forward_keeps_leading_axes():
    model = ensemble()
    x = torch.randn(6, 2, 5, 4)
    assert model(x).shape == (3, 6, 2, 5)
    torch.testing.assert_close(model(x)[:, 3, 1, 2], model(x[3, 1, 2][None])[:, 0])


def test_inputs_are_normalised_by_the_model_s_own_statistics():
    model = ensemble()
    with torch.no_grad():
        model.input_normaliser.mean.copy_(torch.tensor([1.0, -2.0, 0.0, 5.0]))
        model.input_normaliser.std.copy_(torch.tensor([2.0, 0.5, 1.0, 4.0]))
    x = rows(20)
    torch.testing.assert_close(
        model(x), model.network(((x - model.input_normaliser.mean) / model.input_normaliser.std).clamp(-10, 10))
    )


def test_a_feature_far_outside_the_labelled_range_is_clipped():
    model = ensemble()
    far, farther = torch.full((1, 4), 1e3), torch.full((1, 4), 1e9)
    torch.testing.assert_close(model(far), model(farther))
    assert torch.isfinite(model(farther)).all()


def test_predicted_preferences_are_each_member_s_sigmoid_of_the_difference_of_sums():
    model = ensemble(features=3)
    pool = segments(6, rewards=np.zeros(5))
    pairs = np.array([[4, 1], [1, 4], [0, 5], [5, 1]])
    predicted = model.predict_preferences(pool, pairs)
    assert predicted.shape == (3, 4)
    for place, (left, right) in enumerate(pairs):
        sums = [model(torch.as_tensor(pool[index].features)).sum(dim=1) for index in (left, right)]
        expected = torch.sigmoid(sums[0] - sums[1]).detach().numpy()
        np.testing.assert_allclose(predicted[:, place], expected, rtol=1e-5)
    np.testing.assert_allclose(predicted[:, 0] + predicted[:, 1], 1, rtol=1e-5)


def test_preferences_do_not_change_with_output_normalisation():
    model = ensemble(features=3)
    pool, pairs = segments(4), np.array([[0, 1], [2, 3]])
    before = model.predict_preferences(pool, pairs)
    model.fit_output_normalisation(rows(features=3))
    np.testing.assert_array_equal(before, model.predict_preferences(pool, pairs))


def test_predictions_have_no_gradients():
    model = ensemble()
    assert model(rows(3)).requires_grad
    assert not model.predict(rows(3)).requires_grad
    assert not model.reward(rows(3)).requires_grad


def test_score_is_the_reward_from_and_to_numpy():
    model = ensemble()
    model.fit_output_normalisation(rows())
    x = rows(9, seed=4)
    scored = model.score(x.numpy())
    assert scored.dtype == np.float32
    np.testing.assert_array_equal(scored, model.reward(x).numpy())


def test_published_weights_give_the_reader_the_same_rewards(tmp_path):
    library = Library(40)
    learner = RewardLearner(tiny_reward(), Inputs((4,)), 5, seed=0)
    learner.add(library.comparisons(), library.read)
    learner.train(64)
    learner.publish(tmp_path / "weights")
    reader = PublishedReward(tmp_path / "weights", ensemble(seed=5))
    assert reader.version == 0
    assert reader.refresh()
    assert reader.version == 1
    assert reader.metrics["comparisons"] == 20
    x = library.features.reshape(-1, 4)
    np.testing.assert_array_equal(reader.ensemble.score(x), learner.ensemble.score(x))
    assert reader.refresh() is False
    learner.publish(tmp_path / "weights")
    assert reader.refresh()
    assert reader.version == 2


def test_a_reader_of_weights_not_yet_published_waits(tmp_path):
    reader = PublishedReward(tmp_path / "weights", ensemble())
    assert not reader.refresh()
    assert reader.version == 0


def test_weights_of_an_older_format_are_upgraded_and_new_ones_are_of_the_newest(tmp_path, monkeypatch):
    learner = RewardLearner(tiny_reward(), Inputs((4,)), 5, seed=0)
    learner.publish(tmp_path / "old")
    monkeypatch.setattr(migrations, "MIGRATIONS", (migrations.Rename("weights", 2, "metrics.l2", "metrics.penalty"),))
    reader = PublishedReward(tmp_path / "old", ensemble())
    assert reader.refresh()
    assert "penalty" in reader.metrics
    learner.publish(tmp_path / "new")
    assert load_tree(tmp_path / "new")["format"] == 2


def test_a_file_of_weights_has_at_most_twice_their_size_and_a_mebibyte():
    """Of three members: 4 x 8 + 8 and 8 + 1 weights, mean and deviation of the output; 4 + 4 of the inputs; a scale."""
    assert largest_weights(ensemble()) == 2 * 4 * (3 * (40 + 9 + 2) + 8 + 1) + 2**20


def test_weights_that_are_damaged_are_waited_over(tmp_path):
    reader = PublishedReward(tmp_path / "weights", ensemble())
    (tmp_path / "weights").write_bytes(b"half a file")
    assert reader.refresh() is False
    assert reader.version == 0
    RewardLearner(tiny_reward(), Inputs((4,)), 5, seed=0).publish(tmp_path / "weights")
    assert reader.refresh() is True
    assert reader.version == 1


def test_inputs_are_the_shapes_of_steps_and_segments():
    vectors, frames, films = Inputs((5,)), Inputs((3, 8, 9)), Inputs((4, 8, 9), stack=4)
    assert [inputs.images for inputs in (vectors, frames, films)] == [False, True, True]
    assert [inputs.dtype for inputs in (vectors, frames, films)] == [np.float32, np.uint8, np.uint8]
    assert [inputs.segment(6) for inputs in (vectors, frames, films)] == [(6, 5), (6, 3, 8, 9), (9, 8, 9)]
    for inputs, dtype in ((vectors, torch.float32), (frames, torch.uint8)):
        room = inputs.empty(7, 6, "meta")
        assert (room.shape, room.dtype, room.device.type) == ((7, *inputs.segment(6)), dtype, "meta")


def test_recorded_steps_are_their_shapes_and_have_at_most_so_many_bytes():
    """Of four steps: vectors of 3 and actions of 2, of 8 bytes a number; stacked frames, of a byte a pixel."""
    vectors, films = Recorded((3,), (2,)), Recorded((4, 8, 9), (5,), itemsize=1)
    assert (vectors.nbytes(4), films.nbytes(4, 4)) == (4 * 3 * 8 + 4 * 2 * 8, 7 * 8 * 9 + 4 * 5 * 8)
    assert vectors == Recorded((3,), (2,), itemsize=4) != films
    assert str(films) == "observations of 4x8x9 and actions of 5"


def test_a_run_s_reward_reads_observation_and_action_or_the_frames_alone():
    assert inputs_of(resolve("hopper"), (2, 4), 3) == Inputs((11,))
    assert inputs_of(resolve("hopper", settings={"reward.reads_actions": True}), (2, 4), 3) == Inputs((11,))
    assert inputs_of(resolve("pong", settings={"reward.reads_actions": False}), (4, 84, 84), 6).unread == 0
    assert inputs_of(resolve("pong"), (4, 84, 84), 6) == Inputs((4, 84, 84), stack=4)
    reading = resolve("pong", settings={"reward.reads_actions": True})
    assert inputs_of(reading, (4, 84, 84), 6) == Inputs((5, 84, 84), reads_actions=True)
    assert feature_inputs(reading, (4, 84, 84), 6) == Inputs((4, 84, 84), stack=4)


def test_only_actions_that_fit_beside_images_can_be_read():
    reading = resolve("pong", settings={"reward.reads_actions": True})
    assert inputs_of(reading, (4, 84, 6), 6).step == (5, 84, 6)
    with pytest.raises(UsageError, match="can show 5 numbers, and an action has 6"):
        inputs_of(reading, (4, 84, 5), 6)


def test_a_clip_of_an_older_version_has_no_actions_to_read():
    reading = Inputs((5, 84, 84), reads_actions=True)
    whole = dataclasses.replace(film(), actions=np.eye(6, dtype=np.float32)[np.arange(25) % 6])
    features = reading.features(whole)
    assert features.shape == reading.segment(len(whole))
    np.testing.assert_array_equal(features[:, :4], whole.observations)
    assert len({frame.tobytes() for frame in features[:, 4]}) == 6  # one for each action
    older = dataclasses.replace(whole, actions=np.zeros((len(whole), 0), np.float32))
    np.testing.assert_array_equal(Inputs((4, 84, 84), stack=4).features(older), whole.frames)
    with pytest.raises(PrefrlError, match="kept no actions"):
        reading.features(older)


def test_weights_hold_all_statistics(tmp_path):
    one, other = ensemble(seed=1), ensemble(seed=2)
    one.fit_output_normalisation(rows())
    one.input_normaliser.mean += 1
    other.load_arrays(through_file(tmp_path, dict(one.state_dict())))
    assert same_tree(dict(one.state_dict()), dict(other.state_dict()))


def test_weights_of_another_shape_are_refused(tmp_path):
    save_tree(tmp_path / "weights", {"weights": dict(ensemble(features=9).state_dict()), "metrics": {}})
    with pytest.raises(DamagedFileError, match="has unexpected content"):
        PublishedReward(tmp_path / "weights", ensemble()).refresh()


def test_the_logit_of_normalised_inputs_is_that_of_the_labelled_segments():
    library = Library(60)
    learner = RewardLearner(tiny_reward(), Inputs((4,)), 5, seed=0)
    learner.add(library.comparisons(), library.read)
    steps = library.features.reshape(-1, 4)
    normalised = (
        steps - learner.ensemble.input_normaliser.mean.numpy()
    ) / learner.ensemble.input_normaliser.std.numpy()
    np.testing.assert_allclose(normalised.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(normalised.std(axis=0), 1, rtol=1e-5)
    pair = torch.as_tensor(normalised.reshape(60, 5, 4)[:2], dtype=torch.float32)
    direct = learner.ensemble.network(pair.reshape(-1, 4)).reshape(3, 2, 5)
    through = learner.ensemble(torch.as_tensor(library.features[:2]))
    torch.testing.assert_close(preference_logit(direct), preference_logit(through), atol=1e-5, rtol=1e-4)


def test_weights_of_older_versions_are_read():
    one, other = ensemble(seed=1), ensemble(seed=2)
    one.fit_output_normalisation(rows())
    one.input_normaliser.mean += 1
    older = {"input_normaliser.": "input_", "output_normaliser.scale": "scale", "output_normaliser.": "member_"}
    arrays = {}
    for name, value in one.state_dict().items():
        new = next((prefix for prefix in older if name.startswith(prefix)), None)
        arrays[name.replace(new, older[new]) if new else name] = value.numpy()
    assert {"input_mean", "input_std", "member_mean", "member_std", "scale"} < arrays.keys()
    other.load_arrays(arrays)
    assert same_tree(dict(one.state_dict()), dict(other.state_dict()))


class OfLayers(Likelihood):
    """A likelihood whose parameters are those of a module in it."""

    def __init__(self):
        super().__init__()
        self.odds = nn.Linear(2, 1)


def test_likelihoods_are_loaded_whole_by_those_who_have_them():
    made = RewardEnsemble(tiny_reward(), Inputs((4,)), {"layered": OfLayers()})
    arrays = {name: tensor.numpy().copy() for name, tensor in made.state_dict().items()}
    again = RewardEnsemble(tiny_reward(), Inputs((4,)), {"layered": OfLayers()})
    again.load_arrays(arrays)
    assert all(torch.equal(tensor, made.state_dict()[name]) for name, tensor in again.state_dict().items())
    without = ensemble(seed=1)
    without.load_arrays(arrays)
    assert torch.equal(without.reward(rows()), made.reward(rows()))
    with pytest.raises(RuntimeError, match="Missing"):
        again.load_arrays({name: array for name, array in arrays.items() if "odds" not in name})
