"""Whether a query can be told: the model, and what it reads."""

import numpy as np
import pytest
import torch
from helpers import film, segments, through_file, tiny_reward

from prefrl.errors import PrefrlError
from prefrl.experience.inputs import Inputs
from prefrl.feedback.terms import GivenAnswer
from prefrl.reward import answerable as model_module
from prefrl.reward.answerable import Answerable, can_fit, fit, rate_of
from prefrl.reward.answerable_inputs import (
    fit_to_answers,
    input_prior,
    input_width,
    query_inputs,
    segment_inputs,
    summary,
)
from prefrl.reward.ensemble import RewardEnsemble

# -- the model --------------------------------------------------------------------------------------------------------


def pairs_of_sums(count=200, seed=0):
    """Inputs of pairs, of which those cannot be told whose sums are both negative; the last four mean nothing."""
    rng = np.random.default_rng(seed)
    inputs = np.concatenate([np.sort(rng.normal(10, 5, size=(count, 2)), axis=1), rng.normal(size=(count, 4))], axis=1)
    return inputs, inputs[:, 1] < 8


PRIOR = input_prior(6, 2)


def test_what_cannot_be_told_is_learned_from_answers():
    model = fit(*pairs_of_sums(), PRIOR, 0)
    inputs, untold = pairs_of_sums(500, seed=1)
    predicted = model.predict(inputs)
    assert ((predicted > 0.5) == untold).mean() > 0.95
    assert predicted.shape == (500,)
    assert model.rate == pairs_of_sums()[1].mean()


def test_the_fit_is_the_maximum_of_the_posterior():
    """Another implementation of the posterior, which no small change of a weight increases."""
    (inputs, untold), prior = pairs_of_sums(60), PRIOR
    weights = fit(inputs, untold, prior, 0).weights
    np.testing.assert_allclose(weights["mean"], inputs.mean(axis=0))
    np.testing.assert_allclose(weights["deviation"], inputs.std(axis=0))

    def posterior(changed):
        standard = np.clip((inputs - changed["mean"]) / changed["deviation"], -4, 4)
        hidden = np.tanh(standard @ changed["hidden"] + changed["hidden_bias"])
        logit = hidden @ changed["output"] + standard @ changed["linear"] + changed["bias"]
        fitted = -np.logaddexp(0, np.where(untold, -logit, logit)).sum()
        of_inputs = ((changed["hidden"] / prior[:, None]) ** 2).sum() + ((changed["linear"] / prior) ** 2).sum()
        return fitted - (of_inputs + (changed["hidden_bias"] ** 2).sum() + (changed["output"] ** 2).sum()) / 2

    best = posterior(weights)
    for name in ("hidden", "hidden_bias", "output", "linear", "bias"):
        for place in np.ndindex(weights[name].shape):
            for change in (-0.03, 0.03):
                moved = weights[name].copy()
                moved[place] += change
                assert posterior(weights | {name: moved}) < best, (name, place)


def test_the_fit_depends_on_nothing_but_answers_and_seed():
    inputs, untold = pairs_of_sums(40)
    torch.manual_seed(1)
    one = fit(inputs, untold, PRIOR, 3)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again, other = fit(inputs, untold, PRIOR, 3), fit(inputs, untold, PRIOR, 4)
    assert torch.equal(before, torch.get_rng_state())
    for name, array in one.weights.items():
        np.testing.assert_array_equal(array, again.weights[name])
    assert not np.array_equal(one.weights["hidden"], other.weights["hidden"])


def test_the_fit_starts_from_small_weights_and_the_rate(monkeypatch):
    monkeypatch.setattr(model_module, "_ITERATIONS", 0)
    inputs, untold = pairs_of_sums(40)
    weights = fit(inputs, untold, PRIOR, 0).weights
    for array in (weights["hidden"] / PRIOR[:, None], weights["output"]):
        assert 0.5 < array.std() * np.sqrt(6) < 1.5
    assert not weights["hidden_bias"].any()
    assert not weights["linear"].any()
    assert weights["bias"] == pytest.approx(np.log(untold.mean() / (1 - untold.mean())))


@pytest.mark.parametrize("few", [4, 36])
def test_too_few_answers_of_a_class_give_a_rate(few):
    inputs, _ = pairs_of_sums(40)
    model = fit(inputs, np.arange(40) < few, PRIOR, 0)
    assert model.weights == {}
    assert model.predict(inputs[:3]).tolist() == [few / 40] * 3


def test_five_answers_of_each_class_are_enough():
    assert [can_fit(np.arange(10) < count) for count in (0, 4, 5, 6)] == [False, False, True, False]
    assert (rate_of(np.zeros(0, bool)), rate_of(np.array([True, False, False, False]))) == (0.0, 0.25)


def test_inputs_that_do_not_vary_or_are_no_numbers_do_no_harm():
    inputs, untold = pairs_of_sums(40)
    inputs[:, 5] = 0.1 + 0.2
    model = fit(inputs, untold, PRIOR, 0)
    strange = inputs[:4].copy()
    strange[0, 5], strange[1, 0], strange[2, 1], strange[3, :] = 1e300, np.nan, np.inf, -np.inf
    assert np.isfinite(model.predict(strange)).all()


def test_nothing_is_extrapolated_beyond_four_deviations():
    model = fit(*pairs_of_sums(), PRIOR, 0)
    mean, deviation = model.weights["mean"], model.weights["deviation"]
    at = [model.predict((mean + far * deviation)[None])[0] for far in (3, 4, 40)]
    assert at[1] == pytest.approx(at[2])
    assert at[0] != pytest.approx(at[1], rel=1e-6)


def test_a_model_in_a_file_predicts_the_same(tmp_path):
    inputs, untold = pairs_of_sums(40)
    for model in (fit(inputs, untold, PRIOR, 0), *(Answerable(rate, {}) for rate in (0.0, 0.25, 1.0))):
        again = Answerable.from_tree(through_file(tmp_path, {"x": model.to_tree()})["x"], 6)
        assert again.rate == model.rate
        np.testing.assert_array_equal(again.predict(inputs), model.predict(inputs))


def changed(tree, name, value):
    return tree | {"weights": tree["weights"] | {name: value}}


@pytest.mark.parametrize(
    "damage",
    [
        lambda tree: tree | {"rate": 1.5},
        lambda tree: tree | {"rate": -0.1},
        lambda tree: tree | {"rate": float("nan")},
        lambda tree: tree | {"rate": "much"},
        lambda tree: {"weights": tree["weights"]},
        lambda tree: tree | {"weights": 3},
        lambda tree: changed(tree, "more", np.zeros(3)),
        lambda tree: changed(tree, "hidden", np.zeros((7, 8))),
        lambda tree: changed(tree, "linear", np.zeros(6, np.int64)),
        lambda tree: changed(tree, "output", np.full(8, np.inf)),
        lambda tree: changed(tree, "output", [0.0] * 8),
        lambda tree: changed(tree, "deviation", np.zeros(6)),
    ],
)
def test_other_content_is_refused(damage):
    tree = fit(*pairs_of_sums(40), PRIOR, 0).to_tree()
    Answerable.from_tree(tree, 6)
    with pytest.raises((ValueError, TypeError, AttributeError, LookupError)):
        Answerable.from_tree(damage(tree), 6)


def test_a_model_of_another_width_is_refused():
    with pytest.raises(ValueError, match="other shapes"):
        Answerable.from_tree(fit(*pairs_of_sums(40), PRIOR, 0).to_tree(), 7)


# -- inputs -----------------------------------------------------------------------------------------------------------


def test_the_summary_of_vectors_is_their_mean():
    assert summary(np.array([[1, 5], [3, 6]], np.float32)).tolist() == [2, 5.5]


def test_the_summary_of_images_is_the_mean_over_cells():
    frames = np.zeros((2, 14, 21), np.uint8)
    frames[:, :2, 3:6], frames[0, 12:, 18:] = 255, 51
    found = summary(frames).reshape(7, 7)
    expected = np.zeros((7, 7))
    expected[0, 1], expected[6, 6] = 1, 0.1
    np.testing.assert_allclose(found, expected)
    assert summary(np.zeros((4, 3, 10, 5), np.uint8)).shape == (35,)
    assert summary(np.zeros((4, 2, 30), np.uint8)).shape == (14,)


def test_the_width_is_that_of_the_inputs():
    assert input_width(Inputs((3,)), 2) == 5
    assert input_width(Inputs((4, 84, 84), 4), 2) == 51
    assert input_width(Inputs((3, 10, 5)), 1) == 36


def test_the_summaries_together_weigh_as_much_as_a_sum():
    np.testing.assert_allclose(input_prior(6, 2), [1, 1, 0.5, 0.5, 0.5, 0.5])
    assert input_prior(2, 2).tolist() == [1, 1]


def test_inputs_are_the_same_whichever_segment_is_first():
    found = np.array([[3.0, 1.0, 10.0], [-1.0, 2.0, 20.0], [2.0, 4.0, 0.0]])
    assert query_inputs(found, np.array([[0, 1], [1, 0]])).tolist() == 2 * [[-1, 3, 1.5, 15]]
    assert query_inputs(found, np.array([[2]])).tolist() == [[2, 4, 0]]


VECTORS = Inputs((3,))


def ensemble_of(inputs=VECTORS, **changes):
    torch.manual_seed(0)
    return RewardEnsemble(tiny_reward(**changes), inputs)


def test_the_sums_are_those_of_the_rewards_that_the_agent_gets():
    pool, ensemble = segments(70), ensemble_of()
    found = segment_inputs(ensemble, (each.features for each in pool))
    np.testing.assert_allclose(found[:, 0], [ensemble.score(each.features).sum() for each in pool], rtol=1e-5)
    np.testing.assert_allclose(found[:, 1:], [each.features.mean(axis=0) for each in pool], rtol=1e-5)
    assert segment_inputs(ensemble, []).shape == (0, 4)


def test_inputs_of_images():
    ensemble = ensemble_of(Inputs((4, 84, 84), 4), network="cnn")
    films = [film(5, seed=seed).features for seed in range(2)]
    found = query_inputs(segment_inputs(ensemble, films), np.array([[1, 0]]))
    assert found.shape == (1, input_width(ensemble.inputs, 2))


def given_about(count):
    """Answers about pairs of neighbours, of which every third could not be told."""
    return [GivenAnswer(n + 1, (n, n + 1), None if n % 3 == 0 else 1.0) for n in range(count)]


def test_answers_with_unreadable_clips_are_left_out():
    pool, ensemble = segments(31), ensemble_of()

    def features(number, missing=()):
        if number in missing:
            raise PrefrlError("missing")
        return pool[number].features

    def without(*missing):
        return fit_to_answers(given_about(30), lambda number: features(number, missing), ensemble, 0)

    whole, lacking = without(), without(4)
    assert whole.rate == 10 / 30
    assert lacking.rate == 9 / 28  # answers 4 and 5 are left out, the first of which is "can't tell"
    left = [answer for answer in given_about(30) if 4 not in answer.segments]
    again = fit_to_answers(left, features, ensemble, 0)
    np.testing.assert_array_equal(lacking.weights["output"], again.weights["output"])
    assert without(*range(2, 31)).weights == {}


def test_clips_are_read_in_the_order_of_their_ids():
    pool, read = segments(31), []
    given_ = [GivenAnswer(n + 1, (4096 * n, 4096 * n + 4096), None if n % 3 == 0 else 1.0) for n in range(30)]
    fit_to_answers(given_, lambda number: read.append(number) or pool[number // 4096].features, ensemble_of(), 0)
    assert read == [4096 * n for n in range(31)]


def test_without_cannot_tell_there_is_no_model_and_no_clip_is_read():
    told = [answer for answer in given_about(30) if answer.told]
    assert fit_to_answers(told, pytest.fail, ensemble_of(), 0) is None
    few = [answer for answer in given_about(30) if answer.told or answer.id < 13]
    assert fit_to_answers(few, pytest.fail, ensemble_of(), 0).rate == 4 / 24
