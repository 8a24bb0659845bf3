"""Image observations: how frames are stored, and runs on both kinds of image."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from helpers import film, same_segment, same_tree, take_rollout, through_file
from prefrl_envs.atari import AtariGames
from prefrl_envs.moving_dot import RADIUS, SIZE, MovingDot
from stable_baselines3.common.vec_env import DummyVecEnv

from prefrl.experience.clips import ClipFolder
from prefrl.experience.engines import EngineVecEnv
from prefrl.experience.inputs import Inputs
from prefrl.experience.recorder import SegmentRecorder
from prefrl.recipes import resolve
from prefrl.reward.learner import RewardLearner
from prefrl.reward.segment_table import with_room
from prefrl.storage.files import DamagedFileError

ATARI = Inputs((4, 84, 84), stack=4)


DOT = Inputs((4, SIZE, SIZE), stack=4)


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
        timed = sum(name.startswith("time_") for name in rows[0].split(","))  # the last columns
        runs.append([",".join(row.split(",")[:-timed]) for row in rows])
    assert runs[0] == runs[1]


@pytest.mark.slow
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
