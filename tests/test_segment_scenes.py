"""Scenes for rendering are recorded together with segments."""

import gymnasium
import numpy as np
import pytest
from helpers import CountingEnv, take_rollout, through_file
from stable_baselines3.common.vec_env import DummyVecEnv

from prefrl.experience.recorder import SegmentRecorder
from prefrl.experience.scenes import Scenes
from prefrl.storage.files import size_of


def roll(env, steps):
    """Step at random from a reset."""
    rng = np.random.default_rng(0)
    env.reset()
    for _ in range(steps):
        env.step(rng.uniform(-1, 1, size=(1, 2)).astype(np.float32))


class NumberedScenes:
    """Stands in for what shows segments to people: gives numbers, and keeps what it is told."""

    def __init__(self):
        self.told, self.given = [], 0

    def reset(self):
        self.told.append("reset")

    def before_step(self):
        self.told.append("before")

    def after_step(self, dones):
        self.told.append(("after", dones.tolist()))

    def take(self, env):
        self.told.append(("take", env))
        return self._next()

    def take_last(self, env, actions):
        self.told.append(("take last", env, actions.tolist()))
        return self._next()

    def drop(self, env):
        self.told.append(("drop", env))

    def state_dict(self):
        return {"given": self.given}

    def load_state_dict(self, state):
        self.given = state["given"]

    def _next(self):
        self.given += 1
        return {"number": np.array(self.given)}


def with_scenes(lengths, **options):
    scenes, env = NumberedScenes(), CountingEnv(lengths, **options)
    return scenes, SegmentRecorder(DummyVecEnv([lambda: env]), 3, 1000, scenes=scenes)


def cuts(scenes):
    return [entry for entry in scenes.told if entry[0] in {"take", "take last", "drop"}]


def numbers(env):
    return [int(segment.scene["number"]) for segment in env.pool]


def test_scenes_are_told_of_each_reset_and_step():
    scenes, env = with_scenes((2,))
    assert (len(scenes.told), env.reset().shape) == (0, (1, 3))
    for _ in range(2):
        env.step(np.zeros((1, 2), np.float32))
    assert scenes.told == ["reset", "before", ("after", [False]), "before", ("after", [True])]


def test_a_scene_goes_with_its_segment_and_the_last_steps_get_theirs_from_the_actions_before():
    scenes, env = with_scenes((7, 4))
    roll(env, 11)
    taken = [action.tolist() for _, action, *_ in env.venv.envs[0].log]
    take_rollout(env)
    # Steps 1 to 3 and 4 to 6 of the first episode, and its last three; of the second, the first and the last three.
    last = [("take last", 0, taken[3:4]), ("take last", 0, taken[7:8])]
    assert cuts(scenes) == [("take", 0), ("take", 0), last[0], ("take", 0), last[1]]
    assert numbers(env) == [1, 2, 3, 4, 5]


def test_the_scene_of_steps_that_no_segment_gets_is_dropped():
    scenes, env = with_scenes((7, 6, 2), truncate=True)
    roll(env, 15)
    take_rollout(env)
    # Step 7 of the first episode is left over, nothing of the second, and all of the third.
    assert cuts(scenes) == [("take", 0), ("take", 0), ("drop", 0), ("take", 0), ("take", 0), ("drop", 0)]
    assert numbers(env) == [1, 2, 3, 4]


def test_scenes_are_a_part_of_the_state(tmp_path):
    _, through = with_scenes((7, 4))
    roll(through, 11)
    take_rollout(through)
    state = through.state_dict()
    assert [int(state["pool"][str(number)]["scene"]["number"]) for number in range(5)] == [1, 2, 3, 4, 5]
    scenes, resumed = with_scenes((7, 4))
    resumed.load_state_dict(through_file(tmp_path, state))
    assert numbers(resumed) == [1, 2, 3, 4, 5]
    assert scenes.given == 5
    plain = SegmentRecorder(DummyVecEnv([lambda: CountingEnv((7, 4))]), 3, 1000)
    roll(plain, 11)
    take_rollout(plain)
    assert plain.state_dict()["scenes"] == {}
    assert set(plain.state_dict()["pool"]["0"]) == {"o", "a", "r", "e", "place"}


@pytest.mark.parametrize("name", ["Hopper-v5", "Unsaved", "OfLists"])
def test_a_full_pool_with_its_scenes_is_within_the_bound_for_checkpoints(name):
    env = gymnasium.make(name) if name in gymnasium.registry else {"Unsaved": Noisy, "OfLists": OfLists}[name]()
    recorder = SegmentRecorder(DummyVecEnv([lambda: env]), 5, 20, scenes=Scenes([env], 5))
    recorder.reset()
    bound, space = recorder.largest_state, env.action_space
    space.seed(0)
    for _ in range(4):
        for _ in range(40):
            recorder.step(space.sample()[None])
        recorder.cut(recorder.take())
    assert len(recorder.pool) == 20
    size = size_of(recorder.state_dict())
    assert size <= bound <= 2**20 + 30 * size


class Noisy(gymnasium.Env):
    """Its state cannot be saved, and its pictures cannot be compressed."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    render_mode = "rgb_array"
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    chance = np.random.default_rng(0)

    def reset(self, *, seed=None, options=None):
        return np.zeros(3, np.float32), {}

    def step(self, action):
        return np.zeros(3, np.float32), 0.0, False, False, {}

    def render(self):
        return self.chance.integers(0, 256, (20, 30, 3), np.uint8)


class OfLists(Noisy):
    """Its state is saved as plain values."""

    def save_state(self):
        return {"board": [[0] * 1000] * 20}

    def load_state(self, state):
        pass
