"""A run that is stopped before its first labels are complete resumes with its recorded clips."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from runs import LABELS, SETTINGS, STEPS, assert_equal_runs, checkpoints, flip, live, prefrl, progress, tiny, until
from test_human import SMALL, Person

from prefrl.api import resume
from prefrl.commands.wording import in_words
from prefrl.feedback.label_history import read_labels
from prefrl.feedback.store import LabelStore
from prefrl.recipes import resolve
from prefrl.runs.control import Control
from prefrl.runs.directory import RunDirectory
from prefrl.storage.files import load_tree

RECORDING, PRETRAINING = "recording the first clips", "learning from the first labels"


def create(root: Path, task: str = "reacher", **settings: Any) -> RunDirectory:
    chosen = {name: float(value) if "." in value else int(value) for name, value in (s.split("=") for s in SETTINGS)}
    chosen |= {"steps": 2 * STEPS, "round_steps": 1024, "queries.labels": LABELS, "mode": "sync"} | settings
    return RunDirectory.create(root, resolve(task, settings=chosen))


def create_for_people(root: Path, **settings: Any) -> RunDirectory:
    chosen = SMALL | {"steps": 2000, "queries.labels": 12, "queries.initial_fraction": 0.5} | settings
    return RunDirectory.create(root, resolve("moving-dot", teacher="human", settings=chosen))


def stop_when(root: Path, state: str, times: int = 1) -> list[str]:
    """Go on with a run until it has said a state so many times; what it said."""
    said: list[str] = []
    control = Control()

    def report(now: dict[str, Any]) -> None:
        said.append(in_words(now))
        control.stop = sum(each.startswith(state) for each in said) >= times

    control.report = report
    assert resume(root, control=control).summary is None
    return said


def go_on(root: Path, **control: Any) -> list[str]:
    """Finish a run; what it said."""
    said: list[str] = []
    assert resume(root, control=Control(report=lambda now: said.append(in_words(now)), **control)).summary is not None
    return said


# -- exactly ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupts, whose untrained policy is recorded in several rollouts."""
    root = tmp_path_factory.mktemp("whole") / "run"
    create(root, **{"queries.initial_fraction": 1.0, "queries.labels": 160})
    go_on(root)
    return root


@pytest.mark.parametrize(
    ("state", "times"), [(RECORDING, 1), (RECORDING, 3), (PRETRAINING, 1), (PRETRAINING, 2)], ids=str
)
def test_a_run_that_is_stopped_before_it_trains_equals_an_uninterrupted_one(
    state: str, times: int, whole: Path, tmp_path: Path
) -> None:
    root = tmp_path / "run"
    create(root, **{"queries.initial_fraction": 1.0, "queries.labels": 160})
    stop_when(root, state, times)
    assert checkpoints(root) == []
    assert load_tree(root / "checkpoints" / "recording.safetensors")["env"]["recorder"]["recorded"] > 0
    assert (RECORDING in go_on(root)) == (state == RECORDING)
    assert_equal_runs(whole, root)


def test_a_run_that_records_once_and_is_stopped_again_and_again(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    create(root, **{"queries.initial_fraction": 1.0, "queries.labels": 160})
    for state in (RECORDING, RECORDING, PRETRAINING, PRETRAINING):
        stop_when(root, state)
    go_on(root)
    assert_equal_runs(whole, root)


# -- people -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.slow
def test_people_continue_with_the_clips_and_answers_there_are(mode: str, tmp_path: Path) -> None:
    root = tmp_path / "run"
    run = create_for_people(root, mode=mode)
    person = Person(root, until=2)
    person.start()
    control = Control()

    def report(now: dict[str, Any]) -> None:
        control.stop = now.labels >= 2

    control.report = report
    assert resume(root, control=control).summary is None
    person.join(timeout=20)
    store = LabelStore(run.labels)
    asked, answered = store.asked("comparison"), read_labels(store)
    assert store.counts()["pending"] == 4
    clips = {path.name: path.stat().st_mtime_ns for path in run.clips.glob("*.safetensors")}
    recorded = load_tree(run.saved.recording)["env"]["recorder"]
    step = progress(root)["step"]

    person = Person(root, until=10)
    person.start()
    said = go_on(root)
    person.join(timeout=20)
    assert RECORDING not in said
    assert said[0].startswith("waiting for ")
    assert read_labels(store)[: len(answered)] == answered
    assert asked <= store.asked("comparison")
    assert all((run.clips / name).stat().st_mtime_ns == at for name, at in clips.items())
    assert len([q for q in asked if max(q) < recorded["recorded"]]) == 6  # of the clips that were recorded first
    assert load_tree(checkpoints(root)[0])["env"]["recorder"]["recorded"] >= recorded["recorded"]
    assert step < 2000
    assert store.counts()["answered"] == 12
    assert not run.saved.recording.exists()
    store.close()


@pytest.mark.slow
def test_a_human_run_that_is_killed_while_people_label_records_nothing_again(tmp_path: Path) -> None:
    root = tmp_path / "run"
    settings = tuple(f"{name}={value}" for name, value in (SMALL | {"queries.initial_fraction": 0.5}).items())
    arguments = tiny("moving-dot", root, "--teacher", "human", "--labels", "12", settings=settings, steps=2000)
    with live(tmp_path / "log", *arguments) as command:
        command.until_state(root, "waiting for")
        store = LabelStore(root / "labels.sqlite")
        person = Person(root, until=2)
        person.start()
        until(lambda: store.counts()["answered"] == 2, "two answers")
        command.send(signal.SIGKILL, group=True)
        command.wait()
    person.join(timeout=20)
    assert checkpoints(root) == []
    person = Person(root, until=10)
    person.start()
    said = go_on(root)
    person.join(timeout=20)
    assert RECORDING not in said
    assert store.counts()["answered"] == 12
    store.close()


# -- what can be wrong ------------------------------------------------------------------------------------------------


def test_a_damaged_recording_is_reported_and_recorded_again(whole: Path, tmp_path: Path) -> None:
    root = tmp_path / "run"
    run = create(root, **{"queries.initial_fraction": 1.0, "queries.labels": 160})
    stop_when(root, PRETRAINING)
    flip(run.saved.recording)
    warned: list[str] = []
    assert RECORDING in go_on(root, warn=warned.append)
    assert len(warned) == 1
    assert "recording.safetensors is damaged" in warned[0]
    assert_equal_runs(whole, root)


def test_a_recording_of_something_else_stops_the_run_in_one_line(tmp_path: Path) -> None:
    from prefrl.storage.files import save_tree

    root = tmp_path / "run"
    run = create(root)
    stop_when(root, RECORDING)
    save_tree(run.saved.recording, {"env": {}, "agent": []})
    done = prefrl("resume", root)
    assert done.code == 1
    assert "recording.safetensors" in done.err
    assert "Traceback" not in done.err


def test_the_first_checkpoint_takes_its_place(finished: Path, tmp_path: Path) -> None:
    assert not (finished / "checkpoints" / "recording.safetensors").exists()
    root = tmp_path / "run"
    run = create(root)
    stop_when(root, PRETRAINING)
    assert run.saved.recording.exists()
    assert not run.begun
    shutil.copytree(root, tmp_path / "copy")
    assert json.loads(prefrl("status", tmp_path / "copy", "--json").out)["finished"] is False
    stop_when(root, "training", 2)
    assert not run.saved.recording.exists()
    assert run.begun


def test_where_simulators_cannot_be_saved_the_recorded_clips_stay(tmp_path: Path) -> None:
    root = tmp_path / "run"
    small = {"agent.n_envs": 2, "agent.n_steps": 64, "reward.pretrain_comparisons": 16, "reward.batch_size": 4}
    run = create(root, "pong", **{"steps": 600, "queries.labels": 4, "queries.initial_fraction": 0.75} | small)
    stop_when(root, PRETRAINING)
    recorded = load_tree(run.saved.recording)["env"]["recorder"]["recorded"]
    said = go_on(root)
    assert RECORDING not in said
    assert load_tree(checkpoints(root)[-1])["env"]["recorder"]["recorded"] > recorded
