"""Runs evaluate their policy at the end and during training, which does not change their results."""

from __future__ import annotations

import csv
import dataclasses
import errno
import random
import sys
import types
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import prefrl_envs  # noqa: F401 - registers the tasks
import pytest
from gymnasium import spaces
from runs import LABELS, SETTINGS, STEPS, assert_equal_runs, checkpoints, policy, prefrl, summary, tiny

import prefrl as package
from prefrl.api import resume
from prefrl.commands.wording import in_words
from prefrl.experience.evaluation import evaluation_seed
from prefrl.recipes import resolve
from prefrl.runs.control import Control
from prefrl.runs.directory import RunDirectory
from prefrl.runs.metrics import read_metrics

ON = ("evaluation.every=512", "evaluation.every_episodes=2", "evaluation.episodes=3")
OFF = ("evaluation.episodes=0",)
COLUMNS = ("evaluation_return_mean", "evaluation_return_std", "evaluation_episodes")


class Noisy(gymnasium.Env[Any, Any]):
    """Draws from every global random state that there is, and pays for actions near 0.5."""

    observation_space = spaces.Box(-1, 1, (2,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)
    made = 0
    most = sys.maxsize
    """Copies that there can be."""

    def __init__(self) -> None:
        Noisy.made += 1
        if Noisy.made > Noisy.most:
            raise RuntimeError("the only port is taken")

    def _observation(self) -> np.ndarray[Any, Any]:
        return np.array([random.uniform(-1, 1), np.random.uniform(-1, 1)], np.float32)  # noqa: NPY002

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action: Any) -> Any:
        return self._observation(), -abs(float(action[0]) - 0.5) + random.gauss(0, 0.1), False, False, {}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "noisyenv", types.ModuleType("noisyenv"))
    monkeypatch.setattr(Noisy, "made", 0)
    if "Noisy-v0" not in gymnasium.registry:
        gymnasium.register("Noisy-v0", Noisy, max_episode_steps=40)


def rows(root: Path) -> list[dict[str, str]]:
    with (root / "metrics.csv").open(newline="") as file:
        return [{name: value for name, value in row.items() if name[:5] != "time_"} for row in csv.DictReader(file)]


def without(found: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{name: value for name, value in row.items() if name not in COLUMNS} for row in found]


def create(root: Path, *more: str, task: str = "reacher", steps: int = STEPS) -> RunDirectory:
    pairs = (setting.split("=") for setting in (*SETTINGS, *more))
    settings: dict[str, Any] = {name: float(value) if "." in value else int(value) for name, value in pairs}
    settings |= {"steps": steps, "queries.labels": LABELS, "mode": "sync"}
    return RunDirectory.create(root, resolve(task, settings=settings))


def finish(root: Path, **budget: int) -> list[dict[str, Any]]:
    """Go on to the end; what was said on the way."""
    said: list[dict[str, Any]] = []
    assert resume(root, control=Control(report=said.append), **budget).summary is not None
    return said


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that was evaluated on the way; not to be changed."""
    root = create(tmp_path_factory.mktemp("evaluated") / "run", *ON).root
    finish(root)
    return root


@pytest.mark.parametrize("task", ["Noisy-v0", "reacher"])
def test_a_run_is_the_same_with_evaluations_and_without(task: str, tmp_path: Path) -> None:
    on, off = (create(tmp_path / str(len(more)), *more, task=task).root for more in (ON, OFF))
    finish(on)
    finish(off)
    assert without(rows(on)) == without(rows(off))
    for name, array in policy(on).items():
        np.testing.assert_array_equal(array, policy(off)[name])
    assert any(row["evaluation_return_mean"] for row in rows(on)[:-1])
    assert not any(row[name] for row in rows(off) for name in COLUMNS)
    assert [summary(off)[name] for name in COLUMNS] == [None, None, 0]


def test_the_final_evaluation_is_that_of_the_mean_action_on_the_true_reward(evaluated: Path) -> None:
    act, returns = package.load_policy(evaluated), []
    with gymnasium.make("prefrl/Reacher-v0") as env:
        for episode in range(3):
            observation, _ = env.reset(seed=evaluation_seed(RunDirectory.open(evaluated).config) + episode)
            total, over = 0.0, False
            while not over:
                observation, reward, terminated, truncated, _ = env.step(act(observation))
                total, over = total + float(reward), terminated or truncated
            returns.append(total)
    figures = summary(evaluated)
    assert figures["evaluation_return_mean"] == pytest.approx(np.mean(returns), rel=1e-4)
    assert figures["evaluation_return_std"] == pytest.approx(np.std(returns), rel=1e-3)
    assert figures["evaluation_episodes"] == 3
    last = read_metrics(evaluated / "metrics.csv")[-1]
    assert [last[name] for name in COLUMNS] == pytest.approx([figures[name] for name in COLUMNS], rel=1e-7)
    assert last["step"] == figures["steps"]


def test_rows_are_evaluated_where_a_multiple_was_passed(evaluated: Path) -> None:
    found = [(row["step"] or 0, row["evaluation_episodes"]) for row in read_metrics(evaluated / "metrics.csv")]
    before = 0
    for step, episodes in found[:-1]:
        assert episodes == (2 if step // 512 > before // 512 else None)
        before = int(step)
    assert [episodes for _, episodes in found].count(2) >= 2


def test_tensorboard_and_status_have_it(evaluated: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (events,) = (evaluated / "tensorboard").glob("events.out.tfevents.*")
    accumulator = EventAccumulator(str(events))
    accumulator.Reload()
    scalars = accumulator.Scalars("prefrl/evaluation_return_mean")
    assert scalars[-1].value == pytest.approx(summary(evaluated)["evaluation_return_mean"], rel=1e-5)
    assert scalars[-1].step == summary(evaluated)["steps"]
    assert len(accumulator.Scalars("prefrl/labels")) == len(rows(evaluated))  # nothing is logged twice
    told = prefrl("status", evaluated).out
    mean = summary(evaluated)["evaluation_return_mean"]
    assert f"true return {mean:.1f} ± " in told
    assert "(evaluation: 3 episodes of the mean action)" in told
    assert "(last 100 training episodes)" in told


def test_an_evaluation_says_how_far_it_is(tmp_path: Path) -> None:
    root = create(tmp_path / "run", "evaluation.episodes=10", steps=1024).root
    said = finish(root)
    states = [in_words(progress) for progress in said if in_words(progress).startswith("evaluating")]
    assert states[0] == "evaluating the policy, 0 of 10 episodes"
    assert "evaluating the policy, 5 of 10 episodes" in states
    assert in_words(said[-1]) == "training"
    assert said[-1].evaluation_return == summary(root)["evaluation_return_mean"]


@pytest.mark.parametrize("which", [0, 1, -1])
def test_a_run_stopped_during_an_evaluation_resumes_as_if_undisturbed(
    which: int, evaluated: Path, tmp_path: Path
) -> None:
    root = create(tmp_path / "run", *ON).root
    control, met = Control(), list[str]()

    def report(progress: dict[str, Any]) -> None:
        begun = in_words(progress).startswith("evaluating the policy, 0 of ")
        met.extend([in_words(progress)] * begun)
        control.stop |= begun and (len(met) == which + 1 or "of 3" in in_words(progress))

    control.report = report
    assert resume(root, control=control).summary is None
    assert ("of 3" in met[-1]) == (which == -1)
    assert not (root / "summary.json").exists()
    assert "stopped; resumable" in prefrl("status", root).out
    finish(root)
    assert_equal_runs(root, evaluated)
    final = {name: summary(root)[name] for name in (*COLUMNS, "true_return_mean", "steps")}
    assert final == {name: summary(evaluated)[name] for name in final}


def test_a_second_interrupt_leaves_a_resumable_run_too(evaluated: Path, tmp_path: Path) -> None:
    root = create(tmp_path / "run", *ON).root

    def report(progress: dict[str, Any]) -> None:
        if in_words(progress).startswith("evaluating the policy, 0 of 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resume(root, control=Control(report=report))
    assert checkpoints(root)
    finish(root)
    assert_equal_runs(root, evaluated)


def test_a_finished_run_with_more_labels_or_steps_is_evaluated_again(evaluated: Path, tmp_path: Path) -> None:
    root = create(tmp_path / "run", *ON).root
    finish(root)
    finish(root, labels=LABELS + 4)
    assert summary(root)["labels_answered"] == LABELS + 4
    assert [summary(root)[name] for name in COLUMNS] == [summary(evaluated)[name] for name in COLUMNS]
    assert rows(root)[-1]["evaluation_episodes"] == "3"
    steps = summary(root)["steps"]
    finish(root, steps=3072)
    assert summary(root)["evaluation_return_mean"] != summary(evaluated)["evaluation_return_mean"]
    (old,) = (row for row in rows(root) if row["step"] == str(steps))
    assert old["evaluation_return_mean"] == f"{summary(evaluated)['evaluation_return_mean']:.9g}"


def test_a_task_that_cannot_be_evaluated_is_reported_and_the_run_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = create(tmp_path / "run", task="Noisy-v0", steps=1024).root
    monkeypatch.setattr(Noisy, "made", 0)
    monkeypatch.setattr(Noisy, "most", 8)
    warned: list[str] = []
    assert resume(root, control=Control(warn=warned.append)).summary is not None
    assert [line for line in warned if line.startswith("the policy could not be evaluated: ")]
    assert "the only port is taken" in "".join(warned)
    assert [summary(root)[name] for name in COLUMNS] == [None, None, 0]
    assert summary(root)["true_return_mean"] is not None


def test_episodes_that_do_not_end_are_cut_and_reported(tmp_path: Path) -> None:
    root = create(tmp_path / "run", "evaluation.max_steps=7", "evaluation.episodes=3", task="Noisy-v0", steps=1000).root
    warned: list[str] = []
    assert resume(root, control=Control(warn=warned.append)).summary is not None
    assert "3 of 3 episodes of the evaluation did not end and were cut" in warned
    assert -7 * 1.5 < summary(root)["evaluation_return_mean"] < 0  # seven steps, where an episode has forty
    assert "2 of 2 episodes did not end, and were cut after 7 steps" in prefrl("play", root, "--episodes", "2").out


def test_a_task_without_a_true_reward_is_not_evaluated(tmp_path: Path) -> None:
    run = create(tmp_path / "run", *ON, task="Noisy-v0", steps=1024)
    RunDirectory(run.root, dataclasses.replace(run.config, true_reward=False)).write_config()
    finish(run.root)
    assert [summary(run.root)[name] for name in COLUMNS] == [None, None, 0]
    assert not any(row[name] for row in rows(run.root) for name in COLUMNS)


def test_a_full_disk_ends_the_run_and_not_only_its_evaluation(tmp_path: Path) -> None:
    root = create(tmp_path / "run", "evaluation.episodes=3", steps=1000).root

    def report(progress: dict[str, Any]) -> None:
        if in_words(progress).startswith("evaluating"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        resume(root, control=Control(report=report))
    assert not (root / "summary.json").exists()
    finish(root)
    assert summary(root)["evaluation_episodes"] == 3


@pytest.mark.parametrize("name", ["episodes=-1", "every=0", "every_episodes=0", "max_steps=0"])
def test_settings_that_cannot_work_are_refused(name: str, tmp_path: Path) -> None:
    done = prefrl(*tiny("reacher", tmp_path / "run", settings=(f"evaluation.{name}",)))
    assert done.code == 2
    assert f"evaluation.{name.split('=', maxsplit=1)[0]}" in done.err
