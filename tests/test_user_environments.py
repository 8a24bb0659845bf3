"""Users' environments with oddities: they train, or are refused in one line before a run is created."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import gymnasium
import numpy as np
import oddities
import pytest
from runs import error_line, figures, prefrl, refused, summary
from stable_baselines3.common.evaluation import evaluate_policy

import prefrl as package
from prefrl.errors import UsageError
from prefrl.experience import env_checks
from prefrl.experience.env_checks import check_env
from prefrl.experience.make_env import make_env
from prefrl.recipes import resolve
from prefrl.safety import trust

SMALL = (
    *("agent.n_envs=2", "agent.n_steps=32", "agent.n_epochs=1", "round_steps=64"),
    *("reward.pretrain_comparisons=32", "queries.segment_length=5"),
)


def train(task: str, root: Path, *flags: str, steps: int = 384, settings: tuple[str, ...] = ()) -> None:
    done = prefrl(*arguments(task, root, *flags, steps=steps, settings=settings))
    assert done.code == 0, done.err
    assert len(summary(root)) > 5


def arguments(task: str, root: Path, *flags: str, steps: int = 384, settings: tuple[str, ...] = ()) -> list[str | Path]:
    budget = ["--steps", str(steps), "--labels", "6", "--mode", "sync", "--out", root]
    return ["train", task, *budget, *flags, "--set", *SMALL, *settings]


VECTORS = ["Lamp", "Board", "SignedBoard", "SmallPicture", "OneNumber", "Doubles", "Dictionary", "Nested", "Pair"]
VECTORS += ["Cell", "Cells", "Flags", "Elsewhere"]
PICTURES = ["DarkPicture", "Grey", "Fractions", "Stack", "GreyStack"]
ACTIONS = ["Lookup", "FromFive", "Several", "SeveralFromOne", "Switches", "SwitchTable", "WholeNumbers"]
REST = [
    "RewardArray",
    "RewardMatrix",
    "RewardScalar",
    "Endless",
    "Clashes",
    "EpisodeRecord",
    "InfoNone",
    "NoRenderMode",
]


@pytest.mark.parametrize("name", [*VECTORS, *PICTURES, *ACTIONS, *REST])
def test_it_trains_plays_and_serves_a_user_s_own_loop(name: str, tmp_path: Path) -> None:
    root = tmp_path / "run"
    train(f"oddities:{name}-v0", root)
    played = prefrl("play", root, "--episodes", "2")
    assert played.code == 0, played.err
    policy, reward = package.load_policy(root), package.load_reward(root)
    with gymnasium.make(f"{name}-v0", disable_env_checker=True) as env:  # as the user has it
        observation, _ = env.reset(seed=0)
        for _ in range(5):
            action = policy(observation)
            assert action in env.action_space
            if isinstance(env.action_space, gymnasium.spaces.Discrete):
                assert type(action) is int
            assert isinstance(reward(observation, action), float)
            observation, *_ = env.step(action)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("PictureAndNumbers", "observation_space['eye'] is an image of shape (48, 48, 3) inside a Dict"),
        ("WrongShape", "observation has shape (3,), expected (2,)"),
        ("WrongKind", "dtype float64 with fractions, expected uint8"),
        ("Words", "not numbers"),
        ("Ragged", "not an array of one shape"),
        ("LacksPart", "observation lacks the key 'lamp'"),
        ("Outside", "7 is outside Discrete(3)"),
        ("Undefined", "found nan"),
        ("Unbounded", "its actions are unbounded"),
        ("HalfBounded", "its actions are unbounded"),
        ("ActionDictionary", "its actions are a Dict"),
        ("NoReward", "--teacher human"),
        ("TwoRewards", "its reward is an array of shape (2,)"),
        ("RewardText", "its reward is a str"),
        ("UndefinedReward", "found nan in its reward"),
        ("OldReset", "unexpected keyword argument"),
        ("ResetAlone", "its reset() gave an array of shape (2,), not (observation, info)"),
        ("OldStep", "its step() gave 4 values"),
        ("Fails", "IndexError"),
        ("NeedsLevel", "--env-kwargs level=VALUE"),
        ("Quits", "SystemExit: no licence"),
        ("NoSpaces", "its action_space is not a Gymnasium space"),
    ],
)
def test_it_is_refused_in_one_line_before_there_is_a_run(name: str, reason: str, tmp_path: Path) -> None:
    line = refused(prefrl(*arguments(f"oddities:{name}-v0", tmp_path / "run")), 2)
    assert reason in line
    assert f"{name}-v0" in line
    assert not (tmp_path / "run").exists()


def test_the_trace_of_a_mistake_is_in_a_file_that_begins_with_the_user_s_own_frame(tmp_path: Path) -> None:
    line = refused(prefrl(*arguments("oddities:Fails-v0", tmp_path / "run")), 2)
    assert re.search(r"\(oddities\.py, line \d+\)", line)
    found = re.search(r"the trace is in (\S+)", line)
    assert found
    trace = Path(found[1]).read_text()
    own, _, whole = trace.partition("The whole trace:")
    assert "return [0][self.time]" in own
    assert "adapter.py" not in own
    assert "adapter.py" in whole


def test_a_mistake_that_shows_in_training_is_one_line_and_the_run_can_be_resumed(tmp_path: Path) -> None:
    oddities.FailsLate.taken = 0
    done = prefrl(*arguments("oddities:FailsLate-v0", tmp_path / "run", steps=3000))
    assert done.code == 1
    line = error_line(done)
    assert "step(): RuntimeError: the lamp burnt out (oddities.py, line" in line
    assert re.search(r"after [\d,]+ steps, the environment oddities:FailsLate-v0 failed", line)
    assert "can be resumed" not in line  # as it is, it would fail again
    assert f"; the run and its labels are kept: fix the environment, then resume with: prefrl resume {tmp_path}" in line


@pytest.mark.parametrize("ends", [333, 999])
def test_an_episode_that_the_trial_did_not_see_the_end_of_is_not_a_short_one(
    ends: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oddities.Lamp, "ends", ends)  # 1 step of the thousand is left for the last
    assert check_env("Lamp-v0").short_episode == ends


def test_where_no_episode_ended_none_is_known_to_be_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env_checks, "_SECONDS", 0.0)  # as where a reset takes longer than that
    assert check_env("Lamp-v0").short_episode == 1000
    assert resolve("Lamp-v0").queries.segment_length == 15


def test_arguments_of_the_constructor(tmp_path: Path) -> None:
    root = tmp_path / "run"
    train("oddities:NeedsLevel-v0", root, "--env-kwargs", "level=1", "bonus=2.5", "--teacher", "none")
    assert json.loads((root / "config.json").read_text())["config"]["env_kwargs"] == {"level": 1, "bonus": 2.5}
    assert "true return" in prefrl("play", root, "--episodes", "1").out
    with pytest.raises(UsageError, match="a level is a whole number, not 'one'"):
        make_env("oddities:NeedsLevel-v0", {"level": "one"})
    line = refused(prefrl(*arguments("oddities:NeedsLevel-v0", tmp_path / "b", "--env-kwargs", "level=1", "levl=2")), 2)
    assert "takes no levl; it takes: level, bonus" in line
    assert "render_mode" in refused(
        prefrl(*arguments("Lamp-v0", tmp_path / "b", "--env-kwargs", "render_mode=human")), 2
    )


def test_what_the_environment_says_in_info_is_not_taken_for_the_monitor_s(tmp_path: Path) -> None:
    for name in ("Lamp", "Clashes", "EpisodeRecord"):
        train(f"oddities:{name}-v0", tmp_path / name)
    plain = figures(tmp_path / "Lamp")
    assert any(row[plain[0].index("true_return_mean")] for row in plain[1:])
    assert figures(tmp_path / "Clashes") == plain
    assert figures(tmp_path / "EpisodeRecord") == plain


def test_rewards_in_arrays_are_the_numbers_in_them(tmp_path: Path) -> None:
    for name in ("RewardArray", "RewardMatrix", "RewardScalar", "Lamp"):
        train(f"oddities:{name}-v0", tmp_path / name)
        assert figures(tmp_path / name) == figures(tmp_path / "RewardArray")


@pytest.mark.parametrize("name", ["Lamp", "Dictionary", "Cell", "Pair", "FromFive", "Several", "Fractions"])
def test_stable_baselines_evaluates_what_load_policy_gives(name: str, tmp_path: Path) -> None:
    root = tmp_path / "run"
    train(f"oddities:{name}-v0", root)
    env = gymnasium.make(f"{name}-v0", disable_env_checker=True)
    returns, lengths = evaluate_policy(
        package.load_policy(root), env, n_eval_episodes=2, return_episode_rewards=True, warn=False
    )
    assert lengths == [20, 20]
    assert all(-9 * 20 <= value <= 0 for value in returns)


def test_a_policy_and_a_reward_take_one_or_many(tmp_path: Path) -> None:
    root = tmp_path / "run"
    train("oddities:Dictionary-v0", root)
    policy, reward = package.load_policy(root), package.load_reward(root)
    each = [{"at": at, "lamp": np.array([3.0], np.float32)} for at in range(4)]
    many = {"at": np.arange(4), "lamp": np.full((4, 1), 3.0, np.float32)}
    assert policy(many).tolist() == [policy(one) for one in each]
    np.testing.assert_allclose(
        reward(many, np.arange(4) % 3), [reward(one, at % 3) for at, one in enumerate(each)], rtol=1e-5
    )


def test_a_video_where_the_constructor_takes_no_render_mode(tmp_path: Path) -> None:
    root = tmp_path / "run"
    train("oddities:NoRenderMode-v0", root)
    line = refused(prefrl("play", root, "--video", tmp_path / "play.mp4"), 2)
    assert "its constructor takes no render_mode" in line


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("ShowsNone", "its render() does not return an image: it returns None"),
        ("ShowsText", "it returns a str"),
        ("ShowsList", "it returns an array of shape (2, 8, 8, 3)"),
        ("ShowsSizes", "images of different sizes"),
        ("NoRenderMode", "its constructor takes no render_mode"),
        ("SaysNoModes", '"rgb_array"'),
    ],
)
def test_what_shows_nothing_cannot_be_shown_to_people(name: str, reason: str, tmp_path: Path) -> None:
    line = refused(prefrl(*arguments(f"oddities:{name}-v0", tmp_path / "run", "--teacher", "human")), 2)
    assert reason in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["ShowsGrey", "ShowsOpacity", "ShowsFractions", "ShowsTruth", "ShowsChannelsFirst"])
def test_other_kinds_of_pictures_are_filmed(name: str, tmp_path: Path) -> None:
    from prefrl.experience.frames import render

    trust.import_named("oddities")
    env = make_env(f"oddities:{name}-v0", render_mode="rgb_array")
    env.reset(seed=0)
    frame = render(env)
    assert (frame.shape, frame.dtype) == ((48, 48, 3), np.uint8)
    if name in ("ShowsOpacity", "ShowsChannelsFirst", "ShowsFractions"):
        np.testing.assert_array_equal(frame, oddities.Lamp.render(env.unwrapped))
    elif name == "ShowsTruth":
        np.testing.assert_array_equal(frame[..., 0], 255 * (oddities.Lamp.render(env.unwrapped)[..., 0] > 0))


def test_a_video_of_an_environment_of_other_pictures(tmp_path: Path) -> None:
    root = tmp_path / "run"
    train("oddities:ShowsFractions-v0", root)
    done = prefrl("play", root, "--video", tmp_path / "play.mp4", "--episodes", "1")
    assert done.code == 0, done.err
    assert "20 frames" in done.out


def test_observations_outside_their_bounds_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train("oddities:Elsewhere-v0", tmp_path / "run")
    assert [record.getMessage() for record in caplog.records if record.name == "prefrl"] == [
        "oddities:Elsewhere-v0: observations leave the bounds of its observation_space"
    ]


@pytest.fixture(autouse=True)
def _tests_are_importable(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The module of oddities, also for processes that are started."""
    folder = tmp_path_factory.mktemp("modules")
    shutil.copy(oddities.__file__, folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
