"""Reward models fitted offline: metrics, held-out labels, and whether the metrics are meaningful."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import clip_reader, quick, same_tree
from hypothesis import given
from hypothesis import strategies as st
from labelled import SHAPES, add_labels, better, make_run, random_segment
from runs import content, prefrl, refused

import prefrl as package
from prefrl.config import RewardConfig
from prefrl.errors import PrefrlError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.environments import reward_inputs
from prefrl.experience.inputs import Inputs
from prefrl.feedback.kinds import KINDS
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Label
from prefrl.reward.batch import Batch
from prefrl.reward.fit_request import split
from prefrl.reward.judging import described
from prefrl.reward.label_reader import LabelReader
from prefrl.reward.learner import RewardLearner
from prefrl.reward.metrics import RewardMetrics, reward_metrics
from prefrl.reward.refit import Refit, judged, refit
from prefrl.reward.segment_table import SegmentTable
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import load_tree, save_tree

# -- the metrics ------------------------------------------------------------------------------------------------------

MEMBERS = torch.tensor([[1.0, 3.0, 2.0], [0.0, 1.0, 4.0]])
AVERAGED = np.array([0.5, 2.0, 3.0], np.float32)
TRUE = np.array([1.0, 2.0, 3.0], np.float32)
PAIRS = np.array([[0, 1], [1, 2], [2, 0], [1, 0]])
MU = np.array([0.0, 1.0, 1.0, 0.5])  # right, wrongly left, right, a tie


def metrics_of(
    sums: torch.Tensor, averaged: np.ndarray, true: np.ndarray, pairs: np.ndarray, mu: np.ndarray, error: float
) -> RewardMetrics:
    """Metrics of comparisons of segments with one step."""
    table = SegmentTable(Inputs((0,)), 1, len(true), "cpu")
    for segment, reward in enumerate(true):
        table.hold(segment, np.zeros((1, 0), np.float32), reward[None])
    slots, target = (torch.from_numpy(values).expand(len(sums), *values.shape) for values in (pairs, mu))
    batch = Batch(table, slots, target, torch.ones(len(sums), dtype=torch.bool))
    return reward_metrics(
        KINDS["comparison"], sums[..., None], averaged[:, None], true, batch, RewardConfig(error=error)
    )


def test_metrics_worked_by_hand() -> None:
    found = metrics_of(MEMBERS, AVERAGED, TRUE, PAIRS, MU, error=0.0)
    assert (found.right, found.decided, found.ties, found.labels) == (2, 3, 1, 4)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.members_right == (3, 2)
    # Log-odds of left: -2, 1, 1, 2 for the first member, -1, -3, 4, 1 for the second.
    sides = [-2, 1, 1, -1, -3, 4]
    said = [-1, 1, 1, -1, 1, 1]
    losses = [math.log1p(math.exp(-side * way)) for side, way in zip(sides, said, strict=True)]
    losses += [math.log1p(math.exp(-odds)) / 2 + math.log1p(math.exp(odds)) / 2 for odds in (2, 1)]
    assert found.loss == pytest.approx(sum(losses) / 8)
    assert found.correlation == pytest.approx(np.corrcoef(AVERAGED, TRUE)[0, 1])


def test_a_model_that_knows_nothing_has_the_loss_of_chance_and_predicts_nothing() -> None:
    nothing = metrics_of(torch.zeros(3, 3), np.zeros(3, np.float32), TRUE, PAIRS, MU, error=0.1)
    assert nothing.loss == pytest.approx(math.log(2))
    assert nothing.accuracy == 0  # two equal sums are no prediction
    assert nothing.correlation is None


def test_the_error_bounds_the_loss() -> None:
    sure = metrics_of(torch.tensor([[-1e4, 1e4]]), np.zeros(2, np.float32), TRUE[:2], PAIRS[:1], 1 - MU[:1], error=0.1)
    assert sure.loss == pytest.approx(math.log(20))


def test_ties_alone_have_no_accuracy() -> None:
    assert metrics_of(MEMBERS, AVERAGED, TRUE, PAIRS[3:], MU[3:], error=0.0).accuracy is None


@given(st.integers(0, 2**32 - 1))
@quick
def test_the_other_way_round_every_label_is_judged_the_other_way(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sums = rng.normal(size=(3, 6)).astype(np.float32)
    pairs = np.array([rng.permutation(6)[:2] for _ in range(9)])
    mu = rng.choice([0.0, 0.5, 1.0], 9)
    one = metrics_of(torch.from_numpy(sums), sums[0], sums[1], pairs, mu, 0.1)
    assert metrics_of(torch.from_numpy(sums), sums[0], sums[1], pairs[:, ::-1].copy(), 1 - mu, 0.1) == one
    against = metrics_of(torch.from_numpy(sums), sums[0], sums[1], pairs, 1 - mu, 0.1)
    assert against.right == one.decided - one.right


# -- what is held out -------------------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), max_size=60),
    st.floats(0.01, 0.99),
    st.integers(0, 2**32 - 1),
)
@quick
def test_a_share_is_held_out_and_nothing_of_it_is_trained_on(
    pairs: list[tuple[int, int]], holdout: float, seed: int
) -> None:
    labels = [Label(number, (left, right), 1.0) for number, (left, right) in enumerate(pairs, start=1)]
    training, held_out = split(labels, holdout, seed)
    assert sorted(training + held_out) == labels
    assert (training, held_out) == (sorted(training), sorted(held_out))
    sides = [{frozenset(label.segments) for label in part} for part in (training, held_out)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == round(holdout * len(sides[0] | sides[1]))
    assert split(labels, holdout, seed) == (training, held_out)


def test_a_pair_asked_about_both_ways_round_is_on_one_side() -> None:
    labels = [Label(n, (n % 30, n % 30 + 100), 1.0) for n in range(30)]
    labels += [Label(100 + n, (n % 30 + 100, n % 30), 0.0) for n in range(30)]
    for seed in range(5):
        training, held_out = split(labels, 0.5, seed)
        unseen = {frozenset(label.segments) for label in held_out}
        assert not unseen & {frozenset(label.segments) for label in training}
        assert (len(training), len(held_out), len(unseen)) == (30, 30, 15)


def test_another_seed_holds_out_others() -> None:
    labels = [Label(number, (number, number + 1), 1.0) for number in range(50)]
    assert split(labels, 0.2, 0) != split(labels, 0.2, 1)


# -- fitting ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with 300 labels by a true reward that is linear in what the model reads."""
    made = make_run(tmp_path_factory.mktemp("labelled") / "run", queries__labels=300)
    add_labels(made, 300)
    return made


@pytest.fixture(scope="module")
def fitted(run: RunDirectory) -> Refit:
    return refit(run.root, comparisons=6000)


def test_labels_by_the_true_reward_are_predicted(fitted: Refit) -> None:
    assert fitted.held_out.decided == 60
    assert fitted.training.decided == 240
    assert fitted.held_out.accuracy is not None
    assert fitted.held_out.accuracy > 0.85
    assert fitted.held_out.loss < 0.45
    assert fitted.held_out.correlation is not None
    assert fitted.held_out.correlation > 0.9
    assert fitted.training.accuracy is not None
    assert fitted.training.accuracy >= fitted.held_out.accuracy - 0.05
    assert fitted.fitted == 6000


def test_labels_at_random_are_not(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    made = make_run(tmp_path / "run", queries__labels=300)
    add_labels(made, 300, judge=lambda *_: Judgement.LEFT if rng.random() < 0.5 else Judgement.RIGHT)
    found = refit(made.root, comparisons=3000, holdout=0.3)
    assert found.held_out.accuracy == pytest.approx(0.5, abs=0.16)  # three standard errors of 90 labels
    assert found.held_out.loss > 0.6


def test_labels_that_say_the_opposite_are_told_from_those_of_the_truth(run: RunDirectory, fitted: Refit) -> None:
    """The same model, judged by reversed labels, is as far below chance as it was above."""
    store, reward = LabelStore(run.labels), package.load_reward(run.root, fitted.weights)
    reversed_ = [label._replace(target=1 - label.target) for label in split(store.labels("comparison"), 0.2, 0)[1]]
    store.close()
    read, config = clip_reader(ClipFolder(run.clips)), run.config.reward
    against = judged(KINDS["comparison"], reward.ensemble, reversed_, read, config)
    assert against.right == fitted.held_out.decided - fitted.held_out.right
    assert against.accuracy is not None
    assert against.accuracy < 0.15
    assert against.loss > math.log(2)


def test_the_weights_are_the_model_that_was_judged(run: RunDirectory, fitted: Refit) -> None:
    assert fitted.weights == run.root / "reward_model" / "fitted.safetensors"
    reward = package.load_reward(run.root, weights=fitted.weights)
    steps, true = [], []
    for number in range(1000, 1020):
        segment = random_segment(number)
        steps.append(reward(segment.frames, segment.actions))
        true.append(segment.true_rewards)
    assert np.corrcoef(np.concatenate(steps), np.concatenate(true))[0, 1] > 0.8
    with pytest.raises(PrefrlError, match="no learned reward yet"):
        package.load_reward(run.root)


def test_the_same_seed_gives_the_same_model_and_another_seed_another(run: RunDirectory, tmp_path: Path) -> None:
    found = [refit(run.root, seed=seed, comparisons=320, out=tmp_path / str(n)) for n, seed in enumerate((1, 1, 2))]
    trees = [load_tree(one.weights) for one in found]
    assert same_tree(trees[0], trees[1])
    assert found[0].held_out == found[1].held_out
    assert not same_tree(trees[0]["weights"], trees[2]["weights"])


def test_the_run_is_left_as_it_was(run: RunDirectory, tmp_path: Path) -> None:
    before, lock = content(run.root), run.lock()  # it may be at work
    refit(run.root, comparisons=16, out=tmp_path / "weights.safetensors")
    lock.release()
    assert content(run.root) == before


def test_ties_are_left_out_of_the_accuracy_and_incomparable_ones_of_everything(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run")
    say = iter([Judgement.EQUAL] * 20 + [Judgement.INCOMPARABLE] * 20 + [None] * 40)
    add_labels(made, 80, judge=lambda left, right: next(say) or better(left, right))
    found = refit(made.root, comparisons=160, holdout=0.5)
    assert found.held_out.ties + found.training.ties == 20
    assert found.held_out.decided + found.training.decided == 40
    assert f"{found.held_out.ties} ties left out" in "\n".join(found.lines())


def test_images_are_fitted_too(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", "moving-dot")
    add_labels(made, 10)
    found = refit(made.root, comparisons=32)
    assert found.held_out.decided == 2
    assert load_tree(found.weights)["weights"]
    assert SHAPES["moving-dot"][1][1] == 48


def test_more_labels_than_a_run_keeps_in_mind_are_all_fitted(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run", reward__buffer=16)
    add_labels(made, 40)
    assert load_tree(refit(made.root, comparisons=32).weights)["metrics"]["comparisons"] == 32


# -- the command ------------------------------------------------------------------------------------------------------


def test_the_command_prints_the_metrics(run: RunDirectory, tmp_path: Path) -> None:
    done = prefrl("reward", "fit", run.root, "--comparisons", "640", "--out", tmp_path / "weights", "--holdout", "0.1")
    assert done.code == 0
    said = done.err.splitlines()
    assert said[0] == f"{run.root}: reading 300 labels"
    assert said[1] == "fitting: 0/640 comparisons"
    assert said[-2:] == ["judging by 30 held-out labels", "judging by 270 training labels"]
    for word in ("270 labels fitted (640 comparisons), 30 held out", "held-out accuracy 0.", "of 30)", "log loss"):
        assert word in done.out
    assert "chance: 0.500" in done.out
    assert "training accuracy" in done.out
    assert "correlation of predicted and true sums" in done.out
    assert (tmp_path / "weights").exists()


def test_the_command_says_that_it_is_at_work_before_anything_slow_is_imported(run: RunDirectory) -> None:
    script = (
        "import sys; from prefrl.commands.display import CountDisplay\n"
        "from prefrl.reward.fit_request import fit_request\n"
        f"from pathlib import Path; fit_request(Path({str(run.root)!r}))\n"
        "print([name for name in ('torch', 'stable_baselines3', 'mujoco') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_progress_is_told_steadily_and_leaves_the_fit_as_it_is(run: RunDirectory, tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    args = {"comparisons": 1010, "seed": 3}
    one = refit(run.root, **args, out=tmp_path / "one", report=lambda *at: told.append(at))
    fitting = [(done, wanted) for phase, done, wanted in told if phase == "fitting"]
    assert one.fitted == 1008  # whole batches of 16
    assert fitting == [(done, 1008) for done in range(0, 1008, 128)]
    learner = RewardLearner(dataclasses.replace(run.config.reward, buffer=240), reward_inputs(run.config), 15, 3, "cpu")
    store = LabelStore(run.labels)
    source = LabelReader(run, store)
    learner.add(split(list(source.standing()), 0.2, 3)[0], source.read)
    store.close()
    learner.train(1010)  # at once
    learner.publish(tmp_path / "other", described(dataclasses.replace(run.config, seed=3)))
    assert same_tree(load_tree(tmp_path / "one"), load_tree(tmp_path / "other"))


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--holdout", "0"], "--holdout"),
        (["--holdout", "1"], "--holdout"),
        (["--holdout", "nan"], "--holdout"),
        (["--seed", "-1"], "--seed"),
        (["--comparisons", "0"], "--comparisons"),
        (["--out", "no/such/folder"], "is not in a folder"),
        (["--out", __file__], "exists already"),
    ],
)
def test_arguments_that_cannot_be_used(flags: list[str], told: str, run: RunDirectory) -> None:
    before = content(run.root)
    assert told in refused(prefrl("reward", "fit", run.root, *flags), 2)
    assert content(run.root) == before


def test_the_run_s_own_weights_are_never_replaced(tmp_path: Path) -> None:
    made = make_run(tmp_path / "run")
    made.weights.write_bytes(b"published")
    assert "exists already" in refused(prefrl("reward", "fit", made.root, "--out", made.weights), 2)
    assert made.weights.read_bytes() == b"published"


def test_runs_that_have_nothing_to_fit(tmp_path: Path) -> None:
    assert "not a run" in refused(prefrl("reward", "fit", tmp_path), 2)
    assert "learns from no labels" in refused(
        prefrl("reward", "fit", make_run(tmp_path / "true", teacher="none").root), 2
    )
    made = make_run(tmp_path / "run")
    assert "no labels yet" in refused(prefrl("reward", "fit", made.root), 1)
    add_labels(made, 1)
    assert "too few" in refused(prefrl("reward", "fit", made.root), 1)


def test_weights_of_another_model(run: RunDirectory, fitted: Refit, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", "pendulum")
    with pytest.raises(PrefrlError, match="no weights of the reward model"):
        package.load_reward(other.root, fitted.weights)
    save_tree(tmp_path / "tree", {"a": 1})
    with pytest.raises(PrefrlError, match="no weights of the reward model"):
        package.load_reward(run.root, tmp_path / "tree")
    with pytest.raises(PrefrlError, match="is missing"):
        package.load_reward(run.root, tmp_path / "nothing")


def test_metrics_are_plain_data() -> None:
    assert RewardMetrics(1, 2, 0, 0.5, None).accuracy == 0.5
