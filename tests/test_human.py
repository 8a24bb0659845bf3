"""People in the loop without a window: a scripted person answers through the queue like a viewer."""

import os
import subprocess
import sys
import threading
import time

import pytest
from prefrl_benchmarks.measure.people import better
from runs import error_line
from runs import prefrl as prefrl_cli

import prefrl
from prefrl.commands.wording import in_words
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.leases import LabelQueue
from prefrl.feedback.store import LabelStore
from prefrl.feedback.terms import Answer
from prefrl.recipes import resolve
from prefrl.rendering.clip_video import read_clip_video
from prefrl.runs.control import Control
from prefrl.runs.directory import RunDirectory

SMALL = {
    "agent.n_steps": 64,
    "agent.n_envs": 2,
    "agent.batch_size": 64,
    "round_steps": 128,
    "reward.pretrain_comparisons": 64,
    "reward.comparisons_per_step": 0.02,
    "agent.n_epochs": 1,
    "evaluation.episodes": 1,
}


class Person(threading.Thread):
    """Watches for pairs and prefers what the true reward prefers."""

    def __init__(self, root, *, until, pause=0.0):
        super().__init__(daemon=True)
        self.root, self.until, self.pause = root, until, pause
        self.shown = []

    def run(self):
        while not (self.root / "labels.sqlite").exists():
            time.sleep(0.05)
        time.sleep(0.2)
        store = LabelStore(self.root / "labels.sqlite")
        queue, clips = LabelQueue(store), ClipFolder(self.root / "clips")
        while len(self.shown) < self.until and not (self.root / "summary.json").exists():
            for lease in queue.lease("person"):
                for segment in (lease.segments[0], lease.segments[1]):
                    assert len(read_clip_video(clips.video(segment), 15)) == 15
                judgement = better(clips, lease)
                assert queue.answer(Answer(lease.query_id, judgement, "human", lease.agent_step, "ann", 0.1))
                self.shown.append((lease.query_id, judgement))
                time.sleep(self.pause)
            time.sleep(0.05)
        store.close()


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.slow
def test_an_agent_trains_from_a_person_s_answers(tmp_path, mode):
    root = tmp_path / "run"
    person = Person(root, until=12)
    person.start()
    run = prefrl.train("moving-dot", teacher="human", mode=mode, labels=12, steps=2000, out=root, settings=SMALL)
    person.join(timeout=10)
    assert run.summary["labels_answered"] == 12
    assert run.summary["teacher"] == "human"
    store = LabelStore(root / "labels.sqlite")
    said = dict(person.shown)
    assert {c.target for c in store.labels("comparison")} <= {0.0, 1.0}
    assert len(said) == store.counts()["answered"] == 12
    store.close()


def test_the_agent_waits_where_people_fall_too_far_behind_and_continues_by_itself(tmp_path):
    root = tmp_path / "run"
    seen = []
    control_states = lambda progress: seen.append(in_words(progress))  # noqa: E731
    person = Person(root, until=12, pause=0.15)
    person.start()
    settings = SMALL | {"queries.lead": 0}
    prefrl.train(
        "moving-dot", teacher="human", labels=12, steps=2000, out=root, settings=settings, report=control_states
    )
    assert any(state.startswith("waiting for") for state in seen)
    assert seen[-1] == "training"


@pytest.mark.parametrize("mode", ["async", "sync"])
@pytest.mark.slow
def test_a_run_finishes_with_the_labels_there_are_and_takes_more_later(tmp_path, mode):
    root = tmp_path / "run"
    person = Person(root, until=7)
    person.start()
    waits = []

    def report(progress):
        if progress.labels == 7 and in_words(progress).startswith("waiting for"):
            waits.append(prefrl_cli("labels", "finish", root).out)

    settings = SMALL | {"queries.lead": 0, "queries.initial_fraction": 0.5}
    run = prefrl.train(
        "moving-dot", teacher="human", mode=mode, labels=12, steps=2000, out=root, settings=settings, report=report
    )
    assert "7 labels" in waits[0]
    assert run.summary["labels_answered"] == 7
    assert run.summary["steps"] >= 2000
    person = Person(root, until=5)

    def begin(progress):
        if person.ident is None:
            person.start()  # not before: people stop where a run is finished

    again = prefrl.api.resume(root, labels=12, steps=3000, control=Control(report=begin))
    assert again.summary["labels_answered"] == 12
    assert again.summary["steps"] >= 3000


def test_a_machine_without_rendering_is_refused_at_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("MUJOCO_GL", "no-such-library")
    result = prefrl_cli(
        *("train", "hopper", "--teacher", "human", "--labels", "12", "--steps", "20000", "--out", tmp_path / "run"),
        *("--set", *(f"{key}={value}" for key, value in SMALL.items())),
    )
    assert result.code == 1
    assert "doctor" in error_line(result)
    assert "renderer:" in capfd.readouterr().err  # with the library's own reason


def test_people_have_the_time_that_they_need():
    config = resolve("hopper-backflip", teacher="human")
    assert config.steps == 10_000_000
    assert config.steps * config.reward.comparisons_per_step < 120 * config.queries.labels
    assert resolve("hopper-backflip").steps == 500_000
    assert resolve("moving-dot", teacher="human").steps == 200_000
    assert resolve("pong", teacher="human").steps == resolve("pong").steps


def test_people_get_the_engine_that_has_pictures():
    assert resolve("pong").native_engine
    assert not resolve("pong", teacher="human").native_engine


@pytest.mark.slow
def test_the_renderer_ends_with_the_run_and_can_be_killed(tmp_path):
    root = tmp_path / "run"
    words = [f"{key}={value}" for key, value in SMALL.items()]
    command = [sys.executable, "-m", "prefrl", "train", "moving-dot", "--teacher", "human", "--labels", "12"]
    command += ["--steps", "2000", "--out", str(root), "--set", *words]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while not (root / "labels.sqlite").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        while time.monotonic() < deadline:
            import psutil

            children = psutil.Process(process.pid).children()
            beside = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
            if any(child.nice() > os.nice(0) for child in beside):  # the renderer, once it has settled
                break
            time.sleep(0.1)
        for child in beside:
            if child.nice() > os.nice(0):
                child.kill()  # the renderer: it is started again
        person = Person(root, until=12)
        person.start()
        assert process.wait(timeout=120) == 0, process.stderr.read()
        assert len(person.shown) == 12
        assert "renderer died" in process.stderr.read()
    finally:
        process.kill()
        process.stderr.close()
    assert not any(child.is_running() for child in beside)


def test_a_run_of_people_can_be_looked_at_while_it_waits(tmp_path):
    root = tmp_path / "run"
    config = resolve("moving-dot", teacher="human", settings=SMALL | {"queries.labels": 12, "steps": 2000})
    run = RunDirectory.create(root, config)
    assert run.config.asks_people
    assert config.queries.lead == 10
    assert os.listdir(root / "clips") == []
