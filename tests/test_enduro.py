"""Enduro judged for effort: what is read from the game's memory, what it pays, and what is reported."""

from itertools import pairwise

import gymnasium
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefrl_envs import TASKS, atari
from prefrl_envs.enduro import FULL_SPEED, ROWS, STANDING, EnduroEffort, Road, effort

from prefrl.config.request import Request
from prefrl.experience.environments import make_stack
from prefrl.recipes import resolve
from prefrl.runs.directory import RunDirectory
from prefrl.training import train_run

NOTHING, FIRE, BRAKE = 0, 1, 4
EMPTY = (False,) * ROWS
NEAREST = (True, *EMPTY[1:])
FARTHEST = (*EMPTY[1:], True)


def road(speed=STANDING, offset=0, cars=EMPTY):
    return Road(speed, offset, cars)


@pytest.mark.parametrize(
    ("before", "after", "rows"),
    [
        (64, 32, 32 / 128),  # the others come closer
        (10, 90, 48 / 128),  # the same, into the next row
        (0, 48, 80 / 128),  # the most that was seen
        (32, 72, -40 / 128),  # standing
        (100, 12, -40 / 128),  # the same, into the row behind
        (55, 55, 0.0),
    ],
)
def test_rows_gained(before, after, rows):
    assert road(offset=after).gained(road(offset=before)) == rows


@given(st.integers(0, 127), st.integers(-40, 80))
def test_what_is_gained_does_not_depend_on_where_in_a_row(offset, gained):
    assert road(offset=(offset - gained) % 128).gained(road(offset=offset)) == gained / 128


@pytest.mark.parametrize(
    ("before", "after", "passed"),
    [
        (road(offset=10, cars=NEAREST), road(offset=90), 1),
        (road(offset=90, cars=NEAREST), road(offset=10, cars=NEAREST), 0),  # closer, but still in front
        (road(offset=10, cars=FARTHEST), road(offset=90, cars=EMPTY), 0),
        (road(offset=100), road(offset=12, cars=NEAREST), -1),
        (road(offset=12), road(offset=52, cars=NEAREST), 0),  # it was there before, or has changed lanes
        (road(offset=100), road(offset=12, cars=FARTHEST), 0),
    ],
)
def test_a_car_is_passed_when_it_leaves_the_nearest_row_toward_us(before, after, passed):
    assert after.passed(before) == passed


def test_effort_by_hand():
    assert effort(road(), road()) == 0
    assert effort(road(), road(speed=FULL_SPEED, offset=64)) == pytest.approx(0.1)  # nobody to gain on
    assert effort(road(), road(speed=33, offset=64)) == pytest.approx(0.05)
    assert effort(road(), road(speed=71)) == pytest.approx(0.1)
    far = road(speed=24, offset=64, cars=FARTHEST)
    assert effort(far, road(speed=24, offset=32, cars=FARTHEST)) == pytest.approx(0.1 / 3 + 0.25 / 7)
    assert effort(far, road(offset=104, cars=EMPTY)) == pytest.approx(-40 / 128 / 7)  # out of sight
    near = road(offset=10, cars=NEAREST)
    assert effort(near, road(speed=FULL_SPEED, offset=90)) == pytest.approx(1 + 0.1 + 48 / 128 / 7)
    assert effort(road(offset=100), road(offset=12, cars=NEAREST)) == pytest.approx(-1 - 40 / 128 / 7)


@pytest.fixture
def game():
    env = EnduroEffort(noops=0)
    env.reset(seed=0)
    yield env
    env.close()


def drive(env, action, steps):
    """What is paid, the roads, and what the score changes by."""
    paid, roads, scores = [], [], []
    for _ in range(steps):
        before = env.return_so_far
        paid.append(env.step(action)[1])
        roads.append(Road.read(env.ale.getRAM()))
        scores.append(env.return_so_far - before)
    return np.array(paid), roads, np.array(scores)


def test_the_memory_is_read_right(game):
    """Accelerating and braking: the speed, and cars that move through the rows as they draw away and come closer."""
    _, standing, _ = drive(game, NOTHING, 60)
    assert {each.speed for each in standing} == {STANDING}
    rows = [each.cars.index(True) for each in standing if sum(each.cars) == 1]
    assert rows[0] == 0
    assert rows == sorted(rows)
    _, fast, _ = drive(game, FIRE, 62)
    speeds = [each.speed for each in fast]
    assert speeds == sorted(speeds)
    assert FULL_SPEED - 5 < speeds[-1] < FULL_SPEED
    gained = {later.speed: later.gained(before) for before, later in pairwise(fast)}
    assert gained[24] == 0
    assert gained[12] < 0 < gained[36] < gained[54]
    _, slow, _ = drive(game, BRAKE, 15)
    assert slow[-1].speed == STANDING


def test_a_pass_is_one_that_the_score_counts(game):
    drive(game, NOTHING, 60)
    drive(game, FIRE, 18)  # as slow as the others: from here on, nobody passes at a score of 0
    paid, roads, scores = drive(game, FIRE, 44)
    ours = [after.passed(before) for before, after in pairwise(roads)]
    assert ours == scores[1:].tolist()
    assert sum(scores) == 2
    assert min(paid[scores > 0]) > 1
    assert 0 < max(paid[scores == 0]) < 0.2
    paid, _, scores = drive(game, BRAKE, 60)
    assert max(paid[scores < 0]) < -0.9


def test_effort_tells_apart_what_the_score_does_not(game):
    """Without a pass the score stays at 0: standing while others pass, and driving a little."""
    standing, _, scores = drive(game, NOTHING, 60)
    assert not scores.any()
    assert standing.sum() < -2.5  # three cars pass
    driving, _, scores = drive(game, FIRE, 20)
    assert not scores.any()
    assert standing.max() == 0 < driving[-5:].min()


def test_the_end_of_a_game_costs_what_it_does_in_enduro(game, monkeypatch):
    drive(game, FIRE, 40)
    assert game.paid(0, over=True) == -1
    score = game.return_so_far
    monkeypatch.setattr(game, "ale", Ended(game.ale))
    _, paid, terminated, truncated, info = game.step(FIRE)
    assert paid == -1
    assert (terminated, truncated) == (False, False)
    assert info["episode"] == {"r": score, "l": 41}


class Ended:
    """An emulator whose game is over until it starts anew."""

    def __init__(self, ale):
        self._ale, self._over = ale, True

    def __getattr__(self, name):
        return getattr(self._ale, name)

    def game_over(self):
        return self._over

    def reset_game(self):
        self._over = False
        self._ale.reset_game()


class ShortGames(atari.ale_py.ALEInterface):
    """Games of 600 frames in which every frame scores 3 points."""

    def __init__(self):
        super().__init__()
        self.setInt("max_num_frames_per_episode", 600)

    def act(self, *arguments):
        super().act(*arguments)
        return 3


@pytest.mark.parametrize(("task", "ties"), [("enduro", 0.98), ("enduro-effort", 0.01)])
def test_clips_of_a_random_policy_tie_in_enduro_and_not_for_effort(task, ties):
    """Of the pairs of clips of one game: no car is passed, so that only the clip with the game's end differs."""
    env = gymnasium.make(TASKS[task].env_id, noops=0)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(env.action_space.n, size=133 * 25 + 20)
    steps = [env.step(action) for action in actions]
    (score,) = (info["episode"]["r"] for *_, info in steps if "episode" in info)
    assert score == 0
    sums = np.array([step[1] for step in steps][: 133 * 25]).reshape(133, 25).sum(axis=1)
    left, right = np.triu_indices(133, 1)
    tied = np.isclose(sums[left], sums[right], atol=1e-9).mean()
    assert tied > ties if task == "enduro" else tied < ties
    env.close()


@pytest.mark.parametrize("task", ["enduro-effort", "enduro-even"])
def test_the_agent_is_paid_for_what_is_judged_and_the_score_is_reported(task, tmp_path, monkeypatch):
    monkeypatch.setattr(atari.ale_py, "ALEInterface", ShortGames)
    settings = {"agent.n_envs": 2, "agent.n_steps": 64, "round_steps": 256, "evaluation.episodes": 2}
    settings["agent.normalise_reward"] = False
    config = resolve(Request(task, teacher="none", mode="sync", steps=1024, settings=settings))
    stack = make_stack(config)
    stack.top.reset()
    paid = [stack.top.step(np.array([NOTHING, NOTHING]))[1] for _ in range(40)]
    assert np.abs(paid).max() <= {"enduro-effort": 1.2, "enduro-even": 12}[task]
    stack.top.close()
    summary = train_run(RunDirectory.create(tmp_path / "run", config))
    for reported in (summary["true_return_mean"], summary["evaluation_return_mean"]):
        assert 3 * 550 <= reported <= 3 * 600  # up to 30 no-ops, and what the emulator needs to start


def test_the_task_is_in_the_table():
    task = TASKS["enduro-effort"]
    assert not task.native_engine
    assert gymnasium.spec(task.env_id).entry_point == task.entry_point
    assert (task.segment_length, task.frame_stack, task.horizon) == (25, 4, None)
    assert TASKS["enduro"].instruction.split(". ")[0] in task.instruction
