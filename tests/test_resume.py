"""A run that was stopped, killed or damaged resumes where it was."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from runs import (
    LABELS,
    SETTINGS,
    STEPS,
    assert_equal_runs,
    checkpoints,
    content,
    empty,
    error_line,
    figures,
    flip,
    label_counts,
    live,
    policy,
    prefrl,
    refused,
    spawned,
    stored_labels,
    summary,
    tiny,
    truncate,
    until,
)

from prefrl.api import resume
from prefrl.recipes import resolve
from prefrl.runs.control import Control
from prefrl.runs.directory import RunDirectory

MakeReference = Callable[..., Path]


@pytest.fixture(scope="module")
def reference(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> MakeReference:
    """Uninterrupted synchronous runs, each trained once; not to be changed."""
    made = {"ppo": finished}

    def make(algo: str = "ppo") -> Path:
        if algo not in made:
            root = made[algo] = tmp_path_factory.mktemp("reference") / "run"
            done = prefrl(*tiny("reacher", root, "--mode", "sync", "--algo", algo))
            assert done.code == 0, done.err
        return made[algo]

    return make


def stop_at(root: Path, step: int) -> None:
    """Go on with a run in this process until it has come to a step."""
    control = Control()

    def report(progress: dict[str, object]) -> None:
        control.stop = progress.step >= step

    control.report = report
    assert resume(root, control=control).summary is None


def create(root: Path, task: str = "reacher", *, seed: int = 0, **chosen: object) -> RunDirectory:
    """The run that `tiny` makes, not yet trained."""
    settings: dict[str, object] = {"steps": STEPS, "queries.labels": LABELS, "mode": "sync", "seed": seed}
    settings |= {name: float(value) if "." in value else int(value) for name, value in (s.split("=") for s in SETTINGS)}
    return RunDirectory.create(root, resolve(task, settings=settings, **chosen))  # type: ignore[arg-type]


# -- the same seed --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_same_seed_twice_gives_the_same_run(reference: MakeReference, tmp_path: Path) -> None:
    again, other = tmp_path / "again", tmp_path / "other"
    done = spawned(*tiny("reacher", again, "--mode", "sync"))
    assert done.code == 0, done.err
    assert_equal_runs(reference(), again)
    assert prefrl(*tiny("reacher", other, "--mode", "sync", "--seed", "1")).code == 0
    assert figures(other) != figures(again)


# -- stopped --------------------------------------------------------------------------------------------------------

STOPPABLE = [
    ("reacher", "ppo", "oracle"),
    ("reacher", "a2c", "oracle"),
    ("reacher", "ppo", "none"),
    ("hopper", "ppo", "oracle"),
    ("double-pendulum", "ppo", "oracle"),
    ("Pendulum-v1", "ppo", "oracle"),
    ("CartPole-v1", "a2c", "oracle"),
]


@pytest.mark.parametrize(("task", "algo", "teacher"), STOPPABLE)
@pytest.mark.slow
def test_a_run_stopped_again_and_again_equals_an_uninterrupted_one(
    task: str, algo: str, teacher: str, tmp_path: Path
) -> None:
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    for root in (whole, pieces):
        create(root, task, algo=algo, teacher=teacher)
    assert resume(whole).summary is not None
    for step in (1, STEPS // 3, STEPS * 2 // 3):  # 1: before the first labels are asked
        stop_at(pieces, step)
    assert resume(pieces).summary is not None
    assert_equal_runs(whole, pieces)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_stop_cleanly_and_resumably(
    number: signal.Signals, reference: MakeReference, tmp_path: Path
) -> None:
    root = tmp_path / "run"
    with live(tmp_path / "log", *tiny("reacher", root, "--mode", "sync")) as command:
        command.until_step(root, STEPS // 4)
        command.send(number)
        assert command.wait() == 1
        assert "Traceback" not in command.err
        assert f"prefrl resume {root}" in command.err.splitlines()[-1]
    assert 0 < len(stored_labels(root)) < LABELS
    assert "resumable" in prefrl("status", root).out
    assert prefrl("resume", root).code == 0
    assert_equal_runs(reference(), root)


@pytest.mark.slow
def test_ctrl_c_while_starting_leaves_no_traceback(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with live(tmp_path / "log", *tiny("reacher", root, "--mode", "sync"), loaded=False) as command:
        until((root / "config.json").exists, "the run's folder")
        command.send(signal.SIGINT, group=True)
        assert command.wait() != 0
        until(command.log.read_text, "a word on the screen")
        assert "Traceback" not in command.err
    assert prefrl("resume", root).code == 0
    assert label_counts(root) == (LABELS, LABELS)


# -- killed ---------------------------------------------------------------------------------------------------------


def kill_at_random(root: Path, log: Path, moments: random.Random, arguments: list[str]) -> bool:
    """Start a command, and kill it after a random part of what the whole run takes; whether it was still at work."""
    delay = moments.uniform(0.0, 1.5)
    print(f"killed {delay:.3f} s after the run's folder was there")
    before = stored_labels(root) if (root / "labels.sqlite").exists() else []
    fresh = arguments[0] == "resume"
    stamp = (root / "progress.json").stat().st_mtime_ns if (root / "progress.json").exists() else 0
    with live(log, *arguments) as command:
        if fresh:  # the clock runs from the first word of the resumed run
            until(
                lambda: command.ended() or ((root / "progress.json").stat().st_mtime_ns if stamp else 1) != stamp,
                "the run to go on",
            )
        else:
            until(lambda: command.ended() or (root / "config.json").exists(), "the run's folder")
        try:
            command.wait(delay)
        except subprocess.TimeoutExpired:
            command.send(signal.SIGKILL)
            assert command.wait() in {-signal.SIGKILL, 0}  # it may have been over in that very moment
    after = stored_labels(root) if (root / "labels.sqlite").exists() else []
    assert after[: len(before)] == before, "a committed label is gone"
    return not (root / "summary.json").exists()


def killed_until_finished(root: Path, tmp_path: Path, first: list[str], kills: int, seed: int) -> None:
    moments = random.Random(seed)
    print(f"random.Random({seed})")
    arguments = first
    for _ in range(kills):
        if not kill_at_random(root, tmp_path / "log", moments, arguments):
            break
        arguments = ["resume", str(root)]
    before = stored_labels(root) if (root / "labels.sqlite").exists() else []
    done = prefrl("resume", root)
    assert done.code == 0, done.err
    assert stored_labels(root)[: len(before)] == before


@pytest.mark.parametrize("algo", ["ppo", "a2c"])
def test_a_synchronous_run_killed_at_random_equals_an_uninterrupted_one(
    algo: str, reference: MakeReference, tmp_path: Path
) -> None:
    root, seed = tmp_path / "run", random.randrange(10**6)
    killed_until_finished(root, tmp_path, tiny("reacher", root, "--mode", "sync", "--algo", algo), 2, seed)
    assert_equal_runs(reference(algo), root)
    assert label_counts(root) == (LABELS, LABELS)


def test_an_asynchronous_run_killed_at_random_has_exactly_its_labels(tmp_path: Path) -> None:
    root, seed = tmp_path / "run", random.randrange(10**6)
    killed_until_finished(root, tmp_path, tiny("reacher", root, "--mode", "async"), 3, seed)
    assert label_counts(root) == (LABELS, LABELS)
    assert summary(root)["labels_answered"] == LABELS


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_many_kills_at_random(mode: str, reference: MakeReference, tmp_path: Path) -> None:
    for repetition in range(2):
        root, seed = tmp_path / f"run{repetition}", random.randrange(10**6)
        killed_until_finished(root, tmp_path, tiny("reacher", root, "--mode", mode), 4, seed)
        assert label_counts(root) == (LABELS, LABELS)
        if mode == "sync":
            assert_equal_runs(reference(), root)


def test_labels_that_are_newer_than_the_checkpoint_are_met_not_asked_again(
    reference: MakeReference, tmp_path: Path
) -> None:
    root = tmp_path / "run"
    create(root)
    stop_at(root, STEPS * 3 // 4)
    newest, before = checkpoints(root)[-1], stored_labels(root)
    assert len(checkpoints(root)) == 2
    newest.unlink()
    assert resume(root).summary is not None
    assert stored_labels(root)[: len(before)] == before
    assert_equal_runs(reference(), root)


# -- damaged --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", [truncate, flip, empty])
def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(
    damage: Callable[[Path], None], reference: MakeReference, tmp_path: Path
) -> None:
    root = tmp_path / "run"
    create(root)
    stop_at(root, STEPS * 3 // 4)
    newest = checkpoints(root)[-1]
    assert len(checkpoints(root)) == 2
    damage(newest)
    done = prefrl("resume", root)
    assert done.code == 0, done.err
    assert newest.name in done.err
    assert_equal_runs(reference(), root)


# -- finished -------------------------------------------------------------------------------------------------------


def assert_unchanged_by_resume(root: Path) -> None:
    before = content(root)
    done = prefrl("resume", root)
    assert done.code == 0
    assert "finished" in done.out
    assert content(root) == before


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_finished_run_resumed_changes_nothing_until_its_budget_is_raised(
    mode: str, reference: MakeReference, tmp_path: Path
) -> None:
    root = tmp_path / "run"
    if mode == "sync":
        shutil.copytree(reference(), root)
    else:
        assert prefrl(*tiny("reacher", root, "--mode", mode)).code == 0
    assert_unchanged_by_resume(root)
    labels, first = stored_labels(root), summary(root)
    done = prefrl("resume", root, "--labels", str(LABELS + 10), "--steps", str(STEPS + 1000))
    assert done.code == 0, done.err
    assert stored_labels(root)[:LABELS] == labels
    assert label_counts(root) == (LABELS + 10, LABELS + 10)
    now = summary(root)
    assert now["steps"] >= STEPS + 1000
    assert (now["labels_requested"], now["labels_answered"]) == (LABELS + 10, LABELS + 10)
    assert (root / f"summary-{first['steps']}.json").exists()
    steps = [int(row[0]) for row in figures(root)[1:]]
    assert steps == sorted(set(steps))
    assert_unchanged_by_resume(root)


def test_only_labels_raised_on_a_finished_run(reference: MakeReference, tmp_path: Path) -> None:
    root = tmp_path / "run"
    shutil.copytree(reference(), root)
    done = prefrl("resume", root, "--labels", str(LABELS + 5))
    assert done.code == 0, done.err
    assert label_counts(root) == (LABELS + 5, LABELS + 5)


@pytest.mark.parametrize(("flag", "value"), [("--labels", LABELS - 1), ("--steps", STEPS - 1)])
def test_a_budget_cannot_be_lowered(flag: str, value: int, reference: MakeReference) -> None:
    before = content(reference())
    assert "only be raised" in refused(prefrl("resume", reference(), flag, str(value)), 2)
    assert content(reference()) == before


# -- in use ---------------------------------------------------------------------------------------------------------


def test_a_run_that_is_in_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    root = tmp_path / "run"
    with live(tmp_path / "log", *tiny("reacher", root, "--mode", "sync", steps=200_000)) as command:
        command.until_step(root, 1000)
        assert "in use" in error_line(prefrl("resume", root))
        assert prefrl("resume", root).code == 2
        assert prefrl("resume", root, "--labels", str(LABELS + 1)).code == 2
        assert f'"labels": {LABELS},' in (root / "config.json").read_text()
        step = policy_step(root)
        command.until_step(root, step + 3000)
        command.send(signal.SIGINT)
        assert command.wait() == 1


def policy_step(root: Path) -> int:
    assert policy(root)
    return int(checkpoints(root)[-1].stem)


def test_history_is_only_appended_to(reference: MakeReference) -> None:
    with sqlite3.connect(reference() / "labels.sqlite") as connection:
        ids = [row[0] for row in connection.execute("SELECT id FROM answers ORDER BY id")]
        undone = connection.execute("SELECT count(*) FROM answers WHERE undoes IS NOT NULL").fetchone()[0]
    connection.close()
    assert ids == list(range(1, LABELS + 1))
    assert undone == 0
