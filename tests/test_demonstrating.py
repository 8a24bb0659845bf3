"""A person demonstrates: the keys of tasks, the session without Qt, and the window on a virtual screen."""

import os
from types import SimpleNamespace
from unittest import mock

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from runs import prefrl

from clip_viewer.demonstrating import Demonstrating
from prefrl.errors import UsageError
from prefrl.experience.adapter import Adapter
from prefrl.experience.demonstrations import Demonstrations
from prefrl.experience.keyboard import ActionKeys, AxisKeys, keyboard_of
from prefrl.recipes import resolve
from prefrl.trained.demonstration_sources import demonstrations_for


class Actions(gymnasium.Env):
    """An environment with these actions."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, space, names=None):
        self.action_space = space
        if names is not None:
            self.get_action_meanings = lambda: names


def keys(space, names=None, name="Some-v0"):
    return keyboard_of(Adapter(Actions(space, names), name))


def test_the_keys_of_an_atari_game():
    board = keys(spaces.Discrete(6), ["NOOP", "FIRE", "UP", "RIGHT", "UPRIGHT", "RIGHTFIRE"])
    pressed = {
        (): 0,
        ("Space",): 1,
        ("Up",): 2,
        ("Right",): 3,
        ("Up", "Right"): 4,
        ("Right", "Space"): 5,
        ("Left",): 0,
        ("Left", "Right", "Up"): 4,
        ("Up", "Space"): 1,  # of two actions with as many keys, the first
    }
    assert {each: int(board.action(frozenset(each))) for each in pressed} == pressed
    assert board.help == "Right, Space, Up"


def test_a_task_in_which_something_is_always_done_goes_on_with_the_last_action():
    board = keys(spaces.Discrete(2), name="CartPole-v1")
    moves = [(), ("Right",), (), ("Left",), ()]
    assert [int(board.action(frozenset(each))) for each in moves] == [0, 1, 1, 0, 0]


@pytest.mark.parametrize("names", [None, ["JUMP", "DUCK", "NOOP"], ["UP", "DOWN"], ["UPPER", "DOWN", "NOOP"]])
def test_actions_without_names_are_digits(names):
    board = keys(spaces.Discrete(3), names)
    assert [int(board.action(frozenset({digit}))) for digit in "123"] == [0, 1, 2]


def test_arrows_give_the_bounds_of_one_or_two_numbers():
    board = keys(spaces.Box(np.array([-2, 0.5], np.float32), np.array([1, 3], np.float32)))
    assert isinstance(board, AxisKeys)
    for pressed, taken in (
        ((), [0, 0.5]),
        (("Left",), [-2, 0.5]),
        (("Right", "Up"), [1, 3]),
        (("Left", "Right", "Down"), [0, 0.5]),
    ):
        assert board.action(frozenset(pressed)).tolist() == taken
    assert keys(spaces.Box(-1, 1, (1,), np.float32)).action(frozenset({"Up", "Left"})).tolist() == [-1]


@pytest.mark.parametrize(
    ("space", "said"),
    [
        (spaces.Box(-1, 1, (3,), np.float32), "neither discrete nor one or two numbers"),
        (spaces.MultiDiscrete([2, 2]), "neither discrete nor one or two numbers"),
        (spaces.Discrete(10), "its 10 actions have no names"),
    ],
)
def test_a_task_that_cannot_be_played_is_one_line(space, said):
    with pytest.raises(UsageError, match=said):
        keys(space)


def test_the_names_of_prefrl_s_own_tasks_are_keys():
    from prefrl.experience.make_env import make_env

    for env_id in ("prefrl/MovingDot-v0", resolve("pong").env_id):
        env = make_env(env_id)
        board = keyboard_of(env)
        env.close()
        assert isinstance(board, ActionKeys)
        assert "1" not in board.help


# -- the session ------------------------------------------------------------------------------------------------------


def test_what_a_person_plays_can_be_imitated(tmp_path):
    out = tmp_path / "shown.safetensors"
    shown = Demonstrating("moving-dot", out, seed=3)
    assert shown.frame.ndim == 3
    ended = [shown.step(frozenset({"Up"})) for _ in range(60)]
    assert ended == [False] * 59 + [True]  # the episode's end
    for _ in range(5):
        shown.step(frozenset())
    shown.discard_episode()
    assert (len(shown.tape), shown.total) == (0, 0.0)
    for pressed in ({"Left"}, {"Right"}, {"Right"}):
        shown.step(frozenset(pressed))
    assert shown.save() == 2
    shown.close()
    kept = Demonstrations.load(out)
    assert [len(each) for each in kept.episodes] == [60, 3]
    assert kept.returns == shown.returns
    assert kept.episodes[0].actions.argmax(axis=1).tolist() == [1] * 60
    assert kept.episodes[1].actions.argmax(axis=1).tolist() == [3, 4, 4]
    assert kept.episodes[0].truncated[-1]
    assert not kept.episodes[1].truncated.any()
    frames = kept.episodes[1].observations
    assert frames.shape == (3, 4, 48, 48)
    assert np.array_equal(frames[1, :3], frames[0, 1:])
    found = demonstrations_for(resolve("moving-dot", settings={"demonstrations.source": str(out)}))
    assert len(found) == 63


def test_the_same_seed_shows_the_same_episode(tmp_path):
    one, two = (Demonstrating("moving-dot", tmp_path / name, seed=5) for name in ("one", "two"))
    assert np.array_equal(one.frame, two.frame)
    one.step(frozenset({"Left"}))
    one.end_episode()
    assert not np.array_equal(one.frame, two.frame)
    two.step(frozenset({"Right"}))
    two.discard_episode()
    three = Demonstrating("moving-dot", tmp_path / "three", seed=5)
    assert np.array_equal(two.frame, three.frame)
    for each in (one, two, three):
        each.close()


def test_images_with_channels_last_are_recorded_as_the_agent_sees_them(tmp_path):
    seen = np.random.default_rng(0).integers(0, 255, (4, 64, 64, 3), dtype=np.uint8)
    from prefrl.experience.demonstrations import episode_of

    never = [False] * 4
    actions = np.eye(2, dtype=np.float32)[[0, 1, 1, 0]]
    Demonstrations("Some-v0", {}, (episode_of(0, seen, actions, [0.0] * 4, never, never),)).save(path := tmp_path / "f")
    config = SimpleNamespace(
        env_id="Some-v0",
        env_kwargs={},
        images=True,
        frame_stack=1,
        task="some",
        true_reward=True,
        observe=None,
        demonstrations=SimpleNamespace(source=str(path), episodes=1, steps=9),
    )
    env = Actions(spaces.Discrete(2))
    env.observation_space = spaces.Box(0, 255, (64, 64, 3), np.uint8)
    with (
        mock.patch("prefrl.trained.demonstration_sources.run_env", return_value=Adapter(env, "Some-v0")),
        mock.patch("prefrl.experience.environments.run_env", return_value=Adapter(env, "Some-v0")),
    ):
        (found,) = demonstrations_for(config).episodes
    assert np.array_equal(found.observations, np.moveaxis(seen, -1, 1))


# -- the command and the window ---------------------------------------------------------------------------------------


def test_bad_arguments_are_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").touch()
    for flags, said in (
        (["hopper"], "cannot be played with keys"),
        (["CartPole-v1", "--out", "there"], "there exists already"),
        (["CartPole-v1", "--out", "nowhere/x"], "is not in a folder"),
        (["CartPol-v1"], "did you mean"),
        (["CartPole-v1", "--speed", "0"], "--speed must be in"),
    ):
        done = prefrl("demonstrate", *flags)
        assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
        assert said in done.err


@pytest.fixture
def window(tmp_path, qtbot):
    from clip_viewer.demonstration_window import DemonstrationWindow

    shown = Demonstrating("moving-dot", tmp_path / "shown.safetensors")
    opened = DemonstrationWindow(shown, speed=1e-3)  # the test itself ticks
    qtbot.addWidget(opened)
    opened.show()
    yield opened, shown, qtbot
    shown.close()


@pytest.mark.skipif(os.environ.get("QT_QPA_PLATFORM", "") == "none", reason="no Qt")
def test_the_window_steps_while_keys_are_held(window):
    pytest.importorskip("PySide6")
    from PySide6.QtCore import QEvent, Qt
    from PySide6.QtWidgets import QApplication

    opened, shown, bot = window
    opened.tick()
    assert len(shown.tape) == 0  # an episode begins with the first key
    bot.keyPress(opened, Qt.Key.Key_Right)
    opened.tick()
    bot.keyRelease(opened, Qt.Key.Key_Right)
    opened.tick()
    assert [int(step[1].argmax()) for step in shown.tape._steps] == [4, 0]
    bot.keyClick(opened, Qt.Key.Key_P)
    opened.tick()
    assert len(shown.tape) == 2
    bot.keyClick(opened, Qt.Key.Key_P)
    bot.keyPress(opened, Qt.Key.Key_Left)
    opened.tick()
    assert len(shown.tape) == 3
    assert f"this one: 3 steps, return {shown.total:.1f}" in opened.words
    QApplication.sendEvent(opened, QEvent(QEvent.Type.WindowDeactivate))
    opened.tick()
    assert len(shown.tape) == 3
    bot.keyClick(opened, Qt.Key.Key_Return)
    assert ([len(each) for each in shown.episodes], len(shown.tape)) == ([3], 0)
    bot.keyClick(opened, Qt.Key.Key_Right)
    opened.tick()
    bot.keyClick(opened, Qt.Key.Key_Backspace)
    assert ([len(each) for each in shown.episodes], len(shown.tape)) == ([3], 0)
    assert "1 episodes kept" in opened.words
    bot.keyClick(opened, Qt.Key.Key_Escape)
    assert not opened.isVisible()
    assert shown.save() == 1


def test_at_the_end_of_an_episode_the_window_waits(window):
    pytest.importorskip("PySide6")
    from PySide6.QtCore import Qt

    opened, shown, bot = window
    bot.keyPress(opened, Qt.Key.Key_Left)
    for _ in range(70):
        opened.tick()
    assert len(shown.episodes) == 1
    assert (len(shown.episodes[0]), bool(shown.episodes[0].truncated[-1])) == (60, True)
    assert len(shown.tape) == 0
    assert not opened.playing


def test_an_error_of_the_environment_closes_the_window_and_keeps_the_steps(window, monkeypatch):
    pytest.importorskip("PySide6")
    from PySide6.QtCore import Qt

    opened, shown, bot = window
    bot.keyPress(opened, Qt.Key.Key_Left)
    opened.tick()
    monkeypatch.setattr(shown, "_env", SimpleNamespace(close=lambda: None, action_space=spaces.Discrete(2)))
    opened.tick()
    assert opened.problem is not None
    assert not opened.isVisible()
    assert len(shown.tape) == 1
