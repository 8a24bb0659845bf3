"""`prefrl bench anatomy`: its mathematics by hand, the games it plays, and whole measurements of tiny runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from labelled import add_labels, better, make_run
from prefrl_benchmarks.measure.anatomy import games
from prefrl_benchmarks.measure.anatomy.alignment import (
    OFFSETS,
    Scored,
    agreement,
    around,
    deviation_far,
    discounted_sums,
    far,
    relations,
    resolution,
    window_sums,
)
from prefrl_benchmarks.measure.anatomy.figures import most_told
from prefrl_benchmarks.measure.anatomy.fits import decided, unseen
from prefrl_benchmarks.measure.anatomy.games import Game, play_games, scored, with_noise
from prefrl_benchmarks.measure.anatomy.request import Variant, parse_variants
from runs import content, prefrl, refused, tiny

from prefrl.encoder import encode
from prefrl.errors import UsageError
from prefrl.experience.environments import reward_inputs
from prefrl.experience.evaluation import evaluate, evaluation_seed
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.terms import Label
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.runs.directory import RunDirectory

# -- the mathematics --------------------------------------------------------------------------------------------------


def game(predicted: list[float], true: list[float]) -> Scored:
    return Scored(np.array(predicted, np.float32), np.array(true, np.float32))


def test_window_sums() -> None:
    assert window_sums(np.array([1.0, 2, 3, 4]), 2).tolist() == [3, 5, 7]
    assert window_sums(np.array([1.0, 2, 3, 4]), 4).tolist() == [10]
    assert window_sums(np.array([1.0, 2, 3, 4]), 5).tolist() == []


def test_discounted_sums_run_to_the_end_of_the_game() -> None:
    assert discounted_sums(np.array([1.0, 0, 4]), 0.5).tolist() == [2, 2, 4]
    assert discounted_sums(np.zeros(0), 0.5).tolist() == []


def test_agreement_is_by_side_of_the_mean() -> None:
    # The means are 2 and 0: of the rewards 1, -1, 1, -1 at steps 0, 1, 3, 4, the first and the last agree.
    predicted, true = np.array([5.0, 3, 1, 0, 1]), np.array([1.0, -1, 0, 1, -1])
    assert agreement(predicted, true) == 0.5
    assert agreement(predicted + 100, true) == 0.5
    assert agreement(predicted, np.zeros(5)) is None


def test_relations_never_cross_the_end_of_a_game() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(size=(2, 12))
    found = relations([Scored(2 * one + 1, one) for one in true], 0.9)
    assert {scale: each["pairs"] for scale, each in found.items()} == {
        "step": 24,
        "window 10": 6,
        "window 25": 0,
        "window 100": 0,
        "discounted": 24,
    }
    assert found["step"]["correlation"] == pytest.approx(1)
    assert found["step"]["agreement"] == 1
    assert found["window 10"]["correlation"] == pytest.approx(1)
    assert found["window 25"] == {"pairs": 0, "correlation": None, "agreement": None}
    # Adding one to every reward adds more to the sum of a step with more steps to come.
    assert 0 < found["discounted"]["correlation"] < 0.999


def test_correlations_worked_by_hand() -> None:
    # The true sums of the windows of ten are 1, 1, 3.
    one = game([1, *[0] * 9, 2, 3], [1, *[0] * 9, 1, 2])
    assert window_sums(one.predicted, 10).tolist() == [1, 2, 5]
    assert relations([one], 0.9)["window 10"]["correlation"] == pytest.approx(np.corrcoef([1, 2, 5], [1, 1, 3])[0, 1])


def test_means_around_rewards() -> None:
    predicted = np.arange(40, dtype=np.float32)
    true = np.zeros(40)
    true[[2, 35]], true[20] = 1, -3
    found = around([Scored(predicted, true)], 1)
    at = {offset: (mean, count) for offset, mean, count in zip(*list(found.values())[1:], strict=True)}
    assert found["steps"] == 2
    assert list(at) == list(OFFSETS)
    assert (at[0], at[1], at[-2], at[4]) == ((18.5, 2), (19.5, 2), (16.5, 2), (22.5, 2))
    assert at[-3] == (32, 1)  # three steps before step 2 there is no game yet
    assert at[-30] == (5, 1)
    assert at[5] == (7, 1)  # and none five steps after step 35
    negative = around([Scored(predicted, true)] * 2, -1)
    assert negative["steps"] == 2
    assert (negative["mean"][30], negative["counts"][30]) == (20, 2)
    assert (negative["mean"][0], negative["counts"][0]) == (None, 0)
    assert around([Scored(predicted, np.zeros(40))], 1)["steps"] == 0


def test_steps_far_from_rewards() -> None:
    true = np.zeros(100)
    true[50] = -1
    assert np.flatnonzero(~far(true)).tolist() == list(range(20, 66))
    assert far(np.zeros(3)).all()
    assert not far(np.ones(3)).any()
    predicted = np.zeros(100)
    predicted[:2] = 3, -3
    predicted[40] = 1000
    found = deviation_far([Scored(predicted, true)])
    assert found == {"steps": 54, "std": pytest.approx(np.sqrt(18 / 54))}
    assert deviation_far([Scored(np.ones(3), np.ones(3))]) == {"steps": 0, "std": None}


def test_resolution_is_each_member_s_own() -> None:
    found = resolution(np.array([[1.0, 1, 3, 3], [0, 1, 2, 5]]))
    assert found[0] == {"mean": 2, "std": 1, "levels": 2}
    assert (found[1]["mean"], found[1]["levels"]) == (2, 4)


def test_the_game_that_is_drawn_has_rewards_of_both_signs() -> None:
    lost, both, none = [0, -1, -1, -1], [0, 1, 0, -1], [0, 0, 0, 0]
    assert most_told([game([0] * 4, [float(r) for r in true]) for true in (none, lost, both)]) == 2
    assert most_told([game([0] * 4, [float(r) for r in true]) for true in (none, lost)]) == 1


def test_predictions_are_normalised_over_all_games() -> None:
    outputs = torch.tensor([[1.0, 2, 3, 4, 10], [2, 4, 6, 8, 20]])  # two members that agree but for their scale
    parts = [Game(0.0, np.zeros(2, np.float32), {"a": outputs[:, :2]}, False)]
    parts.append(Game(1.0, np.ones(3, np.float32), {"a": outputs[:, 2:]}, False))
    first, second = scored(parts, "a")
    expected = (outputs[0].numpy() - 4) / np.sqrt(10)
    np.testing.assert_allclose(np.concatenate([first.predicted, second.predicted]), expected, rtol=1e-5)
    assert (len(first.true), second.true.tolist()) == (2, [1, 1, 1])


# -- labels and variants ----------------------------------------------------------------------------------------------


def test_ties_are_not_judged() -> None:
    labels = [Label(1, (0, 1), 1.0), Label(2, (1, 2), 0.5), Label(3, (2, 3), 0.0)]
    assert [label.id for label in decided(KINDS["comparison"], labels)] == [1, 3]


def test_labels_are_unseen_if_no_clip_was_fitted() -> None:
    labels = [Label(1, (0, 1), 1.0), Label(2, (1, 2), 0.0), Label(3, (2, 3), 0.0)]
    assert [label.id for label in unseen(labels, [Label(4, (7, 1), 1.0)])] == [3]
    assert unseen(labels, []) == labels


def test_variants_are_names_and_settings() -> None:
    shared = {"reward.members": 1, "reward.l2": 0}
    assert parse_variants([], {}) == (Variant("run"),)
    found = parse_variants([["a"], ["b", "reward.members=5", "reward.network=cnn"]], shared)
    assert found[0] == Variant("a", shared)
    assert found[1] == Variant("b", {"reward.members": 5, "reward.l2": 0, "reward.network": "cnn"})
    for wrong, told in (([["a=1"]], "NAME KEY=VALUE"), ([[]], "NAME"), ([["a", "b"]], "KEY=VALUE"), ([["a"]] * 2, "a")):
        with pytest.raises(UsageError, match=told):
            parse_variants(wrong, {})


# -- games ------------------------------------------------------------------------------------------------------------


def test_noise_replaces_its_share_of_the_actions() -> None:
    def act(observations: np.ndarray) -> np.ndarray:
        return np.full(len(observations), 9)

    space, seen = spaces.Discrete(5), np.zeros((2000, 1))
    assert (with_noise(act, space, 0.0, 0)(seen) == 9).all()
    assert set(with_noise(act, space, 1.0, 0)(seen)) == set(range(5))
    assert (with_noise(act, space, 0.3, 0)(seen) != 9).mean() == pytest.approx(0.3, abs=0.04)
    np.testing.assert_array_equal(with_noise(act, space, 0.3, 1)(seen), with_noise(act, space, 0.3, 1)(seen))


@pytest.mark.parametrize("chunk", [7, 64])
def test_games_are_those_of_an_evaluation_and_every_step_is_scored(
    chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reacher's episodes have 50 steps: seven chunks and a part of one, or less than one."""
    monkeypatch.setattr(games, "_CHUNK", chunk)
    config = make_run(tmp_path / "run").config
    torch.manual_seed(0)
    model = RewardEnsemble(config.reward, reward_inputs(config))
    seen: list[np.ndarray] = []

    def act(observations: np.ndarray) -> np.ndarray:
        seen.append(observations)
        return np.clip(observations[:, :2], -1, 1).astype(np.float32)

    played = play_games(config, act, {"model": model}, noise=0.0, episodes=3)
    assert [(game.cut, len(game.true)) for game in played] == [(False, 50)] * 3
    features = encode(np.stack(seen), np.clip(np.stack(seen)[..., :2], -1, 1).astype(np.float32), axes=2)
    for env, one in enumerate(played):
        expected = model.predict(torch.from_numpy(features[:, env]))
        torch.testing.assert_close(one.outputs["model"], expected, rtol=1e-5, atol=1e-5)
    same = evaluate(config, act, episodes=3, seed=evaluation_seed(config))
    assert [game.true.sum() for game in played] == pytest.approx(same.returns, rel=1e-5)


# -- the command ------------------------------------------------------------------------------------------------------

FILES = {"anatomy.json", "anatomy.csv", "accuracy.png", "accuracy.svg"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with 40 labels by a true reward, one in four of them a tie, and without a policy."""
    made = make_run(tmp_path_factory.mktemp("labelled") / "run", queries__labels=40)
    told = iter([Judgement.EQUAL, None, None, None] * 10)
    add_labels(made, 40, judge=lambda left, right: next(told) or better(left, right))
    return made


def test_vectors_are_judged_by_the_same_labels_whatever_is_fitted(run: RunDirectory, tmp_path: Path) -> None:
    before, out = content(run.root), tmp_path / "new" / "out"
    flags = ["--labels", "30", "10", "--variant", "one", "reward.members=1", "--variant", "five"]
    flags += ["--set", "reward.members=5", "--comparisons", "320", "--seeds", "2", "--noise"]
    done = prefrl("bench", "anatomy", run.root, "--out", out, *flags)
    assert done.code == 0, done.err
    assert {path.name for path in out.iterdir()} == FILES
    found = json.loads((out / "anatomy.json").read_text())
    assert found["labels"]["training"] == 32
    assert found["labels"]["held_out"] == 8
    assert found["variants"] == {"one": {"reward.members": 1}, "five": {"reward.members": 5}}
    assert [(fit["labels"], fit["variant"], fit["seed"]) for fit in found["fits"]] == [
        (labels, variant, seed) for labels in (10, 30) for variant in ("one", "five") for seed in (0, 1)
    ]
    for fit in found["fits"]:
        assert len(fit["member_accuracies"]) == {"one": 1, "five": 5}[fit["variant"]]
        assert fit["accuracy"] * found["labels"]["held_out_decided"] == pytest.approx(
            round(fit["accuracy"] * found["labels"]["held_out_decided"])
        )
        assert fit["comparisons"] == 320
        assert fit["cpu_seconds"] > 0
        if fit["variant"] == "one":
            assert fit["member_accuracies"] == [fit["accuracy"]]
    assert len({fit["accuracy"] for fit in found["fits"]} | {fit["log_loss"] for fit in found["fits"]}) > 4
    assert (found["games"], found["models"]) == ([], {})
    with (out / "anatomy.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["log_loss"]) for row in rows] == [fit["log_loss"] for fit in found["fits"]]
    assert "held-out labels that are no ties, of 8" in done.out
    assert content(run.root) == before
    assert "choose another --out" in refused(prefrl("bench", "anatomy", run.root, "--out", out), 2)


def test_images_are_played_and_drawn(tmp_path: Path) -> None:
    root, out = tmp_path / "run", tmp_path / "out"
    small = ("reward.network=small-cnn", "reward.pretrain_comparisons=64", "reward.comparisons_per_step=0.01")
    assert prefrl(*tiny("moving-dot", root, "--mode", "sync", steps=1024, settings=small)).code == 0
    reading = ["--variant", "reading", "reward.reads_actions=true"]
    said = refused(prefrl("bench", "anatomy", root, "--out", out, *reading), 2)
    assert "variant reading: reward.reads_actions must be as in the run" in said
    flags = ["--labels", "12", "--comparisons", "32", "--episodes", "2", "--noise", "1", "0", "1"]
    done = prefrl("bench", "anatomy", root, "--out", out, *flags)
    assert done.code == 0, done.err
    assert {path.name for path in out.iterdir()} == FILES | {"game.png", "game.svg"}
    found = json.loads((out / "anatomy.json").read_text())
    assert [(game["noise"], game["steps"], game["cut"]) for game in found["games"]] == [
        (1.0, 60, False),
        (1.0, 60, False),
        (0.0, 60, False),
        (0.0, 60, False),
    ]
    model = found["models"]["run"]
    assert model["relations"]["step"]["pairs"] == 240
    assert -1 <= model["relations"]["step"]["correlation"] <= 1
    assert model["relations_by_noise"].keys() == {"1", "0"}
    assert model["relations_by_noise"]["0"]["window 25"]["pairs"] == 2 * 36
    assert model["around_positive"]["steps"] == 0
    assert model["around_negative"]["steps"] == 240  # every step has its distance as its reward
    assert len(model["members"]) == 3
    assert model["far"] == {"steps": 0, "std": None}
    assert "run: correlation with the true reward by step" in done.out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--labels", "33"], "--labels must be at most 32, not 33: "),
        (["--labels", "0"], "--labels"),
        (["--seeds", "0"], "--seeds"),
        (["--holdout", "1"], "--holdout"),
        (["--comparisons", "0"], "--comparisons"),
        (["--noise", "1.5"], "--noise"),
        (["--episodes", "0"], "--episodes"),
        (["--set", "reward.memberz=1"], "did you mean reward.members?"),
        (["--set", "queries.labels=5"], "not a setting of the reward model"),
        (["--variant", "a", "reward.members=0"], "variant a: reward.members must be at least 1"),
        (["--variant", "a", "reward.network=cnn"], "reads images, but the observations are vectors"),
        (["--variant", "a", "reward.network=foo"], "variant a: "),
        (["--variant", "reward.members=1"], "write NAME KEY=VALUE"),
        (["--variant", "a", "--variant", "a"], "two variants"),
    ],
)
def test_arguments_that_cannot_be_used(flags: list[str], told: str, run: RunDirectory, tmp_path: Path) -> None:
    assert told in refused(prefrl("bench", "anatomy", run.root, "--out", tmp_path / "out", *flags), 2)
    assert not (tmp_path / "out").exists()


def test_runs_and_folders_that_cannot_be_used(run: RunDirectory, tmp_path: Path) -> None:
    def refusal(root: Path, out: Path = tmp_path / "out", code: int = 2) -> str:
        return refused(prefrl("bench", "anatomy", root, "--out", out), code)

    assert "not a run" in refusal(tmp_path)
    assert "true reward" in refusal(make_run(tmp_path / "true", teacher="none").root)
    assert "has no labels yet" in refusal(make_run(tmp_path / "empty").root)
    assert "cannot be written" in refusal(run.root, Path(__file__) / "out")
    done = prefrl("bench", "anatomy", run.root, "--out", tmp_path / "out")
    assert (done.code, "has no policy yet" in done.err) == (1, True)  # before anything is fitted
