"""Image observations: frame storage, the convolutional reward model, and runs on both kinds of image."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from helpers import same_segment, same_tree, take_rollout, through_file
from prefrl_envs.atari import AtariGames
from prefrl_envs.moving_dot import RADIUS, SIZE, MovingDot
from stable_baselines3.common.vec_env import DummyVecEnv

from prefrl.config import RewardConfig
from prefrl.errors import UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.experience.engines import EngineVecEnv
from prefrl.experience.inputs import Inputs
from prefrl.experience.recorder import SegmentRecorder
from prefrl.experience.segment import Segment
from prefrl.feedback.terms import Label
from prefrl.recipes import resolve
from prefrl.reward.ensemble import RewardEnsemble
from prefrl.reward.learner import RewardLearner
from prefrl.reward.networks import StackedCNN
from prefrl.reward.segment_table import with_room
from prefrl.storage.files import DamagedFileError

ATARI = Inputs((4, 84, 84), stack=4)
DOT = Inputs((4, SIZE, SIZE), stack=4)


def film(length: int = 25, stack: int = 4, size: int = 84, seed: int = 0) -> Segment:
    frames = np.random.default_rng(seed).integers(0, 255, (length + stack - 1, size, size), dtype=np.uint8)
    steps = (np.zeros((length, 6), np.float32), np.zeros(length, np.float32), *np.zeros((2, length), bool))
    return Segment(seed, frames, *steps, stack)


# -- films ------------------------------------------------------------------------------------------------------------


def test_a_film_s_windows_are_the_observations_and_share_its_memory() -> None:
    segment = film()
    assert segment.observations.shape == (25, 4, 84, 84)
    assert np.shares_memory(segment.observations, segment.frames)
    for step in (0, 7, 24):
        np.testing.assert_array_equal(segment.observations[step], segment.frames[step : step + 4])
    assert segment.features is segment.frames
    assert len(segment) == 25


def test_the_learner_s_view_of_a_film_is_the_same() -> None:
    segment = film()
    kept = torch.from_numpy(np.stack([segment.features, segment.features]))
    steps = ATARI.steps(kept)
    np.testing.assert_array_equal(steps[1], segment.observations)
    assert steps.data_ptr() == kept.data_ptr()  # nothing was copied


@pytest.mark.parametrize("game", [True, False])
def test_recorded_frames_are_what_the_agent_saw(game: bool) -> None:
    env = EngineVecEnv(AtariGames(2, "breakout")) if game else DummyVecEnv([MovingDot, MovingDot])
    recorder = SegmentRecorder(env, 10, 100, stack=4)
    rng = np.random.default_rng(0)
    seen = [recorder.reset()]
    for step in range(1, 41):
        seen.append(recorder.step(rng.integers(4, size=2))[0])
        if step % 8 == 0:
            observations, _, _ = take_rollout(recorder)
            np.testing.assert_array_equal(observations, seen[step - 8 : step])
    assert len(recorder.pool) == 8
    for number, segment in enumerate(recorder.pool):
        start, env_index = 10 * (number // 2), number % 2
        assert segment.frames.shape == (13, *seen[0].shape[2:])
        np.testing.assert_array_equal(segment.observations, [obs[env_index] for obs in seen[start : start + 10]])


def test_a_recorder_of_films_continues_from_a_saved_state(tmp_path) -> None:
    recorders = [SegmentRecorder(DummyVecEnv([MovingDot]), 10, 100, stack=4) for _ in range(2)]
    for recorder in recorders:
        recorder.seed(0)
        recorder.reset()
        for _ in range(17):
            recorder.step(np.array([1]))
        take_rollout(recorder)
    recorders[1].load_state_dict(through_file(tmp_path, recorders[0].state_dict()))
    for recorder in recorders:
        for _ in range(9):
            recorder.step(np.array([2]))
        take_rollout(recorder)
    assert same_tree(recorders[0].state_dict(), recorders[1].state_dict())


@pytest.mark.parametrize("game", ["beamrider", "enduro"])
def test_a_clip_on_disk_is_small_and_comes_back_whole(tmp_path, game: str) -> None:
    recorder = SegmentRecorder(EngineVecEnv(AtariGames(1, game)), 25, 10, stack=4)
    recorder.reset()
    rng = np.random.default_rng(0)
    for _ in range(200):
        recorder.step(rng.integers(9, size=1))
    take_rollout(recorder)
    clips = ClipFolder(tmp_path)
    for segment in recorder.pool:
        assert clips.save(segment)
        assert same_segment(clips.load(segment.id), segment)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 8
    assert max(sizes) < 60_000


def test_a_damaged_clip_of_images_is_told(tmp_path) -> None:
    from prefrl.storage.files import load_tree, save_tree

    clips = ClipFolder(tmp_path)
    clips.save(film(5, size=10))
    (path,) = tmp_path.iterdir()
    tree = load_tree(path)
    tree["observations"]["deflated"] = tree["observations"]["deflated"][:-3]
    save_tree(path, tree)
    with pytest.raises(DamagedFileError, match="damaged"):
        clips.load(0)


def test_three_thousand_atari_comparisons_fit_into_a_gigabyte_and_a_half() -> None:
    learner = RewardLearner(resolve("pong").reward, ATARI, 25, seed=0)
    table = learner.dataset.segments
    full = table._make_features(table._capacity)
    assert full.shape == (6000, 28, 84, 84)
    assert full.nbytes + table._make_true(table._capacity).nbytes < 1.5e9


def test_memory_follows_the_comparisons_that_there_are() -> None:
    learner = RewardLearner(resolve("pong").reward, ATARI, 25, seed=0)
    assert len(learner.dataset.segments._features) == len(learner.dataset.segments._true) == 128
    rows = torch.arange(6).reshape(3, 2)
    grown = with_room(rows, 4, 5, lambda count: torch.zeros(count, 2, dtype=torch.int64))
    assert grown[:3].tolist() == rows.tolist()
    assert len(grown) == 5  # doubled, and no more than there can be
    assert with_room(rows, 3, 5, lambda count: torch.zeros(count, 2)) is rows
    assert len(with_room(rows, 4, 99, lambda count: torch.zeros(count, 2))) == 6
    assert len(with_room(rows, 7, 99, lambda count: torch.zeros(count, 2))) == 7


# -- the network ------------------------------------------------------------------------------------------------------


def test_the_network_is_the_paper_s() -> None:
    network = StackedCNN(3, (4, 84, 84), negative_slope=0.01, dropout=0.5)
    assert len(network.members) == 3
    convolutions = [layer for layer in network.members[0] if isinstance(layer, torch.nn.Conv2d)]
    assert [(c.kernel_size[0], c.stride[0], c.out_channels) for c in convolutions] == [
        (7, 3, 16),
        (5, 2, 16),
        (3, 1, 16),
        (3, 1, 16),
    ]
    kinds = [type(layer).__name__ for layer in network.members[0]]
    assert kinds == ["Conv2d", "BatchNorm2d", "LeakyReLU", "Dropout"] * 4 + ["Flatten", "Linear", "LeakyReLU", "Linear"]
    linear = [layer for layer in network.members[0] if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == [(16 * 7 * 7, 64), (64, 1)]
    assert {layer.negative_slope for layer in network.members[0] if isinstance(layer, torch.nn.LeakyReLU)} == {0.01}
    assert {layer.p for layer in network.members[0] if isinstance(layer, torch.nn.Dropout)} == {0.5}


def test_members_differ_and_see_their_own_images() -> None:
    ensemble = RewardEnsemble(resolve("moving-dot").reward, DOT).eval()
    images = torch.randint(0, 255, (3, 5, 4, SIZE, SIZE), dtype=torch.uint8)
    shared = ensemble(images[0])
    assert shared.shape == (3, 5)
    assert not torch.allclose(shared[0], shared[1])
    each = ensemble.forward_each(images)
    for member in range(3):
        torch.testing.assert_close(each[member], ensemble(images[member])[member], rtol=0.05, atol=1e-3)


def test_prediction_is_what_the_layers_give_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefrl.machine.precision._is_faster", lambda kind: False)
    network = RewardEnsemble(resolve("moving-dot").reward, DOT).network
    images = torch.randint(0, 255, (150, 4, SIZE, SIZE), dtype=torch.uint8)
    with torch.no_grad():
        network.train()(images)  # batch normalisation has something to do
        given = network.eval()(images)
        for member, predicted in zip(network.members, given, strict=True):
            torch.testing.assert_close(predicted, member(images / 255)[:, 0], rtol=1e-4, atol=1e-6)


def test_images_are_only_divided_by_255() -> None:
    learner = RewardLearner(resolve("moving-dot").reward, DOT, 15, seed=0)
    films = {number: (film(15, size=SIZE, seed=number).features, np.zeros(15, np.float32)) for number in range(4)}
    learner.add([Label(1, (0, 1), 1.0), Label(2, (2, 3), 0.0)], films.__getitem__)
    white = learner.ensemble.predict(torch.full((1, 4, SIZE, SIZE), 255, dtype=torch.uint8))
    learner.ensemble.eval()
    for member, predicted in zip(learner.ensemble.network.members, white, strict=True):
        with torch.no_grad():
            torch.testing.assert_close(predicted, member(torch.ones(1, 4, SIZE, SIZE))[:, 0], rtol=0.05, atol=1e-3)


def test_dropout_is_off_where_rewards_are_predicted() -> None:
    ensemble = RewardEnsemble(resolve("moving-dot").reward, DOT)
    steps = torch.randint(0, 255, (6, 4, SIZE, SIZE), dtype=torch.uint8)
    ensemble.train()
    torch.testing.assert_close(ensemble.predict(steps), ensemble.predict(steps))
    assert ensemble.training  # as it was
    assert not torch.allclose(ensemble(steps), ensemble(steps))


def test_prediction_in_chunks_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = RewardEnsemble(resolve("moving-dot").reward, DOT)
    steps = torch.randint(0, 255, (7, 4, SIZE, SIZE), dtype=torch.uint8)
    whole = ensemble.predict(steps)
    monkeypatch.setattr("prefrl.reward.ensemble._CHUNK_NUMBERS", 2 * 4 * SIZE * SIZE)
    torch.testing.assert_close(ensemble.predict(steps), whole)


@pytest.mark.parametrize("size", [(84, 42), (30, 84)])
def test_images_too_small_for_four_convolutions_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(UsageError, match="too small"):
        RewardEnsemble(RewardConfig(network="cnn"), Inputs((4, *size)))


def test_output_deviation_is_the_paper_s() -> None:
    assert resolve("pong").reward.target_std == 0.05
    assert resolve("hopper").reward.target_std == 1.0


def test_a_learner_of_images_learns_and_resumes_exactly(tmp_path) -> None:
    """Brighter films are better; dropout's random state is part of the saved state."""
    config = resolve("moving-dot", settings={"reward.batch_size": 8, "reward.learning_rate": 3e-3}).reward
    bright = np.linspace(0, 250, 24)
    films = {
        number: (np.full((8, SIZE, SIZE), level, np.uint8), np.full(5, level, np.float32))
        for number, level in enumerate(bright)
    }
    rng = np.random.default_rng(0)
    pairs = [rng.choice(24, 2, replace=False) for _ in range(40)]
    comparisons = [Label(n + 1, (int(a), int(b)), float(a > b)) for n, (a, b) in enumerate(pairs)]
    through, other = (RewardLearner(config, DOT, 5, seed=0) for _ in range(2))
    through.add(comparisons, films.__getitem__)
    through.train(8 * 10)
    other.load_state_dict(through_file(tmp_path, through.state_dict()), comparisons, films.__getitem__)
    for learner in (through, other):
        learner.train(8 * 20)
    assert same_tree(through.state_dict(), other.state_dict())
    through.normalise()
    levels = np.stack([np.full((4, SIZE, SIZE), level, np.uint8) for level in bright])
    assert np.corrcoef(through.ensemble.score(levels), bright)[0, 1] > 0.7


def test_the_penalty_is_on_all_weights_of_an_image_network_and_on_nothing_else() -> None:
    network = StackedCNN(2, (4, SIZE, SIZE), negative_slope=0.01, dropout=0.5)
    for member in network.members:
        for layer in member:
            if isinstance(layer, torch.nn.BatchNorm2d):
                torch.nn.init.constant_(layer.weight, 7.0)
    for member, norm in zip(network.members, network.squared_norm().tolist(), strict=True):
        kernels = [weight for name, weight in member.named_parameters() if weight.ndim > 1]
        assert [weight.ndim for weight in kernels] == [4, 4, 4, 4, 2, 2]
        assert norm == pytest.approx(sum(float(weight.detach().double().pow(2).sum()) for weight in kernels), rel=1e-5)


def image_learner(members: int = 2) -> RewardLearner:
    settings = {"reward.batch_size": 4, "reward.members": members}
    learner = RewardLearner(resolve("moving-dot", settings=settings).reward, DOT, 5, seed=0)
    films = np.random.default_rng(0).integers(0, 255, (12, 8, SIZE, SIZE), dtype=np.uint8)
    comparisons = [Label(n + 1, (n, (n + 1) % 12), float(n % 2)) for n in range(12)]
    learner.add(comparisons, lambda number: (films[number], np.zeros(5, np.float32)))
    return learner


def test_validation_neither_drops_out_nor_moves_the_batch_statistics() -> None:
    learner = image_learner()
    modes = []
    forward = learner.ensemble.forward_each
    learner.ensemble.forward_each = lambda steps: (modes.append(learner.ensemble.training), forward(steps))[1]
    learner.train(4 * 8)
    assert modes == [True, True, True, True, False] * 2  # at each fourth step it validates
    layers = [layer for layer in learner.ensemble.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    assert {int(layer.num_batches_tracked) for layer in layers} == {8}


def test_dropout_continues_where_the_last_call_left_off() -> None:
    whole, parts = image_learner(), image_learner()
    whole.train(4 * 8)
    parts.train(4 * 4)
    torch.rand(5)  # the agent draws too
    parts.train(4 * 4)
    assert same_tree(whole.state_dict(), parts.state_dict())


# -- the dot ----------------------------------------------------------------------------------------------------------


def test_the_dot_s_reward_is_its_distance_to_the_middle() -> None:
    env = MovingDot(render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    assert (observation == observation[0]).all()
    env.load_state({"dot": np.array([0, 0]), "stack": observation})
    observation, reward, terminated, truncated, _ = env.step(0)
    assert reward == pytest.approx(-1)
    assert not terminated
    assert not truncated
    rows, columns = np.nonzero(observation[-1])
    assert (rows.max(), columns.max()) == (RADIUS, RADIUS)
    for _ in range(12):
        env.step(2)
        _, reward, *_ = env.step(4)
    assert reward == pytest.approx(-np.hypot(0.5, 0.5) / np.hypot(23.5, 23.5))
    assert env.render().shape == (4 * SIZE, 4 * SIZE, 3)


def test_other_images_train_too(tmp_path) -> None:
    """Frames with channels last and no stack, as most image environments have them."""
    import prefrl

    class Bars(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(0, 255, (50, 60, 3), np.uint8)
        action_space = gymnasium.spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), float(action), False, False, {}

    if "Bars-v0" not in gymnasium.registry:
        gymnasium.register("Bars-v0", Bars, max_episode_steps=40)
    settings = {
        "agent.n_steps": 64,
        "agent.n_epochs": 1,
        "reward.pretrain_comparisons": 16,
        "queries.segment_length": 5,
    }
    run = prefrl.train("Bars-v0", mode="sync", steps=600, labels=8, out=tmp_path / "run", settings=settings)
    assert run.summary["labels_answered"] == 8
    observation = np.zeros((50, 60, 3), np.uint8)
    assert prefrl.load_policy(run.root)(observation) in (0, 1)
    assert prefrl.load_reward(run.root)(np.stack([observation] * 2), np.zeros(2, int)).shape == (2,)


SMALL = {
    "agent.n_envs": 2,
    "agent.n_steps": 64,
    "agent.n_epochs": 1,
    "agent.batch_size": 64,
    "reward.pretrain_comparisons": 16,
    "reward.comparisons_per_step": 0.05,
    "queries.pool": 20,
    "round_steps": 128,
}


def test_a_resumed_run_on_the_dot_equals_the_uninterrupted_one(tmp_path) -> None:
    import prefrl
    from prefrl.api import resume
    from prefrl.runs.control import Control

    runs = []
    for name in ("whole", "halves"):
        root = tmp_path / name
        control = Control()
        if name == "halves":
            from prefrl.api import create_run
            from prefrl.config.request import Request
            from prefrl.training import train_run

            control.report = lambda progress, control=control: setattr(control, "stop", progress.step >= 384)
            run = create_run(
                Request("moving-dot", labels=12, steps=768, mode="sync", device="cpu", out=root, settings=SMALL)
            )
            assert train_run(run, control) is None
            resume(root)
        else:
            prefrl.train("moving-dot", labels=12, steps=768, mode="sync", device="cpu", out=root, settings=SMALL)
        rows = (root / "metrics.csv").read_text().splitlines()
        runs.append([",".join(row.split(",")[:-2]) for row in rows])
    assert runs[0] == runs[1]


def test_a_run_on_a_game_counts_its_real_episodes(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    import prefrl
    from prefrl.runs.metrics import read_metrics

    games: list[tuple[float, int]] = []
    step = AtariGames.step

    def watched(self: AtariGames, actions: np.ndarray) -> tuple:
        made = step(self, actions)
        told = made[4]
        if "episode" in told:
            ended = np.flatnonzero(told["_episode"])
            games.extend((float(told["episode"]["r"][n]), int(told["episode"]["l"][n])) for n in ended)
        return made

    monkeypatch.setattr(AtariGames, "step", watched)
    settings = SMALL | {"agent.n_envs": 4, "agent.n_steps": 256}
    run = prefrl.train("breakout", labels=8, steps=2048, mode="sync", out=tmp_path / "run", settings=settings)
    assert run.summary["labels_answered"] == 8
    last = read_metrics(run.root / "metrics.csv")[-1]
    trained = games[: int(last["episodes"])]  # those of the evaluation come after
    assert len(trained) >= 4
    assert sum(length for _, length in trained) <= 2048
    assert run.summary["true_return_mean"] == pytest.approx(np.mean([score for score, _ in trained]))
