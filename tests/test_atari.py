"""The seven games: both engines give the same observations, endings are hidden, scores are masked."""

import math
import subprocess
import sys

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from prefrl_envs import TASKS
from prefrl_envs.atari import GAMES, SIZE, SKIP, AtariGame, AtariGames, Box, Game
from stable_baselines3.common.vec_env import DummyVecEnv

from prefrl.errors import UsageError
from prefrl.experience.engines import EngineVecEnv
from prefrl.experience.find_task import find_task
from prefrl.experience.snapshots import load_env, save_env

SCORE_MEMORY = {
    "beamrider": {(9, 10, 11): Box(10, 18, 61, 107), (84,): Box(32, 40, 20, 31)},
    "breakout": {(76, 77): Box(5, 15, 36, 80)},
    "enduro": {(40, 41, 42): Box(164, 173, 57, 103), (43,): Box(180, 187, 89, 103)},
    "pong": {(13,): Box(1, 21, 20, 48), (14,): Box(1, 21, 100, 128)},
    "qbert": {(89, 90, 91): Box(6, 13, 34, 71)},
    "seaquest": {(56, 57, 58): Box(9, 17, 59, 105)},
    "spaceinvaders": {(102, 104): Box(10, 20, 4, 64)},
}
"""Addresses at which a game keeps what is masked, and the pixels that change when they are written."""


@pytest.mark.parametrize("game", GAMES)
def test_both_engines_see_the_same(game: str) -> None:
    fast, slow = AtariGames(2, game, noops=0), AtariGame(game, noops=0)
    rng = np.random.default_rng(0)
    observations, single = fast.reset(seed=1)[0], slow.reset(seed=1)[0]
    assert observations.shape == (2, *slow.observation_space.shape)
    np.testing.assert_array_equal(observations[0], single)
    for _ in range(350):
        action = rng.integers(slow.action_space.n)
        observations, rewards, *_, told = fast.step(np.array([action, action]))
        single, reward, terminated, truncated, info = slow.step(action)
        np.testing.assert_array_equal(observations[0], single)
        assert rewards[0] == reward
        assert ("episode" in told) == ("episode" in info)
        assert not terminated
        assert not truncated


def play_to_an_end(env: AtariGame) -> list[tuple[np.ndarray, float, dict]]:
    env.reset(seed=0)
    steps = []
    rng = np.random.default_rng(0)
    while not steps or not steps[-1][2]:
        observation, reward, _, _, info = env.step(rng.integers(env.action_space.n))
        steps.append((observation, reward, info))
    return steps


def test_a_game_s_end_is_hidden_penalised_and_reported() -> None:
    env = AtariGame("breakout")
    steps = play_to_an_end(env)
    assert steps[-1][2]["episode"]["l"] == len(steps)
    assert (
        steps[-1][2]["episode"]["r"] == sum(reward for _, reward, _ in steps) + 1  # low bricks: 1 each
    )  # bricks of the lowest rows: 1 each
    assert steps[-1][1] == -1.0
    stack, before = steps[-1][0], steps[-2][0]
    np.testing.assert_array_equal(stack[:-1], before[1:])  # the film rolls on
    assert not np.array_equal(stack[-1], before[-1])
    assert env.ale.lives() == 5  # a new game


def test_the_end_of_a_game_costs_nothing_in_pong() -> None:
    assert {name for name, game in GAMES.items() if game.penalty == 0} == {"pong"}


def test_rewards_are_clipped_and_scores_are_not() -> None:
    env = AtariGame("beamrider")
    steps = play_to_an_end(env)
    assert {abs(reward) for _, reward, _ in steps} <= {0.0, 1.0}
    assert steps[-1][2]["episode"]["r"] % 44 == 0  # an enemy is worth 44


@pytest.mark.parametrize("game", GAMES)
def test_masks_cover_what_they_must_and_to_a_pixel_nothing_else(game: str) -> None:
    env = AtariGame(game, noops=0)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    for _ in range(90):
        env.step(rng.integers(env.action_space.n))
    state = env.ale.cloneState()
    for addresses, extent in SCORE_MEMORY[game].items():
        digits = (0x00, 0x11, 0x28, 0x35, 0x47, 0x66, 0x74, 0x88, 0x99)
        if game == "pong" or addresses == (84,):  # BeamRider's enemies, which are 15 at most
            digits = range(21 if game == "pong" else 16)
        changed = np.zeros((210, 160), bool)
        for address in addresses:
            for value in digits:
                screens = []
                for write in (False, True):
                    env.ale.restoreState(state)
                    if write:
                        env.ale.setRAM(address, value)
                    env.ale.act(0)
                    env.ale.act(0)
                    screens.append(env.ale.getScreenRGB())
                changed |= (screens[0] != screens[1]).any(axis=2)
        rows, columns = np.nonzero(changed)
        assert Box(rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == extent
        mask = max(
            (box for box in GAMES[game].masks if box.top <= extent.top < box.bottom and box.left <= extent.left),
            key=lambda box: box.left,
        )
        assert mask.bottom >= extent.bottom
        assert mask.right >= extent.right
        # A display's box may have a frame of a pixel around its digits, which goes with them.
        assert (extent.top - mask.top, mask.bottom - extent.bottom) <= (1, 1)


@pytest.mark.parametrize("game", GAMES)
def test_masks_lie_inside_the_screen_and_round_outward(game: str) -> None:
    for box in GAMES[game].masks:
        assert 0 <= box.top < box.bottom <= 210
        assert 0 <= box.left < box.right <= 160
        small = box.scaled()
        assert small.top == math.floor(box.top * 0.4)
        assert small.bottom == math.ceil(box.bottom * 0.4)
        assert small.left <= box.left * 84 / 160 < small.left + 1
        assert small.right - 1 < box.right * 84 / 160 <= small.right


@pytest.mark.parametrize("box", [(0, 211, 0, 5), (5, 5, 0, 5), (0, 5, -1, 5), (0, 5, 100, 161)])
def test_a_mask_outside_the_screen_is_refused(box: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match="not inside the screen"):
        Game("pong", (Box(*box),))


@pytest.mark.parametrize("game", ["beamrider", "pong"])
def test_what_is_masked_is_black_for_the_agent_and_for_people(game: str) -> None:
    env = AtariGame(game, render_mode="rgb_array")
    observation, _ = env.reset(seed=0)
    screen, raw = env.render(), env.ale.getScreenRGB()
    hidden = np.zeros((210, 160), bool)
    for box in GAMES[game].masks:
        small = box.scaled()
        assert (observation[:, small.top : small.bottom, small.left : small.right] == 0).all()
        hidden[box.top : box.bottom, box.left : box.right] = True
    assert (screen[hidden] == 0).all()
    np.testing.assert_array_equal(screen[~hidden], raw[~hidden])


def test_a_game_starts_with_up_to_thirty_no_ops() -> None:
    env = AtariGame("pong")
    starts = set()
    for seed in range(60):
        env.reset(seed=seed)
        starts.add(env.ale.getEpisodeFrameNumber())
    assert len(starts) > 15
    assert max(starts) - min(starts) <= 30


@pytest.mark.parametrize(("most", "games"), [(0, 2), (30, 8)])
def test_the_engine_s_games_start_with_no_ops_too(most: int, games: int) -> None:
    """Each first frame is that of the Python engine after so many no-ops: in Seaquest nearly every frame differs."""
    env = AtariGame("seaquest", noops=0)
    env.reset(seed=0)
    frames = []
    for _ in range(most + 1):
        frames.append(env._seen(env.ale.getScreenGrayscale()).tobytes())
        env.ale.act(0)
    engine = AtariGames(games, "seaquest", noops=most, threads=1)
    found = [frames.index(stack[-1].tobytes()) for stack in engine.reset(seed=0)[0]]
    engine.close()
    assert max(found) >= most / 2
    assert len(set(found)) >= most / 6


def test_a_step_is_four_frames() -> None:
    env = AtariGame("pong", noops=0)
    env.reset(seed=0)
    before = env.ale.getEpisodeFrameNumber()
    env.step(0)
    assert env.ale.getEpisodeFrameNumber() - before == SKIP


@pytest.mark.parametrize("task", ["prefrl/Qbert-v0", "prefrl/MovingDot-v0"])
def test_a_saved_state_steps_on_exactly(task: str) -> None:
    env = gymnasium.make(task)
    rng = np.random.default_rng(0)
    env.reset(seed=3)
    for _ in range(20):
        env.step(rng.integers(5))
    saved = save_env(env)
    actions = rng.integers(5, size=30)
    first = [env.step(action)[:2] for action in actions]
    load_env(env, saved)
    for action, (observation, reward) in zip(actions, first, strict=True):
        again = env.step(action)
        np.testing.assert_array_equal(again[0], observation)
        assert again[1] == reward


def test_a_missing_rom_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prefrl_envs.atari.roms.get_rom_path", lambda name: None)
    for make in (lambda: AtariGame("pong"), lambda: AtariGames(1, "pong")):
        with pytest.raises(gymnasium.error.Error, match="ROM of pong is missing"):
            make()


def test_the_table_has_the_seven_games_on_both_engines() -> None:
    for game in GAMES:
        task = TASKS[game]
        assert (task.horizon, task.segment_length, task.playback_fps, task.frame_stack) == (None, 25, 15, 4)
        assert find_task(game).native_engine
        assert find_task(game).images
        env = gymnasium.make(task.env_id)
        assert env.observation_space.shape == (4, SIZE, SIZE)


def test_an_engine_tells_a_vec_env_what_stable_baselines_expects() -> None:
    def make() -> gymnasium.Env:
        return gymnasium.make("CartPole-v1", max_episode_steps=15)

    ours = EngineVecEnv(SyncVectorEnv([make, make], autoreset_mode=AutoresetMode.SAME_STEP))
    theirs = DummyVecEnv([make, make])
    for env in (ours, theirs):
        env.seed(5)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    rng = np.random.default_rng(0)
    ends = 0
    for _ in range(80):
        actions = rng.integers(2, size=2)
        mine, expected = ours.step(actions), theirs.step(actions)
        for one, other in zip(mine[:3], expected[:3], strict=True):
            if not mine[2].any():  # where an episode ends the two draw the next start from different generators
                np.testing.assert_allclose(one, other)
        for index in np.flatnonzero(mine[2]):
            ends += 1
            assert mine[3][index]["TimeLimit.truncated"] == expected[3][index]["TimeLimit.truncated"]
            final = mine[3][index]["terminal_observation"]
            np.testing.assert_allclose(final, expected[3][index]["terminal_observation"])
    assert ends > 5


def test_an_engine_that_resets_a_step_later_is_refused() -> None:
    engine = SyncVectorEnv([lambda: gymnasium.make("CartPole-v1")], autoreset_mode=AutoresetMode.NEXT_STEP)
    with pytest.raises(UsageError, match="SAME_STEP"):
        EngineVecEnv(engine)


def test_an_engine_s_games_are_reported_as_they_were_played() -> None:
    """In Pong a step's reward is its score: each game's is that of the steps since the last one ended."""
    env = EngineVecEnv(AtariGames(2, "pong", threads=1))
    env.seed(0)
    env.reset()
    rng = np.random.default_rng(0)
    scores, lengths = np.zeros(2), np.zeros(2, int)
    games = 0
    while games < 4:
        _, rewards, dones, infos = env.step(rng.integers(6, size=2))
        assert not dones.any()
        scores, lengths = scores + rewards, lengths + 1
        for number, info in enumerate(infos):
            if "episode" in info:
                assert info["episode"] == {"r": scores[number], "l": lengths[number]}
                assert type(info["episode"]["l"]) is int
                assert -21 <= scores[number] <= -15  # to 21 points, which a random player does not make
                scores[number] = lengths[number] = 0
                games += 1
    env.close()


def test_an_engine_s_environments_are_not_objects_of_their_own() -> None:
    env = EngineVecEnv(AtariGames(3, "breakout", threads=1))
    assert env.get_attr("num_envs", [0]) == [3]
    assert env.env_is_wrapped(gymnasium.Wrapper) == [False] * 3
    for refused in (lambda: env.set_attr("x", 1), lambda: env.env_method("x")):
        with pytest.raises(AttributeError):
            refused()
    env.close()


@pytest.mark.parametrize("game", GAMES)
def test_labellers_are_told_of_lives_where_a_game_has_them(game: str) -> None:
    instruction = TASKS[game].instruction
    told = any(word in instruction for word in ("life", "lives", "death"))
    assert told == (AtariGame(game).ale.lives() > 0)
    assert "score" in instruction  # which is masked, and is to be ignored everywhere


@pytest.mark.parametrize("engine", ["AtariGame('pong')", "AtariGames(2, 'pong')"])
def test_the_emulators_say_nothing(engine: str) -> None:
    script = f"from prefrl_envs.atari import *; {engine}.reset(seed=0)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
