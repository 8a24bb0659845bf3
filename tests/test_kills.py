"""Processes killed at any time: no stored answer is lost or duplicated, and the run gets all its labels."""

from __future__ import annotations

import contextlib
import os
import random
import sqlite3
import subprocess
import time
from pathlib import Path

import labeller
import psutil
import pytest
from forking import Forked, fork
from person import standing
from runs import DEADLINE, environment, label_counts, learners, start, summary
from test_human import SMALL

from prefrl.runs.directory import RunDirectory

pytestmark = pytest.mark.slow

TESTS = str(Path(__file__).parent)
LABELS, STEPS = 60, 6000
KILLS = ["labeller"] * 6 + ["renderer"] * 2 + ["learner"] * 2 + ["training"] * 2
"""In each of the two runs."""


class Scene:
    """A run and its labeller, both started again whenever they are gone."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.said, self.log = root.with_suffix(".said"), root.with_suffix(".log")
        self.training: subprocess.Popen[str] | Forked | None = None
        self.labeller: Forked | None = None

    @property
    def finished(self) -> bool:
        return (self.root / "summary.json").exists()

    def tend(self) -> None:
        """Start what is not there."""
        if not self.finished and (self.training is None or self.training.poll() is not None):
            words = [f"{key}={value}" for key, value in (SMALL | {"checkpoint_seconds": 0.5}).items()]
            flags = ["--teacher", "human", "--labels", LABELS, "--steps", STEPS, "--out", self.root, "--set", *words]
            begun = (self.root / "config.json").exists()
            arguments = ["resume", self.root] if begun else ["train", "moving-dot", *flags]
            self.training = start(self.log, *map(str, arguments))
        ready = (self.root / "config.json").exists() and not self.finished
        if ready and (self.labeller is None or self.labeller.poll() is not None):
            variables = environment(PYTHONPATH=os.pathsep.join((TESTS, os.environ.get("PYTHONPATH", ""))))
            with self.said.open("ab") as said, self.log.open("ab") as log:
                self.labeller = fork([str(self.root), "ann"], variables, (said, log), labeller.__name__)
            assert self.labeller is not None

    def victims(self) -> dict[str, psutil.Process]:
        """What is at work now and can be killed."""
        found = {}
        with contextlib.suppress(psutil.Error):
            if self.labeller is not None and self.labeller.poll() is None:
                found["labeller"] = psutil.Process(self.labeller.pid)
            if self.training is not None and self.training.poll() is None:
                found["training"] = agent = psutil.Process(self.training.pid)
                for child in learners(agent.children()):
                    found["renderer" if child.nice() > agent.nice() else "learner"] = child
        return found

    def end(self) -> None:
        """Kill what is left."""
        for process in (self.training, self.labeller):
            if process is not None:
                for child in psutil.Process(process.pid).children() if process.poll() is None else []:
                    child.kill()
                process.kill()
                process.wait(DEADLINE)


def leases_end(root: Path, pid: int) -> float:
    """When the last lease of a labeller's process ends; 0 where it has none."""
    if not (root / "labels.sqlite").exists():
        return 0
    with contextlib.closing(sqlite3.connect(root / "labels.sqlite", timeout=30)) as connection:
        query = "SELECT coalesce(max(expires_at), 0) FROM leases WHERE viewer LIKE ?"
        return float(connection.execute(query, (f"%:{pid}:%",)).fetchone()[0])


@pytest.mark.parametrize("seed", [0, 1])
def test_no_answer_is_lost_whichever_process_is_killed(tmp_path: Path, seed: int) -> None:
    moments, scene = random.Random(seed), Scene(tmp_path / "run")
    to_kill = moments.sample(KILLS, len(KILLS))
    deadline = time.monotonic() + 5 * DEADLINE
    try:
        while not scene.finished:
            assert time.monotonic() < deadline, scene.log.read_text()
            scene.tend()
            time.sleep(moments.uniform(0.1, 0.8))
            if to_kill and (victim := scene.victims().get(to_kill[-1])) and not scene.finished:
                victim.kill()
                psutil.wait_procs([victim], DEADLINE)
                if to_kill.pop() == "labeller":
                    assert leases_end(scene.root, victim.pid) <= time.monotonic() + labeller.LEASE_SECONDS
        assert scene.training is not None
        assert scene.training.wait(DEADLINE) == 0, scene.log.read_text()
    finally:
        scene.end()
    assert not to_kill, f"finished before these were killed: {to_kill}"
    said = [tuple(line.split()) for line in scene.said.read_text().splitlines()]
    stored = [(str(query), str(left), judgement) for query, left, judgement in standing(scene.root)]
    assert len(set(said)) == len(said)
    assert set(said) <= set(stored)
    answers, queries = label_counts(scene.root)
    assert answers == queries  # none has two
    assert summary(scene.root)["labels_answered"] == LABELS  # repeats do not count towards the budget
    assert "Traceback" not in scene.log.read_text()
    RunDirectory.open(scene.root).lock().release()  # nobody is left at work on it
