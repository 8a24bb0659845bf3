"""Reward models of images that read the action too, and those of vectors that ignore it.

What they learn, how their steps come, what is refused.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from helpers import for_algo

import prefrl
from prefrl.api import create_run, resume
from prefrl.config.request import Request
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.archive_admission import read_archive
from prefrl.feedback.transfer import check_task, export_labels
from prefrl.memory_check import memory_use
from prefrl.recipes import resolve
from prefrl.runs.control import Control
from prefrl.runs.directory import RunDirectory
from prefrl.training import train_run

SMALL = {
    "agent.n_envs": 2,
    "agent.n_steps": 64,
    "agent.n_epochs": 1,
    "reward.pretrain_comparisons": 800,
    "reward.learning_rate": 3e-3,
    "reward.members": 1,
    "evaluation.episodes": 1,
    "reward.reads_actions": True,
    "queries.segment_length": 5,
    "queries.pool": 40,
    "round_steps": 128,
}


class Noise(gymnasium.Env[Any, Any]):
    """Pictures that tell nothing; the reward is 1 for the second action."""

    observation_space = gymnasium.spaces.Box(0, 255, (48, 48, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._picture(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._picture(), float(action), False, False, {}

    def _picture(self) -> Any:
        return self.np_random.integers(0, 256, (48, 48, 3), dtype=np.uint8)


gymnasium.register("Noise-v0", Noise, max_episode_steps=40)


def preferred(root: Path) -> float:
    """The predicted surplus of the second action over the first, in deviations over pictures."""
    reward = prefrl.load_reward(root)
    pictures = np.random.default_rng(0).integers(0, 256, (64, 48, 48, 3), dtype=np.uint8)
    worse, better = (reward(pictures, np.full(64, action)) for action in (0, 1))
    return float((better - worse).mean() / np.concatenate([worse, better]).std())


class Table(Noise):
    """Actions are tables of numbers; the reward is the first one."""

    action_space = gymnasium.spaces.Box(-1, 1, (2, 3), np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._picture(), float(action[0, 0]), False, False, {}


gymnasium.register("Table-v0", Table, max_episode_steps=40)


class Dice(gymnasium.Env[Any, Any]):
    """Numbers that tell nothing; the reward is that of the first number, or of the first action."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, *, of_action: bool = True) -> None:
        self._of_action = of_action

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._numbers = self._cast()
        return self._numbers, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action[0] if self._of_action else self._numbers[0])
        self._numbers = self._cast()
        return self._numbers, reward, False, False, {}

    def _cast(self) -> Any:
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


gymnasium.register("Dice-v0", Dice, max_episode_steps=40)

VECTORS = SMALL | {"agent.n_envs": 2, "reward.members": 3, "reward.reads_actions": None, "off_policy.random_steps": 200}


def differences(root: Path) -> tuple[float, float]:
    """By how much the predicted reward changes from -0.5 to 0.5 in the first action, and in the first number."""
    reward = prefrl.load_reward(root)
    numbers, actions = np.random.default_rng(0).uniform(-1, 1, (2, 64, 3)).astype(np.float32)
    low, high = (np.where(np.arange(3) == 0, first, actions)[:, :2] for first in (-0.5, 0.5))
    by_action = reward(numbers, high) - reward(numbers, low)
    low, high = (np.where(np.arange(3) == 0, first, numbers) for first in (-0.5, 0.5))
    by_number = reward(high, actions[:, :2]) - reward(low, actions[:, :2])
    return float(by_action.mean()), float(by_number.mean())


@pytest.mark.parametrize(("algo", "of_action"), [("ppo", True), ("sac", False)])
def test_a_reward_model_of_vectors_learns_from_the_action_unless_it_ignores_it(
    tmp_path: Path, algo: str, of_action: bool
) -> None:
    found = {}
    for reads in (True, False):
        settings = for_algo(algo, VECTORS | {"reward.reads_actions": reads})
        dice = {"algo": algo, "mode": "sync", "steps": 600, "labels": 40, "env_kwargs": {"of_action": of_action}}
        run = prefrl.train("Dice-v0", out=tmp_path / str(reads), settings=settings, **dice)
        found[reads] = differences(run.root)
    assert found[False][0] == 0
    assert found[True][0] > (0.5 if of_action else -1)
    if not of_action:
        assert min(found[True][1], found[False][1]) > 0.5


def test_labels_of_vectors_serve_models_that_ignore_the_action(tmp_path: Path) -> None:
    settings = for_algo("ppo", VECTORS | {"reward.pretrain_comparisons": 320})
    run = prefrl.train("Dice-v0", mode="sync", steps=400, labels=10, out=tmp_path / "reads", settings=settings)
    export_labels(run.root, tmp_path / "labels.zip")
    ignoring = settings | {"reward.reads_actions": False}
    labels = {"labels_from": tmp_path / "labels.zip", "labels": 10}
    run = prefrl.train("Dice-v0", mode="sync", steps=400, out=tmp_path / "ignores", settings=ignoring, **labels)
    assert run.summary["labels_answered"] == 10
    assert differences(run.root)[0] == 0


@pytest.mark.parametrize("algo", ["ppo", "dqn"])
def test_what_only_the_action_tells_is_learned(tmp_path: Path, algo: str) -> None:
    settings = for_algo(algo, SMALL | {"off_policy.random_steps": 200})
    run = prefrl.train(
        "Noise-v0", algo=algo, mode="sync", steps=600, labels=40, out=tmp_path / "run", settings=settings
    )
    assert run.summary["labels_answered"] == 40
    assert preferred(run.root) > 1


def test_the_frames_alone_do_not_tell_it(tmp_path: Path) -> None:
    settings = SMALL | {"reward.reads_actions": False, "reward.pretrain_comparisons": 64}
    run = prefrl.train("Noise-v0", mode="sync", steps=600, labels=40, out=tmp_path / "run", settings=settings)
    assert preferred(run.root) == 0


def test_a_stopped_run_continues_to_the_same_end(tmp_path: Path) -> None:
    settings = SMALL | {"reward.pretrain_comparisons": 64}
    runs = []
    for name in ("whole", "halves"):
        control = Control()
        if name == "halves":
            control.report = lambda progress, control=control: setattr(control, "stop", progress.step >= 384)
        request = Request("moving-dot", labels=12, steps=768, mode="sync", out=tmp_path / name, settings=settings)
        run = create_run(request)
        if train_run(run, control) is None:
            assert name == "halves"
            resume(run.root)
        runs.append(prefrl.load_reward(run.root)(np.zeros((5, 4, 48, 48), np.uint8), np.arange(5)))
    np.testing.assert_array_equal(*runs)
    assert len(set(runs[0])) == 5  # one for each action


def test_unlabelled_segments_reach_a_learner_of_its_own_process_with_their_actions(tmp_path: Path) -> None:
    """Pseudo-labels: the agent hands over the pool's segments in a file."""
    settings = SMALL | {"reward.pseudo_threshold": 0.5, "reward.pretrain_comparisons": 320}
    run = prefrl.train("Noise-v0", mode="async", steps=900, labels=20, out=tmp_path / "run", settings=settings)
    assert run.summary["labels_answered"] == 20
    assert preferred(run.root) > 0


def test_labels_serve_models_that_read_actions_and_those_that_do_not(tmp_path: Path) -> None:
    """What is stored of a clip is the same."""
    for reads in (True, False):
        settings = SMALL | {"reward.reads_actions": reads, "reward.pretrain_comparisons": 64}
        out = tmp_path / str(reads)
        prefrl.train("Noise-v0", mode="sync", steps=400, labels=10, out=out, settings=settings)
        export_labels(out, tmp_path / f"{reads}.zip")
        other = settings | {"reward.reads_actions": not reads}
        labels = {"labels_from": tmp_path / f"{reads}.zip", "labels": 10}
        run = prefrl.train("Noise-v0", mode="sync", steps=400, out=tmp_path / f"from {reads}", settings=other, **labels)
        assert run.summary["labels_answered"] == 10


def test_a_judge_reads_the_actions_that_it_learned_from(tmp_path: Path) -> None:
    prefrl.train("Noise-v0", mode="sync", steps=600, labels=40, out=tmp_path / "source", settings=SMALL)
    plain = SMALL | {"reward.reads_actions": False, "reward.pretrain_comparisons": 64}
    teacher = f"judge:{tmp_path / 'source'}"
    run = prefrl.train(
        "Noise-v0", teacher=teacher, mode="sync", steps=400, labels=10, out=tmp_path / "judged", settings=plain
    )
    assert run.summary["labels_answered"] == 10


def test_actions_that_are_tables_of_numbers_are_read(tmp_path: Path) -> None:
    run = prefrl.train("Table-v0", mode="sync", steps=600, labels=40, out=tmp_path / "run", settings=SMALL)
    reward = prefrl.load_reward(run.root)
    pictures, actions = np.full((16, 48, 48, 3), 128, np.uint8), np.zeros((16, 2, 3), np.float32)
    actions[:, 0, 0] = np.linspace(-1, 1, 16)
    assert np.corrcoef(reward(pictures, actions), actions[:, 0, 0])[0, 1] > 0.5


@pytest.mark.parametrize(("low", "high"), [(-4, 1), (0, 100), (-0.05, 0.05)])
def test_actions_that_cannot_be_told_apart_when_drawn_are_refused(
    low: float, high: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Table, "action_space", gymnasium.spaces.Box(low, high, (2, 3), np.float32))
    with pytest.raises(UsageError, match=r"within -3 and 3, in ranges of 0\.2 or more: .*RescaleAction"):
        prefrl.train("Table-v0", mode="sync", steps=600, labels=40, out=tmp_path / "run", settings=SMALL)
    assert not (tmp_path / "run").exists()


def test_a_run_none_of_whose_labels_can_be_used_ends_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Such as clips without actions, which older versions wrote."""
    load = ClipFolder.load
    older = lambda segment: replace(segment, actions=np.zeros((len(segment), 0), np.float32))  # noqa: E731
    monkeypatch.setattr(ClipFolder, "load", lambda self, *given: older(load(self, *given)))
    with pytest.raises(PrefrlError, match="no label can be used for training"):
        prefrl.train("Noise-v0", mode="sync", steps=400, labels=10, out=tmp_path / "run", settings=SMALL)
    assert "which kept no actions" in capfd.readouterr().err


def test_labels_of_an_older_version_are_refused_where_actions_are_read(tmp_path: Path) -> None:
    settings = SMALL | {"reward.pretrain_comparisons": 64}
    run = prefrl.train("Noise-v0", mode="sync", steps=400, labels=10, out=tmp_path / "run", settings=settings)
    export_labels(run.root, tmp_path / "labels.zip")
    archive, config = read_archive(tmp_path / "labels.zip"), RunDirectory.open(run.root).config
    check_task(archive, config)
    older = replace(archive, task=replace(archive.task, recorded=None))
    with pytest.raises(UsageError, match="kept no actions, and reward"):
        check_task(older, config)
    check_task(older, replace(config, reward=replace(config.reward, reads_actions=False)))


def test_the_memory_of_labels_is_that_of_frames_kept_for_each_step() -> None:
    """Of Pong: 25 steps of 5 images, instead of 28 frames; the pool holds frames in either case."""
    plain, reading = (memory_use(resolve("pong", settings={"reward.reads_actions": reads})) for reads in (False, True))
    labels, pool = (next(name for name in plain if word in name) for word in ("labels", "clips to choose from"))
    assert reading[labels] / plain[labels] == 125 / 28
    assert reading[pool] == plain[pool]
