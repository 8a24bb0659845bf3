"""Measure what human labels cost: the agent's steps per second with a person relative to an oracle.

Runs alternate and share schedule, labels and settings. The person is simulated by a process that uses the run like the
viewer does (it leases pairs, decodes both clips and stores one answer at a time) and answers at a steady rate by the
true reward. Rates are measured from the first round on, because before it the agent waits for the first labels.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from clip_viewer.session import Session
from prefrl.errors import PrefrlError, UsageError
from prefrl.experience.clips import ClipFolder
from prefrl.feedback.kinds.comparison import Judgement
from prefrl.feedback.leases import Lease
from prefrl.printable import printable
from prefrl.runs.directory import commit, version
from prefrl_benchmarks.cells import Cell, run_cell
from prefrl_benchmarks.measure.speed import steady_rate
from prefrl_benchmarks.results import last_words, machine

_POLL_SECONDS = 0.2


def measure(task: str, *, steps: int, labels: int, per_minute: float, alternations: int) -> dict[str, Any]:
    """Run the alternations.

    Args:
        task: Name of the task.
        steps: Agent steps of each run.
        labels: Labels of each run.
        per_minute: Labels that the person gives per minute.
        alternations: Number of runs of each kind.

    Returns:
        The summary of each run, and the ratios of their rates.

    Raises:
        PrefrlError: if a run fails.
        UsageError: if a run has fewer than two rounds.
    """
    # The agent must never wait for the person, because its speed is measured.
    oracle = Cell(task, steps=steps, labels=labels, settings={"queries.lead": labels})
    runs: dict[str, list[dict[str, Any]]] = {"oracle": [], "human": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(alternations):
            for teacher, done in runs.items():
                cell = replace(oracle, teacher=teacher, seed=seed)
                person = _start_person(folder / cell.name, per_minute) if teacher == "human" else None
                summary = run_cell(cell, folder)
                if person:
                    person.terminate()
                    person.wait()
                if summary is None:
                    raise PrefrlError(f"a run failed: {last_words(folder / f'{cell.name}.log')}")
                if (rate := steady_rate(folder / cell.name / "metrics.csv")) is None:
                    raise UsageError(f"--steps {steps} is too few for a second round")
                summary["steady_steps_per_second"] = rate
                done.append(summary)
                rate = summary["steady_steps_per_second"]
                print(printable(f"{seed + 1}/{alternations} {teacher}: {rate:.0f} steps/s"), flush=True)
    rates = {teacher: [run["steady_steps_per_second"] for run in done] for teacher, done in runs.items()}
    ratios = [human / oracle for human, oracle in zip(rates["human"], rates["oracle"], strict=True)]
    settings = {"task": task, "steps": steps, "labels": labels, "per_minute": per_minute}
    about = {"machine": machine(), "version": version(), "commit": commit()}
    return {"settings": settings} | about | {"ratios": ratios, "runs": runs}


def report_lines(result: dict[str, Any]) -> list[str]:
    """The ratios, and the number of labels given in each run."""
    ratios, people = result["ratios"], result["runs"]["human"]
    answered = ", ".join(str(run["labels_answered"]) for run in people)
    spread = f"({min(ratios):.3f} to {max(ratios):.3f})"
    return [f"a person over an oracle: {statistics.median(ratios):.3f} {spread} of its steps/s; labels: {answered}"]


def label_by_true_reward(root: Path, per_minute: float) -> None:
    """Answer a run's pairs at a steady rate until it is finished."""
    session: Session | None = None
    while session is None:
        with suppress(UsageError, PrefrlError):
            session = Session(root, "scripted")
        time.sleep(_POLL_SECONDS)
    due = time.monotonic()
    while not session.run.finished:
        for lease in session.leases(1):
            if session.load(lease) is None:
                continue
            time.sleep(max(0.0, due - time.monotonic()))
            due = max(due, time.monotonic() - 1) + 60 / per_minute
            with suppress(UsageError):  # the run may have finished
                session.answer(lease, better(session.clips, lease), 60 / per_minute)
        time.sleep(_POLL_SECONDS)
    session.close()


def better(clips: ClipFolder, lease: Lease) -> Judgement:
    """The clip with the higher true reward."""
    left, right = (clips.load(segment).true_rewards.sum() for segment in (lease.segments[0], lease.segments[1]))
    return Judgement.LEFT if left > right else Judgement.RIGHT


def _start_person(root: Path, per_minute: float) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", __name__, str(root), str(per_minute)], stderr=subprocess.DEVNULL)


if __name__ == "__main__":
    label_by_true_reward(Path(sys.argv[1]), float(sys.argv[2]))
