"""Playing a run: the policy's true returns, and a video with every frame."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import cv2
import gymnasium
import numpy as np
import prefrl_envs  # noqa: F401 - registers the tasks
import pytest
from runs import checkpoints, content, prefrl, refused, tiny

import prefrl as package

PICTURES = """
import gymnasium
import numpy as np


class Pictures(gymnasium.Env):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 25}
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, render_mode=None):
        self.render_mode, self.steps = render_mode, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), {}

    def step(self, action):
        self.steps += 1
        return self.np_random.uniform(-1, 1, 2).astype(np.float32), 1.0, False, False, {}

    def render(self):
        return np.full((32, 48, 3), self.steps * 10, dtype=np.uint8)


gymnasium.register("Pictures-v0", Pictures, max_episode_steps=20)
"""


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run on an environment whose pictures need no graphics, and tell the step they are from."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "picturesenv.py").write_text(PICTURES)
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    root = tmp_path / "run"
    settings = ("queries.segment_length=10", "reward.pretrain_comparisons=64")
    done = prefrl(*tiny("picturesenv:Pictures-v0", root, "--mode", "sync", settings=settings, steps=1200))
    assert done.code == 0, done.err
    return root


def brightness(path: Path) -> list[float]:
    """Mean brightness of each frame of a video."""
    capture = cv2.VideoCapture(str(path))
    assert capture.isOpened()
    found = []
    while (read := capture.read())[0]:
        found.append(float(read[1].mean()))
    capture.release()
    return found


def test_returns_are_those_of_the_policy_on_the_true_reward(finished: Path) -> None:
    before = content(finished)
    done = prefrl("play", finished, "--episodes", "3", "--seed", "11")
    assert (done.code, done.err) == (0, "")
    told = [float(word) for word in done.out.rpartition(":")[2].split()]
    assert len(told) == 3
    act = package.load_policy(finished)
    with gymnasium.make("prefrl/Reacher-v0") as env:
        for episode, expected in enumerate(told):
            observation, _ = env.reset(seed=11 + episode)
            total, over = 0.0, False
            while not over:
                observation, reward, terminated, truncated, _ = env.step(act(observation))
                total, over = total + float(reward), terminated or truncated
            assert total == pytest.approx(expected, abs=0.051)
    assert f"{np.mean(told):.1f}"[:-1] in done.out
    assert content(finished) == before


@pytest.mark.parametrize("episodes", [1, 3])
def test_a_video_has_a_frame_for_every_step(episodes: int, pictures: Path, tmp_path: Path) -> None:
    video = tmp_path / "videos" / "play.mp4"
    done = prefrl("play", pictures, "--video", video, "--episodes", str(episodes))
    assert done.code == 0, done.err
    assert f"{20 * episodes} frames" in done.out
    seen = brightness(video)
    assert len(seen) == 20 * episodes
    np.testing.assert_allclose(seen, [10.0 * step for step in range(20)] * episodes, atol=4)


def test_a_video_of_a_long_play_ends_after_a_thousand_frames(pictures: Path, tmp_path: Path) -> None:
    video = tmp_path / "play.mp4"
    done = prefrl("play", pictures, "--video", video, "--episodes", "51")
    assert done.code == 0, done.err
    assert "1000 frames" in done.out
    assert len(brightness(video)) == 1000


def test_a_video_of_a_mujoco_task(finished: Path, tmp_path: Path) -> None:
    from prefrl.commands.doctor import examine

    (rendering,) = (finding for finding in examine() if finding.subject == "rendering")
    if not rendering.ok:
        pytest.skip(f"this machine cannot render: {rendering.detail}")
    video = tmp_path / "play.mp4"
    done = prefrl("play", finished, "--video", video, "--episodes", "1")
    assert done.code == 0, done.err
    seen = brightness(video)
    assert len(seen) == 50
    assert max(seen) > 5  # it shows something


def test_a_video_that_cannot_be_written(pictures: Path, tmp_path: Path) -> None:
    line = refused(prefrl("play", pictures, "--video", "/proc/nowhere/play.mp4", "--episodes", "1"), 2)
    assert "/proc/nowhere/play.mp4" in line
    assert "play.nonsense" in refused(prefrl("play", pictures, "--video", tmp_path / "play.nonsense"), 2)


def test_an_environment_that_cannot_render(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = 'metadata = {"render_modes": ["rgb_array"], "render_fps": 25}'
    assert modes in PICTURES
    (tmp_path / "blindenv.py").write_text(PICTURES.replace("Pictures", "Blind").replace(modes, ""))
    monkeypatch.syspath_prepend(str(tmp_path))
    root = tmp_path / "run"
    settings = ("queries.segment_length=10", "reward.pretrain_comparisons=64")
    assert prefrl(*tiny("blindenv:Blind-v0", root, "--mode", "sync", settings=settings, steps=1200)).code == 0
    done = prefrl("play", root, "--video", tmp_path / "play.mp4")
    assert done.code in {1, 2}
    assert "render" in refused(done, done.code)


def test_a_run_without_a_policy_yet(finished: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(finished, root)
    for path in checkpoints(root):
        path.unlink()
    assert "no policy yet" in refused(prefrl("play", root), 1)


def test_a_baseline_plays_too(tmp_path: Path) -> None:
    root = tmp_path / "run"
    assert prefrl(*tiny("reacher", root, "--teacher", "none", "--mode", "sync", steps=600)).code == 0
    done = prefrl("play", root, "--episodes", "1")
    assert done.code == 0
    assert re.search(r"true return -\d", done.out)
